"""The types of config fields: how text becomes a value, and how an editor's JSON Schema describes it.

Rules:
1. Text is read as operators write it (`10%`, `2s`, `10MiB`, `true`); a value that is not text is taken to be in the
   unit that code uses (hundredths of a percent, seconds, bytes). So what was dumped can be read again.
2. A field's JSON Schema describes what an editor's YAML parser sees: `10` is a number there, `10%` a string.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from router.config import names, scalars, uris
from router.config.problems import quote

T = TypeVar("T")

DEFAULT_REGION = "default"
MAX_TIMEOUT = 24 * 3600.0
MAX_BODY = 1024**4
MAX_BUFFER = 64 * 1024**2
MAX_HOLD = 1000 * 3600.0
MAX_FALSE_ALARM = 0.1
MAX_BATCH_ROWS = 65_536
MAX_BATCH_DELAY = 1.0
MAX_PROCESSES = 64
MIN_MEMORY = 16 * 1024**2
ENVIRONMENTS = ("current", "isolated")


def _from_text(parse: Callable[[str], object]) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def parse_switch(text: str) -> bool:
    """`true` or `false`, and nothing else that means the same elsewhere."""
    if text not in {"true", "false"}:
        raise ValueError(f"must be true or false, not {quote(text)}")
    return text == "true"


def parse_fallback(text: str) -> bool:
    """`stable`, the only one that can stand in."""
    if text != "stable":
        raise ValueError("can only be 'stable'; leave it out for no fallback")
    return True


def _environment(text: str) -> str:
    if text not in ENVIRONMENTS:
        raise ValueError(f"must be current or isolated, not {quote(text)}")
    return text


def _some_memory(size: int) -> int:
    if size < MIN_MEMORY:
        raise ValueError("is less than 16MiB; leave it out for no limit")
    return size


def _one_line(text: str) -> str:
    if "\n" in text or len(text) > 256:
        raise ValueError("must be one line of at most 256 characters")
    return text


def _by_region(value: object) -> object:
    return {DEFAULT_REGION: value} if isinstance(value, str) else value


def _urls_by_region(value: object) -> object:
    if isinstance(value, str):
        raise ValueError("must be a list of URLs, [http://…], or a map of such lists by region")  # noqa: TRY004 - pydantic collects ValueError only
    return {DEFAULT_REGION: value} if isinstance(value, list | tuple) else value


def _distinct(urls: tuple[str, ...]) -> tuple[str, ...]:
    if not urls:
        raise ValueError("the list is empty; a version needs at least one URL")
    if len(set(urls)) != len(urls):
        raise ValueError("the same URL is here twice")
    return urls


def _no_secret(value: object) -> object:
    if isinstance(value, str):
        raise ValueError("a credential is never written into a config; write {env: NAME} or {file: PATH}")  # noqa: TRY004 - pydantic collects ValueError only
    return value


def root_of(info: ValidationInfo) -> Path | None:
    """The folder that relative paths start at; None where what is validated comes from no repository."""
    context = info.context
    return context.get("root") if isinstance(context, Mapping) else None


def _uri(text: str, info: ValidationInfo) -> str:
    return uris.anchored(uris.check_uri(text), root_of(info))


def _secret_file(text: str, info: ValidationInfo) -> str:
    if not text or not text.isprintable():
        raise ValueError("must be the path of a file that holds the value")
    return uris.anchored(text, root_of(info))


def _positive(seconds: float) -> float:
    if not 0 < seconds <= MAX_TIMEOUT:
        raise ValueError("must be more than 0 and at most 24h")
    return seconds


def _some_body(size: int) -> int:
    """nginx takes 0 for no limit: whoever means that must not get a router that refuses every prediction."""
    if not size:
        raise ValueError("must be more than 0, which no prediction would fit into; the most is 1024GiB")
    return size


def at_most(limit: int, text: str) -> AfterValidator:
    """Refuses sizes above `limit` bytes, which operators write as `text`."""

    def check(size: int) -> int:
        if size > limit:
            raise ValueError(f"is more than {text}")
        return size

    return AfterValidator(check)


def within(least: float, most: float, message: str, *, exclusive: bool = False) -> AfterValidator:
    """Refuses values outside `least` (itself refused if `exclusive`) to `most` with `message`."""

    def check(value: float) -> float:
        if not least <= value <= most or (exclusive and value == least):
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _quantile(text: str) -> str:
    scalars.parse_quantile(text)
    return text


def _one_quantile(latency: Mapping[str, float]) -> Mapping[str, float]:
    if len(latency) != 1:
        raise ValueError("needs exactly one quantile, such as p95")
    return latency


def _at_least_one(regions: tuple[str, ...]) -> tuple[str, ...]:
    if not regions:
        raise ValueError("the list is empty; leave it out for all regions at once")
    return regions


def at_least_one_step(steps: tuple[T, ...]) -> tuple[T, ...]:
    """Refuses a rollout without steps; asked only once every step by itself is right."""
    if not steps:
        raise ValueError("is empty; it needs at least one step")
    return steps


def described(kind: dict[str, Any]) -> WithJsonSchema:
    """The JSON Schema `kind` for a field's type."""
    return WithJsonSchema(kind, mode="validation")


_NAME: dict[str, Any] = {"type": ["string", "number"], "pattern": names.NAME_PATTERN}
_PERCENTAGE: dict[str, Any] = {
    "anyOf": [{"type": "number", "minimum": 1, "maximum": 100}, {"type": "string", "pattern": scalars.CHANCE_PATTERN}]
}
_POINTS: dict[str, Any] = {"type": "string", "pattern": scalars.POINTS_PATTERN}
_MULTIPLE: dict[str, Any] = {"type": "string", "pattern": scalars.MULTIPLE_PATTERN}
_URL: dict[str, Any] = {"type": "string", "pattern": names.URL_PATTERN}
_URLS: dict[str, Any] = {"type": "array", "items": _URL, "minItems": 1, "uniqueItems": True}

