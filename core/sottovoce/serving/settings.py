"""Settings of a service: where it listens, what it accepts, and who may call it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sottovoce.serving.keys import Keys


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a request and of the queue."""

    upload_bytes: int = 512_000_000
    """Largest body of a request in bytes."""
    audio_seconds: float = 7200.0
    """Longest audio in seconds."""
    waiting: int = 16
    """Requests that may wait for the model; further ones are refused."""
    running: int = 4
    """Requests that take turns in the model, one segment of speech each."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a service."""

    host: str = "127.0.0.1"
    port: int = 8000
    limits: Limits = Limits()
    keys: Keys = field(default_factory=Keys)
    page: bool = True
    """If true, the service has a page beside the API."""
    mcp: bool = False
    """If true, the page serves tools to MCP clients."""

    @property
    def is_local(self) -> bool:
        """If true, only this machine reaches the service."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")
