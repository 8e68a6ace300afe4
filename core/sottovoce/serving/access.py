"""Work around every request: the key is checked, the request is counted and logged."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from sottovoce.serving.api_errors import ApiError, as_api_error, error_response
from sottovoce.serving.uploads import limited, refuse_large

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sottovoce.serving.service import Service

_ROUTES = ("/v1/audio/transcriptions", "/v1/audio/alignments", "/v1/chat/completions", "/v1/models")
_STATUS = ("/health", "/metrics")
_MCP = "/gradio_api/mcp"
_log = logging.getLogger("sottovoce.serving")


class Access:
    """Application around another one: keys, counters and the log.

    Only names of routes are counted and logged: an address can hold the name of a caller's file.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from starlette.requests import Request

        route, status, begin = _route(scope["path"]), 0, time.perf_counter()

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if _needs_key(scope["path"]) and not self._service.settings.keys.admit(_headers(scope)):
                refusal = ApiError(
                    401, "the key is missing or wrong; send Authorization: Bearer KEY", code="invalid_api_key"
                )
                await error_response(refusal)(scope, receive, send_counted)
            elif _takes_json(scope["path"]):
                most = self._service.settings.limits.upload_bytes
                await refuse_large(Request(scope, receive), most)
                await self._app(scope, limited(Request(scope, receive), most).receive, send_counted)
            else:
                await self._app(scope, receive, send_counted)
        except Exception as error:
            # Here, before a server that would log the error with what it quotes of the request.
            if status:
                raise ApiError(500, "the response was cut off") from None
            _log.debug("a request failed", exc_info=error)
            await error_response(as_api_error(error))(scope, receive, send_counted)
        finally:
            seconds = time.perf_counter() - begin
            self._service.measures.count(route, status, seconds)
            if route != "page" and not (route in _STATUS and status < 400):
                _log.info("%s %s %d %.3f s", scope["method"], route, status, seconds)


def _needs_key(path: str) -> bool:
    """Return true for the API and the tools; the page asks for a key by itself."""
    return path.startswith(("/v1/", _MCP)) or path == "/metrics"


def _takes_json(path: str) -> bool:
    """Return true for what Gradio reads whole, without a limit; uploads have one of its own."""
    return path.startswith("/gradio_api/") and not path.startswith("/gradio_api/upload")


def _route(path: str) -> str:
    if path in _STATUS:
        return path
    known = next((route for route in _ROUTES if path == route or path.startswith(f"{route}/")), None)
    return known or ("other" if path.startswith("/v1/") else "mcp" if path.startswith(_MCP) else "page")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
