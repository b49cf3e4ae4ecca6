"""The dashboard's addresses, and what runs behind them.

Rules:
1. A page can be read without a script; with one, its parts are sent anew when they change.
2. Changes are POSTs that carry the session's CSRF token; everything else only reads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from router.control.canary import Canary
from router.control.service import Control
from router.store.base import StoreError
from router.web.dashboard import actions, assets, audit, model, models, system
from router.web.dashboard.actions import DONE
from router.web.dashboard.changes import Changes
from router.web.dashboard.context import Context
from router.web.dashboard.figures import FINE_SECONDS, WINDOWS
from router.web.dashboard.live import Live, Parts
from router.web.dashboard.model import ACTIONS
from router.web.dashboard.rendering import Pages
from router.web.problems import problem

log = logging.getLogger(__name__)

STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff"}


MODEL_PARTS = ("head", "canaries", "versions", "rest")
AUDITED = ("config", "remove", "start", "promote", "approve", "ask", "inconclusive", "pause", "resume", "rollback",
           "readmit")  # fmt: skip
EXPORTS = {"csv": (audit.as_csv, "text/csv; charset=utf-8"), "json": (audit.as_json, "application/json")}


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks. `session`: signed in by a browser; `csrf` is then what its forms carry."""

    actor: str = ""
    role: str = ""
    csrf: str = ""
    session: bool = False


