"""Steering from the dashboard: what would happen is shown first, a reason is asked for, and then it is done.

Rules:
1. Only for operators who signed in: a form without the session's CSRF token changes nothing.
2. The form names the revision that was shown: where something else came first, nothing is done and the page says so.
3. Every change has a reason.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import parse_qsl

from starlette.requests import Request

from router.control.canary import Canary
from router.control.helm import Helm, NotApplicableError, UnknownCanaryError, Wish
from router.errors import RouterError
from router.store.base import StoreError
from router.web.dashboard.model import ACTIONS, Preview, previews

MOST_BODY = 16 * 1024
MOST_REASON = 1000
DONE = {
    "approve": "Approved.", "promote": "Promoted.", "resume": "Resumed.", "pause": "Paused.",
    "readmit": "Readmitted.", "rollback": "Rolled back: all its traffic is stable's again.",
}  # fmt: skip


class Viewer(Protocol):
    """Who looks; `csrf` is empty where nobody signed in."""

    @property
    def actor(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def csrf(self) -> str: ...


def may(viewer: Viewer) -> bool:
    """Whether `viewer` may change things from here."""
    return viewer.role == "operator" and bool(viewer.csrf)


async def form_of(request: Request) -> Mapping[str, str] | None:
    """The fields of a form; None where there are too many bytes of it."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            return None
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def is_ours(form: Mapping[str, str], viewer: Viewer) -> bool:
    """Rule 1."""
    return may(viewer) and hmac.compare_digest(form.get("csrf", "").encode(), viewer.csrf.encode())


def asked(canary: Canary, action: str, *, problem: str = "", reason: str = "") -> dict[str, Any]:
    """What the page that asks shows, for its template."""
    preview = next((one for one in previews(canary) if one.action == action), None)
    title = ACTIONS[preview.action][0] if preview is not None else action.capitalize()
    return {"canary": canary, "preview": preview, "title": title, "problem": problem, "reason": reason}


def wish_of(canary: Canary, preview: Preview, form: Mapping[str, str], actor: str) -> Wish | str:
    """What the form asks for; a sentence where it cannot be done like that."""
    reason = form.get("reason", "").strip()
    if not reason:
        return "Say why: the reason is kept in the audit trail."
    if len(reason) > MOST_REASON:
        return f"The reason is longer than {MOST_REASON} characters."
    expect = form.get("expect", "")
    if not expect.isdecimal() or len(expect) > 9:
        return "The form is incomplete: open the page again."
    # A rollback is always wanted, whatever came first.
    wanted = None if preview.action == "rollback" else int(expect)
    return Wish(canary.model, preview.action, actor, reason, canary.version, expect=wanted)


async def do(helm: Helm, wish: Wish) -> tuple[int, str]:
    """Does it; the status and a sentence, which is empty where it was done."""
    try:
        await helm.command(wish)
    except UnknownCanaryError as error:
        return 404, error.message
    except NotApplicableError as error:
        return 409, error.message
    except StoreError as error:
        return 507, f"Nothing was changed, for it cannot be written: {error.message}"
    except RouterError as error:
        return 500, error.message
    return 303, ""
