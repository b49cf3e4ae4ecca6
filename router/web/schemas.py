"""What the API answers, as types: the OpenAPI document is made from them.

Rules:
1. Shares and weights are percentages of a region's traffic.
2. A field that does not apply is null; nothing is left out.
3. Credentials have no place here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Percentages = dict[str, float]


class ProblemView(BaseModel):
    """Something that is wrong with a model's config or with a version of it. Lines and columns count from 1."""

    file: str
    line: int | None = None
    column: int | None = None
    path: str = Field("", description="Where in the config, such as `versions.v4.model_uri`.")
    message: str


class ConfigView(BaseModel):
    """Which config is in force, and what is wrong with the one on disk."""

    revision: str = Field(description="Digest over all config files.")
    digest: str | None = Field(description="Digest of the model's config in force; null where it never had a good one.")
    problems: list[ProblemView]


class EndpointView(BaseModel):
    """One address requests are sent to."""

    address: str
    healthy: bool


class VersionView(BaseModel):
    """One version. `counts` are requests by outcome since control started."""

    state: Literal["ready", "warming", "unready", "gated", "rolled_back"]
    reason: str = Field("", description="Why it is in that state, or what is wrong with it.")
    counts: dict[str, int]
    resolved: dict[str, object] | None = Field(None, description="The pinned URI and its lineage; null when forwarded.")
    digest: str
    endpoints: list[EndpointView]


class RegionView(BaseModel):
    """A model in one region."""

    stable: str
    declared: Percentages
    effective: Percentages
    observed: Percentages = Field(description="Of the last five minutes; empty where nothing was asked.")


class ModelView(BaseModel):
    """A model. `stable` and the weights are those of `region`; null where several regions are served and none named,
    and where the model has no good config."""

    model: str
    owner: str
    description: str
    region: str | None
    stable: str | None
    declared: Percentages | None
    effective: Percentages | None
    observed: Percentages | None
    regions: dict[str, RegionView]
    versions: dict[str, VersionView]
    config: ConfigView


class ModelList(BaseModel):
    """All models, and what is wrong beyond a single one."""

    models: list[ModelView]
    revision: str
    problems: list[str]


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
