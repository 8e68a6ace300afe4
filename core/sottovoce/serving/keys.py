"""Keys of the API, from an environment variable."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass

from sottovoce.errors import UsageError

VARIABLE = "SOTTOVOCE_API_KEYS"
"""Environment variable with the keys, separated by commas; without it, no key is needed."""
SHORTEST = 8
"""Least characters of a key."""


@dataclass(frozen=True)
class Keys:
    """Keys that a caller may have; with none of them, everybody is let in."""

    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return only the number of keys: they must not reach a log."""
        return f"Keys({len(self.secrets)})"

    def __bool__(self) -> bool:
        return bool(self.secrets)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Keys:
        """Read the keys from :data:`VARIABLE`.

        Raises:
            UsageError: The variable is set and has no key in it, or one that is too short or not ASCII.
        """
        if (value := environment.get(VARIABLE)) is None:
            return cls()
        secrets = tuple(key.strip() for key in value.split(",") if key.strip())
        if not secrets or any(len(key) < SHORTEST or not key.isascii() for key in secrets):
            raise UsageError(
                f"{VARIABLE} must hold keys of at least {SHORTEST} ASCII characters, separated by commas; "
                f"unset it for a service without keys"
            )
        return cls(secrets)

    def accept(self, key: str) -> bool:
        """Return true for one of the keys; the time that this takes does not depend on the key."""
        given = key.encode("utf-8", "replace")
        # A list, not a generator: all keys are compared whichever of them fits.
        return any([hmac.compare_digest(given, secret.encode()) for secret in self.secrets])

    def admit(self, headers: Mapping[str, str]) -> bool:
        """Return true if a request's ``Authorization: Bearer`` or ``X-API-Key`` has a key, or none is needed."""
        if not self.secrets:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return self.accept(offered)