Name = Annotated[str, AfterValidator(names.check_name), described(_NAME)]
OneLine = Annotated[str, AfterValidator(_one_line), described({"type": ["string", "number"], "maxLength": 256})]
Paragraph = Annotated[str, described({"type": ["string", "number", "boolean"]})]
Weight = Annotated[
    int,
    _from_text(scalars.parse_weight),
    described(
        {
            "anyOf": [
                {"type": "number", "minimum": 1, "maximum": 100},
                {"const": 0},
                {"type": "string", "pattern": scalars.WEIGHT_PATTERN},
            ]
        }
    ),
]
Duration = Annotated[
    float,
    _from_text(scalars.parse_duration),
    described({"anyOf": [{"type": "string", "pattern": scalars.DURATION_PATTERN}, {"const": 0}]}),
]
Size = Annotated[
    int,
    _from_text(scalars.parse_size),
    described({"anyOf": [{"type": "string", "pattern": scalars.SIZE_PATTERN}, {"const": 0}]}),
]
Timeout = Annotated[Duration, AfterValidator(_positive)]
MaxBody = Annotated[Size, AfterValidator(_some_body), at_most(MAX_BODY, "1024GiB")]
Buffer = Annotated[Size, at_most(MAX_BUFFER, "64MiB: it is memory, for each request under way")]
Switch = Annotated[
    bool, _from_text(parse_switch), described({"type": ["boolean", "string"], "pattern": "^(true|false)$"})
]
Fallback = Annotated[bool, _from_text(parse_fallback), described({"const": "stable"})]
ModelUri = Annotated[str, AfterValidator(_uri), described({"type": "string", "minLength": 1})]
Url = Annotated[str, AfterValidator(names.check_url), described(_URL)]
UrlsByRegion = Annotated[
    Mapping[Name, Annotated[tuple[Url, ...], AfterValidator(_distinct)]],
    BeforeValidator(_urls_by_region),
    described({"anyOf": [_URLS, {"type": "object", "additionalProperties": _URLS, "propertyNames": _NAME}]}),
]
StableByRegion = Annotated[
    Mapping[Name, Name],
    BeforeValidator(_by_region),
    described(
        {
            "anyOf": [
                _NAME,
                {
                    "type": "object",
                    "additionalProperties": _NAME,
                    "propertyNames": _NAME,
                    "required": [DEFAULT_REGION],
                },
            ]
        }
    ),
]
CredentialHeader = Annotated[str, AfterValidator(names.check_credential_header)]
StickyHeader = Annotated[
    str, AfterValidator(names.check_sticky_header), described({"type": "string", "pattern": names.TOKEN_PATTERN})
]
StickyCookie = Annotated[
    str, AfterValidator(names.check_token), described({"type": "string", "pattern": names.TOKEN_PATTERN})
]
Variable = Annotated[
    str, AfterValidator(names.check_variable), described({"type": "string", "pattern": names.VARIABLE_PATTERN})
]
SecretFile = Annotated[str, AfterValidator(_secret_file), described({"type": "string", "minLength": 1})]
NoSecret = BeforeValidator(_no_secret)

Chance = Annotated[float, _from_text(scalars.parse_chance), described(_PERCENTAGE)]
FalseAlarm = Annotated[Chance, within(0, MAX_FALSE_ALARM, "must be more than 0% and at most 10%", exclusive=True)]
ErrorRate = Annotated[
    Chance, within(0.0001, 0.9999, "must be from 0.01% to 99.99%; a canary that may always fail needs no guard")
]
Confidence = Annotated[Chance, within(0.5, 0.9999, "must be from 50% to 99.99%; certainty is never reached")]
Points = Annotated[float, _from_text(scalars.parse_points), described(_POINTS)]
Margin = Annotated[
    Points,
    within(0, 0.5, "must be more than 0pp and at most 50pp: no number of requests proves equality", exclusive=True),
]
Multiple = Annotated[float, _from_text(scalars.parse_multiple), described(_MULTIPLE)]
Count = Annotated[
    int,
    _from_text(scalars.parse_count),
    described({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": scalars.COUNT_PATTERN}]}),
]
BatchRows = Annotated[Count, within(1, MAX_BATCH_ROWS, "must be from 1 to 65536")]
BatchDelay = Annotated[Duration, within(0, MAX_BATCH_DELAY, "is more than 1s")]
Processes = Annotated[Count, within(1, MAX_PROCESSES, "must be from 1 to 64")]
Memory = Annotated[Size, AfterValidator(_some_memory)]
Environment = Annotated[str, AfterValidator(_environment), described({"enum": list(ENVIRONMENTS)})]
Latency = Annotated[
    Mapping[Annotated[str, AfterValidator(_quantile)], Multiple],
    AfterValidator(_one_quantile),
    described(
        {
            "type": "object",
            "propertyNames": {"pattern": scalars.QUANTILE_PATTERN},
            "additionalProperties": _MULTIPLE,
            "minProperties": 1,
            "maxProperties": 1,
        }
    ),
]
StepWeight = Annotated[Weight, within(1, scalars.ALL, "must be more than 0%")]
Hold = Annotated[Duration, within(0, MAX_HOLD, "is more than 1000h")]
Patience = Annotated[Duration, within(0, MAX_HOLD, "must be more than 0 and at most 1000h", exclusive=True)]
RolloutRegions = Annotated[
    tuple[Name, ...],
    AfterValidator(_at_least_one),
    described({"type": "array", "items": _NAME, "minItems": 1, "uniqueItems": True}),
]
