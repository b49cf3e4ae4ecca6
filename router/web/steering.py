"""`/api/v1/models/{model}/{action}` and `/api/v1/audit`: steering, and what became of it.

Rules:
1. A command is answered once it is in force and written; a rollback also where the store does not take it yet.
2. What does not apply is 409 with what there is; where the store cannot write it is 507, and nothing was changed.
3. Who may is settled before (`auth`): its token's name is the actor.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse

from router.control.helm import Done, NotApplicableError, UnknownCanaryError, Wish
from router.control.service import Control
from router.core.rollout_state import CommandName
from router.errors import RouterError
from router.store.base import StoreError
from router.web.canary_views import rollout_of
from router.web.problems import MEDIA_TYPE, problem
from router.web.schemas import ActionView, AuditView, ConflictDetails, HeadView, ProblemDetails, Wanted

Action = Literal["promote", "pause", "resume", "rollback", "readmit", "approve"]

ACTIONS: tuple[Action, ...] = get_args(Action)
MOST_ENTRIES = 1000


def _refusal(description: str, kind: type[ProblemDetails] = ProblemDetails) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"model": kind, "description": description, "content": {MEDIA_TYPE: {"schema": schema}}}


REFUSALS: dict[int | str, dict[str, Any]] = {
    404: _refusal("No such model, canary or region."),
    409: _refusal("It does not apply to what there is now, or something else came first.", ConflictDetails),
    422: _refusal("The request does not fit the API."),
    507: _refusal("The store cannot write; nothing was changed."),
}


def add_steering(api: FastAPI, control: Control) -> None:
    """Adds the routes to `api`."""

    @api.post("/models/{model}/{action}", operation_id="steer", responses=REFUSALS, response_model=ActionView)
    async def steer(
        request: Request,
        model: str,
        action: Annotated[Action, Path(description="What to do.")],
        wanted: Wanted | None = None,
    ) -> ActionView | JSONResponse:
        """Steers a canary; `rollback` always takes effect."""
        if model not in control.controller.models:
            return problem(404, f"no config names a model {model!r}")
        wish = _wish(model, action, wanted or Wanted.model_validate({}), request.scope["state"]["actor"])
        try:
            return _done(await control.helm.command(wish), action)
        except RouterError as error:
            return _refused(error)

    @api.get("/audit", operation_id="list_audit", responses={507: REFUSALS[507]}, response_model=AuditView)
    async def list_audit(
        model: Annotated[str | None, Query(description="Only of this model.")] = None,
        after: Annotated[int, Query(ge=0, description="Only entries with a sequence above this.")] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = MOST_ENTRIES,
    ) -> AuditView | JSONResponse:
        """Who changed what, when, why, and on what evidence."""
        try:
            records, head = await control.helm.recorder.trail(model, after, limit)
        except StoreError as error:
            return problem(507, f"the audit trail cannot be read: {error.message}")
        return AuditView(
            entries=[record.shown() for record in records], head=HeadView(sequence=head.sequence, hash=head.hash)
        )


def _wish(model: str, action: Action, wanted: Wanted, actor: str) -> Wish:
    name: CommandName = "promote_all" if action == "promote" and wanted.all else action
    return Wish(model, name, actor, wanted.reason, wanted.version or "", wanted.region or "", wanted.expect)


def _done(done: Done, action: Action) -> ActionView:
    rollout = rollout_of(done.canary)
    if rollout is None:
        raise NotApplicableError(f"`{action}` came second: the config has just changed", done.canary)
    sequence = done.record.sequence if done.record is not None else None
    return ActionView(
        model=done.canary.model,
        version=done.canary.version,
        action=action,
        sequence=sequence,
        recorded=sequence is not None,
        rollout=rollout,
    )


def _refused(error: RouterError) -> JSONResponse:
    if isinstance(error, UnknownCanaryError):
        return problem(404, error.message)
    if isinstance(error, NotApplicableError):
        canary = error.canary
        body = ConflictDetails(
            title="Conflict",
            status=409,
            detail=error.message,
            version=canary.version if canary is not None else None,
            rollout=rollout_of(canary),
        )
        return JSONResponse(body.model_dump(), 409, media_type=MEDIA_TYPE)
    if isinstance(error, StoreError):
        return problem(507, f"nothing was changed, for it cannot be written: {error.message}")
    raise error
