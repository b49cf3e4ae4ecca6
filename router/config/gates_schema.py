"""The `gates` of a model: what a version must show before it may take production traffic.

Rules:
1. Frozen, and complete: every default is filled in. Ages are seconds.
2. Whatever is not named here is not asked for; whatever is named and absent from the registry fails.
3. No I/O, no clock, no randomness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from router.config.fields import Count, Duration, Switch, described, within
from router.config.problems import one_of, quote

LINEAGE = ("git_commit", "dataset_digest", "dataset_hash", "run", "signature")
MAX_AGE = 10 * 366 * 24 * 3600.0
MAX_ENTRIES = 100


def _number(value: object) -> object:
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    try:
        number = float(str(value)) if isinstance(value, str) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in str(value):
        raise ValueError(f"must be a number such as 0.95, not {quote(str(value))}")
    return number


def _not_negative(number: float) -> float:
    if number < 0:
        raise ValueError("must be 0 or more: it is how much worse than stable is still accepted")
    return number


def _lineage(text: str) -> str:
    if text not in LINEAGE:
        raise ValueError(f"no lineage is called {quote(text)}{one_of(text, list(LINEAGE))}")
    return text


def _better(text: str) -> str:
    if text not in {"higher", "lower"}:
        raise ValueError(f"must be higher or lower, not {quote(text)}")
    return text


def _tag(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 250:
        raise ValueError("must be the name of a tag: one line of 1 to 250 characters")
    return text


def _distinct(entries: tuple[str, ...]) -> tuple[str, ...]:
    if not entries:
        raise ValueError("is empty; leave it out to ask for none")
    if len(set(entries)) != len(entries):
        raise ValueError("the same entry is here twice")
    return entries


def _tags_by_name(value: object) -> object:
    return dict.fromkeys(map(str, value), "") if isinstance(value, list | tuple) else value


_TEXT: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 250}
_NAMES: dict[str, Any] = {"type": "array", "items": _NAME, "minItems": 1, "uniqueItems": True}
_NUMBER: dict[str, Any] = {"type": "number"}

Number = Annotated[float, BeforeValidator(_number), described(_NUMBER)]
Worse = Annotated[float, BeforeValidator(_number), AfterValidator(_not_negative), described({**_NUMBER, "minimum": 0})]
Lineage = Annotated[str, AfterValidator(_lineage), described({"enum": list(LINEAGE)})]
Better = Annotated[str, AfterValidator(_better), described({"enum": ["higher", "lower"]})]
Tag = Annotated[str, AfterValidator(_tag), described(_NAME)]
Tags = Annotated[
    Mapping[Tag, str],
    BeforeValidator(_tags_by_name),
    described({"anyOf": [_NAMES, {"type": "object", "additionalProperties": _TEXT, "minProperties": 1}]}),
]
Names = Annotated[tuple[Tag, ...], AfterValidator(_distinct), Field(max_length=MAX_ENTRIES), described(_NAMES)]
Age = Annotated[Duration, within(0, MAX_AGE, "must be more than 0 and at most ten years", exclusive=True)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricGate(_Frozen):
    """One metric of the version's run, against fixed bounds and against stable's."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": [key]} for key in ("min", "max", "no_worse_than_stable_by")]}
    )

    name: Tag = Field(description="The metric's name, as the run logged it.")
    min: Number | None = Field(None, description="The least that is accepted.")
    max: Number | None = Field(None, description="The most that is accepted.")
    no_worse_than_stable_by: Worse | None = Field(
        None, description="How much worse than the same metric of the version that is stable now; 0 for not at all."
    )
    better: Better | None = Field(
        None, description="Whether higher or lower is better (default: lower where there is max alone, else higher)."
    )

    @property
    def lower_is_better(self) -> bool:
        """Which way is worse."""
        return self.better == "lower" or (self.better is None and self.max is not None and self.min is None)

    @model_validator(mode="after")
    def _asks_for_something(self) -> MetricGate:
        if self.min is None and self.max is None and self.no_worse_than_stable_by is None:
            raise ValueError("asks for nothing; give it min, max or no_worse_than_stable_by")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is more than max: no version could pass")
        return self


class Approvals(_Frozen):
    """Who has approved of the version, as a tag in the registry tells: names apart by commas."""

    tag: Tag = Field("approved_by", description="The tag that names who approved (default approved_by).")
    at_least: Count = Field(1, description="How many different people it needs (default 1).")
    not_by_author: Switch = Field(
        True, description="Whoever trained the version, or writes the change, does not count (default true)."
    )


class Gates(_Frozen):
    """What a version must show before it may take production traffic. What is absent from the registry fails."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    lineage: tuple[Lineage, ...] = Field(
        (),
        description="What must be known of its making: git_commit, dataset_digest, dataset_hash (a SHA-256 in the tag "
        "dataset_sha256), run, signature.",
        max_length=len(LINEAGE),
    )
    flavors: Names | None = Field(None, description="The MLflow flavors it may have, such as sklearn.")
    metrics: tuple[MetricGate, ...] = Field(
        (), description="Metrics of its run, each with what is accepted.", max_length=MAX_ENTRIES
    )
    same_as_stable: Names | None = Field(
        None,
        description="Tags whose value it must share with the version that is stable now, such as the hash of "
        "preprocessing.",
    )
    tags: Tags | None = Field(
        None, description="Tags that it must have: a list of names, or a map from name to the value that is needed."
    )
    approvals: Approvals | None = Field(None, description="Who must have approved of it.")
    max_age: Age | None = Field(None, description="How old it may be at most, such as 2160h.")
    smoke: Switch = Field(
        False, description="The version as it is served must answer the model's own input example (default false)."
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Gates:
        asked = (self.lineage, self.flavors, self.metrics, self.same_as_stable, self.tags, self.approvals,
                 self.max_age, self.smoke)  # fmt: skip
        if not any(asked):
            raise ValueError("asks for nothing; name a gate, or leave it out")
        return self

    @property
    def compares(self) -> bool:
        """Whether the version that is stable now is looked at, too."""
        beside = any(metric.no_worse_than_stable_by is not None for metric in self.metrics)
        return beside or bool(self.same_as_stable)
