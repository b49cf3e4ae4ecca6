"""The dashboard over a control made by hand, and who looks at it."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from starlette.applications import Starlette
from starlette.requests import Request

from router.web.app import build_app
from router.web.dashboard.site import Dashboard, Viewer
from tests.unit.web.conftest import Desk

OPERATOR = Viewer("alice", "operator", "c5rf", session=True)
VIEWER = Viewer("bob", "viewer", "c5rf", session=True)
NOBODY = Viewer()


@dataclass
class Browser:
    """Sends requests as `viewer`, whose session was checked before."""

    desk: Desk
    viewer: Viewer = OPERATOR

    def __post_init__(self) -> None:
        self.dashboard = Dashboard(self.desk.control, viewer_of=self._who)

    def _who(self, request: Request) -> Viewer:
        return self.viewer

    async def get(self, path: str) -> httpx.Response:
        """The answer to a GET, through the whole application."""
        app = build_app(self.desk.control, tokens=(), read_token="loopback", dashboard=self.dashboard)
        return await self._ask(app, "GET", path)

    async def post(self, path: str, **form: str) -> httpx.Response:
        """The answer to a form, past the guard."""
        return await self._ask(Starlette(routes=self.dashboard.routes()), "POST", path, form)

    async def _ask(self, app: object, method: str, path: str, form: dict[str, str] | None = None) -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))  # type: ignore[arg-type]  # any ASGI application
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, data=form)
