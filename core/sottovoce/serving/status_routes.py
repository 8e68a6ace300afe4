"""``GET /v1/models``, ``/health`` and ``/metrics``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sottovoce.serving.api_errors import ApiError
from sottovoce.serving.models import ServedModel

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from starlette.responses import Response

    from sottovoce.serving.service import Service


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the routes to an application."""
    from fastapi import Response

    created = int(time.time())

    def form(served: ServedModel) -> dict[str, Any]:
        return {"id": served.name, "object": "model", "created": created, "owned_by": "sottovoce"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the models that are loaded."""
        return {"object": "list", "data": [form(served) for served in service.models]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """Describe one model."""
        for served in service.models:
            if served.name == name:
                return form(served)
        raise ApiError(404, f"the model {name[:80]!r} is not loaded here", parameter="model", code="model_not_found")

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the service answers, and how much work waits."""
        waiting, running = service.worker.counts
        return {"status": "ok", "waiting": waiting, "running": running}

    async def metrics(_: Request) -> Response:
        """Return Prometheus' metrics."""
        return Response(service.measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_route("/metrics", metrics)
