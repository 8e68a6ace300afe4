"""Running of a service: its port, its server, and its end."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sottovoce.errors import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sottovoce.serving.settings import Settings

_PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
_PAGE_PACKAGES = {"gradio": "gradio"}
_MCP_PACKAGES = {"mcp": "'mcp<2'"}
_PATIENCE = 5
"""Seconds that requests have to end when the service is stopped."""


def require_packages(page: bool, mcp: bool = False) -> None:
    """Refuse to serve without the packages of the extras ``serve`` and ``mcp``.

    Raises:
        UsageError: Some are missing; names them.
    """
    needed = _PACKAGES | (_PAGE_PACKAGES if page else {}) | (_MCP_PACKAGES if mcp else {})
    if missing := [package for module, package in needed.items() if find_spec(module) is None]:
        extra = "mcp" if mcp else "serve"
        raise UsageError(f"sottovoce serve needs the extra '{extra}'; pip install {' '.join(missing)}")


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """Take the service's port; nothing is accepted on it before the server runs.

    Raises:
        UsageError: The port is in use, or the address is not one of this machine.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise UsageError(f"--host {settings.host}: is not an address of this machine ({error.strerror})") from None
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise UsageError(f"{where} cannot be used ({error.strerror}); give another --port") from None
        yield listener


def address_of(listener: socket.socket) -> str:
    """Return the URL of a service by its socket."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def serve(app: FastAPI, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve an application until the process is asked to end.

    Args:
        app: The application.
        listener: A bound socket.
        ready: Called once requests are accepted.
    """
    build_server(app, ready).run(sockets=[listener])


def build_server(app: FastAPI, ready: Callable[[], None] = lambda: None) -> Any:
    """Return uvicorn's server for an application; its ``should_exit`` ends it."""
    import uvicorn

    class Server(uvicorn.Server):
        """Server that ends with exit code 0 when it is asked to end."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Start, and tell that requests are accepted."""
            await super().startup(sockets)
            if self.started:
                ready()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Handle signals; uvicorn would raise them again at its end."""
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            numbers = (signal.SIGINT, signal.SIGTERM)
            earlier = {number: signal.signal(number, self.handle_exit) for number in numbers}
            try:
                yield
            finally:
                for number, handler in earlier.items():
                    signal.signal(number, handler)

    # Its access log has whole addresses in it, and those can hold names of files.
    return Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            log_level="error",
            server_header=False,
            timeout_graceful_shutdown=_PATIENCE,
            lifespan="on",
        )
    )