class Dashboard:
    """The pages of `control`. `start` begins what they need over time, `close` ends it and all streams."""

    def __init__(
        self, control: Control, registry: str = "", viewer_of: Callable[[Request], Viewer] | None = None
    ) -> None:
        self._viewer_of = viewer_of or _unnamed
        self._signs_in = viewer_of is not None
        self._control = control
        self._assets = assets.ASSETS
        self.context = Context(control, Changes(control.helm.recorder), registry)
        self.pages = Pages(self._assets, control.clock)
        self.live = Live(control.clock, self._decided)
        self._system_seen: dict[str, Any] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to keep what was counted, and to tell tabs."""
        works = (self._sample(), self._follow(), self._look_at_system(), self.live.work())
        self._tasks = [asyncio.create_task(work) for work in works]

    def close(self) -> None:
        """Ends everything."""
        self.live.close()
        for task in self._tasks:
            task.cancel()

    def routes(self) -> list[BaseRoute]:
        """Everything but the API."""
        return [
            Route("/", self._models),
            Route("/live/models", self._live_models),
            Route("/models/{model}", self._model),
            Route("/live/model/{model}", self._live_model),
            Route("/models/{model}/{action}", self._ask, methods=["GET", "POST"]),
            Route("/history", self._history),
            Route("/history.{form:str}", self._export),
            Route("/system", self._system),
            Route("/live/system", self._live_system),
            Route("/static/{hash}/{name:path}", self._static),
        ]

    def _decided(self) -> object:
        """Another value whenever something was decided: what tabs must hear of at once."""
        head = self._control.helm.recorder.head
        return (
            head.sequence if head is not None else 0,
            self._control.workers.snapshot.sequence,
            self._control.helm.recorder.outstanding,
            self._control.reloads.revision,
        )

    async def _sample(self) -> None:
        while True:
            self.context.history.sample(self._control.totals.tallies, self._control.clock.monotonic())
            await self._control.clock.sleep(FINE_SECONDS)

    async def _follow(self) -> None:
        while True:
            await self.context.changes.follow()
            await self._control.clock.sleep(0.5)

    async def _static(self, request: Request) -> Response:
        return assets.answer(request, self._assets)

    def shown(self, request: Request, here: str) -> dict[str, Any]:
        """What every page shows."""
        return {"here": here, "viewer": self._viewer_of(request), "session_links": self._signs_in}

    async def _models(self, request: Request) -> Response:
        asked = models.Asked.of(request.query_params)
        shown = {**self.shown(request, "Models"), **models.listing(self.context, asked)}
        return self.pages.page(request, "models.html", shown)

    async def _live_models(self, request: Request) -> Response:
        asked = models.Asked.of(request.query_params)
        return self._stream(
            f"models{asked.query()}",
            lambda: {"list": self.pages.part("models_list.html", models.listing(self.context, asked))},
        )

    async def _model(self, request: Request) -> Response:
        known = self._control.controller.models.get(request.path_params["model"])
        if known is None:
            return problem(404, f"no config names a model {request.path_params['model']!r}")
        window = _window(request)
        shown = {
            **self.shown(request, ""),
            "notice": DONE.get(request.query_params.get("done", ""), ""),
            **model.page(self.context, known, window),
        }
        return self.pages.page(request, "model.html", shown)

    async def _live_model(self, request: Request) -> Response:
        name, window = request.path_params["model"], _window(request)
        viewer = self.shown(request, "")["viewer"]

        def make() -> Parts:
            known = self._control.controller.models.get(name)
            if known is None:
                return {
                    "head": self.pages.part("gone.html", {"model": name}),
                    "canaries": "",
                    "versions": "",
                    "rest": "",
                }
            shown = {**model.page(self.context, known, window), "viewer": viewer}
            return {part: self.pages.part(f"model_{part}.html", shown) for part in MODEL_PARTS}

        if name not in self._control.controller.models:
            return problem(404, f"no config names a model {name!r}")
        return self._stream(f"model/{name}/{window}/{viewer.role}/{bool(viewer.csrf)}", make)

    async def _ask(self, request: Request) -> Response:
        model, action, viewer = request.path_params["model"], request.path_params["action"], self._viewer_of(request)
        canary = self._control.helm.steering.canaries(model).get(request.query_params.get("version", ""))
        if action not in ACTIONS or canary is None:
            return problem(404, f"there is no such canary of {model!r}, or nothing is called {action!r}")
        if not actions.may(viewer):
            return problem(403, "changes need a token with the role operator: sign in with one")
        if request.method == "GET":
            return self._asking(request, actions.asked(canary, action))
        form = await actions.form_of(request)
        if form is None or not actions.is_ours(form, viewer):
            return problem(403, "this form is not from this session: open the page again")
        return await self._do(request, canary, action, form, viewer.actor)

    def _asking(self, request: Request, shown: Mapping[str, Any], status: int = 200) -> Response:
        return self.pages.page(request, "ask.html", {**self.shown(request, ""), **shown}, status)

    async def _do(self, request: Request, canary: Canary, action: str, form: Mapping[str, str], actor: str) -> Response:
        shown = actions.asked(canary, action, reason=form.get("reason", ""))
        if shown["preview"] is None:
            return self._asking(request, shown, 409)
        wish = actions.wish_of(canary, shown["preview"], form, actor)
        status, said = (422, wish) if isinstance(wish, str) else await actions.do(self._control.helm, wish)
        if status != 303:
            return self._asking(request, actions.asked(canary, action, problem=said, reason=shown["reason"]), status)
        return RedirectResponse(f"/models/{quote(canary.model)}?done={action}", 303)

    async def _history(self, request: Request) -> Response:
        asked, trouble = audit.Asked.of(request.query_params), ""
        try:
            records, older = await audit.newest(self._control.helm.recorder, asked)
        except StoreError as error:
            records, older, trouble = [], 0, f"the audit trail cannot be read: {error.message}"
        shown = {"asked": asked, "records": records, "older": older, "problem": trouble, "actions": AUDITED}
        return self.pages.page(request, "history.html", {**self.shown(request, "History"), **shown})

    async def _export(self, request: Request) -> Response:
        form = request.path_params["form"]
        if form not in EXPORTS:
            return problem(404, "the history is exported as history.csv or history.json")
        write, kind = EXPORTS[form]
        try:
            records, _ = await audit.newest(
                self._control.helm.recorder,
                audit.Asked.of(request.query_params),
                most=audit.MOST_EXPORTED,
                depth=audit.MOST_EXPORTED,
            )
        except StoreError as error:
            return problem(507, f"the audit trail cannot be read: {error.message}")
        text = await asyncio.to_thread(write, records)
        return Response(text, media_type=kind, headers={
            "content-disposition": f'attachment; filename="history.{form}"', "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        })  # fmt: skip

    async def _system(self, request: Request) -> Response:
        self._system_seen = await system.page(self.context)
        return self.pages.page(request, "system.html", {**self.shown(request, "System"), **self._system_seen})

    async def _live_system(self, request: Request) -> Response:
        self._system_seen = self._system_seen or await system.page(self.context)
        return self._stream("system", lambda: {"system": self.pages.part("system_body.html", self._system_seen)})

    async def _look_at_system(self) -> None:
        """Memory is read from the disk's side of the kernel: beforehand, and only while somebody looks."""
        while True:
            if self.live.watches("system"):
                self._system_seen = await system.page(self.context)
            await self._control.clock.sleep(1.0)

    def _stream(self, key: str, make: Callable[[], Parts]) -> Response:
        if self.live.full:
            return problem(503, "too many tabs are open; this one is not kept up to date", {"retry-after": "60"})
        return StreamingResponse(self.live.follow(key, make), media_type="text/event-stream", headers=STREAM_HEADERS)


def _unnamed(request: Request) -> Viewer:
    """Where nobody can sign in, a token's name is all that is known."""
    return Viewer(request.scope["state"]["actor"])


def _window(request: Request) -> str:
    asked = request.query_params.get("window", "")
    return asked if asked in WINDOWS else "5m"
