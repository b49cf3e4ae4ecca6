"""The admin port as one application.

Rules:
1. `/livez` says that this process works; `/readyz` whether to send traffic to this router.
2. Nothing but the guard stands between the server and a handler: what streams is not held back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from router.control.service import Control
from router.web import metrics
from router.web.api import build_api
from router.web.auth import Guard, Token
from router.web.dashboard.site import Dashboard
from router.web.problems import on_bug, on_http_exception


def build_app(
    control: Control, *, tokens: Sequence[Token], read_token: str, dashboard: Dashboard | None = None
) -> Starlette:
    """The application for the admin port; a `dashboard` of its own shows what is, and keeps nothing over time."""
    dashboard = dashboard or Dashboard(control)

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        ready, why, missing = control.ready()
        body: dict[str, object] = {"status": "ready" if ready else "not ready", "reason": why}
        if request.scope["state"]["reader"]:
            body["missing"] = [asdict(version) for version in missing]
        return JSONResponse(body, 200 if ready else 503)

    async def show_metrics(request: Request) -> Response:
        readings = metrics.read(control)
        text, content_type = await asyncio.to_thread(metrics.render, readings, request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", show_metrics),
            *dashboard.routes(),
            Mount("/api/v1", build_api(control)),
        ],
        middleware=[Middleware(Guard, tokens=tokens, read_token=read_token)],
        exception_handlers={HTTPException: on_http_exception, Exception: on_bug},
    )
