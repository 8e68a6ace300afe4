"""The application: routes of the API, and the page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import sottovoce
from sottovoce.serving import alignment_route, chat_route, status_routes, transcription_route
from sottovoce.serving.access import Access
from sottovoce.serving.api_errors import ApiError, answer_error
from sottovoce.serving.service import Service

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from starlette.responses import Response

    from sottovoce.serving.models import ServedModels
    from sottovoce.serving.settings import Settings


def build_app(models: ServedModels, settings: Settings) -> FastAPI:
    """Return the application that serves models; its work ends with it."""
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException

    service = Service(models, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # FastAPI's own page of documentation asks another host for its scripts.
    app = FastAPI(
        title="Sottovoce",
        version=sottovoce.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    app.add_exception_handler(HTTPException, answer_error)
    status_routes.add_routes(app, service)
    for module in (transcription_route, alignment_route, chat_route):
        module.add_route(app, service)

    methods: dict[str, set[str]] = {}
    for route in app.routes:
        methods.setdefault(getattr(route, "path", ""), set()).update(getattr(route, "methods", None) or ())

    async def unknown(request: Request) -> Response:
        """Answer an unknown address as the API does: the page takes all others."""
        if allowed := methods.get(request.url.path):
            raise ApiError(405, f"this address does not take {request.method}", allowed=allowed)
        raise ApiError(404, f"there is no address {request.url.path[:80]}")

    app.add_route("/v1/{path:path}", unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    if settings.page:
        from sottovoce.serving.page.mount import mount_page

        app = mount_page(app, service)
    app.add_middleware(Access, service=service)
    return app
