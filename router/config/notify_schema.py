"""What router.yaml may say under `notify`: whom to tell of what the router decided.

Rules:
1. A secret is never written into the file, only where it is found; a URL may be a secret, and then is found alike.
2. Each entry is told of every event, unless it names some.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from router.config.fields import NoSecret, described
from router.config.problems import quote
from router.config.schema import SecretRef

Kind = Literal["webhook", "slack"]
Event = Literal["rollback", "promotion", "approval", "inconclusive", "sample_ratio"]

KINDS: tuple[str, ...] = get_args(Kind)
EVENTS: tuple[str, ...] = get_args(Event)

_URL: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": r"^https?://[^\s/?#@\\]+([/?][^\s#\\]*)?$"},
        {"type": "object", "properties": {"env": {"type": "string"}, "file": {"type": "string"}}},
    ]
}


def check_notify_url(text: str) -> str:
    """The URL of a webhook; a query is part of it. It may be a secret, so that no message repeats it."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("a URL holds no spaces, backslashes or non-ASCII characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError("host or port of the URL cannot be read; a port is a number from 1 to 65535") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be an http or https URL, or {env: NAME} or {file: PATH} where it is found")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("the URL of a webhook holds no user, password or fragment")
    return text


def _place(value: object) -> object:
    return {"text": value} if isinstance(value, str) else value


def _one_of(*allowed: str) -> BeforeValidator:
    def check(value: object) -> object:
        if value not in allowed:
            shown = quote(value) if isinstance(value, str) else "that"
            raise ValueError(f"must be one of {', '.join(allowed)}, not {shown}")
        return value

    return BeforeValidator(check)


def _not_empty(events: tuple[str, ...]) -> tuple[str, ...]:
    if not events:
        raise ValueError("the list is empty; leave it out to be told of everything")
    return events


class UrlRef(BaseModel):
    """A webhook's URL, or where it is found: exactly one of the three."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Annotated[str, AfterValidator(check_notify_url)] | None = None
    env: str | None = None
    file: str | None = None


def _exactly_one(url: UrlRef) -> UrlRef:
    if sum(part is not None for part in (url.text, url.env, url.file)) != 1:
        raise ValueError("must be a URL, or exactly one of {env: NAME} and {file: PATH}")
    return url


def notify_from_text(text: str) -> Mapping[str, object]:
    """One entry as a variable has it: `KIND=URL`.

    Raises:
        ValueError: it is not written so.
    """
    kind, equals, url = text.partition("=")
    if not equals or kind not in KINDS:
        raise ValueError("whom to tell is written webhook=URL or slack=URL, several with commas between")
    return {"kind": kind, "url": url}


class Notify(BaseModel):
    """Whom to tell of what the router decided, and of what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[UrlRef, BeforeValidator(_place), AfterValidator(_exactly_one), described(_URL)] = Field(
        description="Where to POST to: a URL, or {env: NAME} or {file: PATH} where it is found."
    )
    kind: Annotated[Kind, _one_of(*KINDS)] = Field(
        "webhook", description="webhook (default): JSON about the event. slack: a message for a Slack-compatible hook."
    )
    secret: Annotated[SecretRef, NoSecret] | None = Field(
        None, description="Signs what is sent (HMAC-SHA256): {env: NAME} or {file: PATH}. Default: not signed."
    )
    on: Annotated[tuple[Annotated[Event, _one_of(*EVENTS)], ...], AfterValidator(_not_empty)] = Field(
        EVENTS,  # type: ignore[arg-type]  # get_args is typed as returning any objects
        description=f"Which events: of {', '.join(EVENTS)} (default all).",
    )
