"""What the API answers, as types: the OpenAPI document is made from them.

Rules:
1. Shares and weights are percentages of a region's traffic.
2. A field that does not apply is null; nothing is left out.
3. Credentials have no place here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

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


class GuardView(BaseModel):
    """Where one guard stands: `bad_*` of `n_*` requests since the start, `observed_*` rates since evidence spoke."""

    e: float = Field(description="Evidence; the guard fires at `threshold`.")
    threshold: float
    fired: bool
    observed_canary: float
    observed_stable: float
    bad_canary: int
    bad_stable: int
    n_canary: int
    n_stable: int
    note: str = ""


class VerdictView(BaseModel):
    """What the evidence says of a canary, in one sentence, and what is not there yet."""

    kind: Literal["pass", "fail", "inconclusive", "error"]
    guard: str = Field(description="The guard that decided; empty where none did.")
    reason: str
    missing: str


class RolloutView(BaseModel):
    """Where a canary stands. Weights set by hand are a rollout without steps, in the phase `idle`."""

    phase: Literal[
        "idle", "holding", "progressing", "awaiting_approval", "paused", "inconclusive", "rolled_back", "completed"
    ]
    step: int = Field(description="From 1; 0 before the first step, and without steps.")
    steps: int
    regions: list[str] = Field(description="The regions that the present step is in; empty without steps.")
    declared: Percentages = Field(description="The weight that is asked for, by region; a latch aside.")
    held: float = Field(description="Seconds of its hold that the step has served.")
    hold: float = Field(description="Seconds that the step holds at least.")
    countdown: float | None = Field(description="Seconds of the hold that are left; null where nothing is held.")
    requests: int = Field(description="Requests of the canary in this step.")
    min_requests: int
    missing: list[str] = Field(description="What the step must still see, evidence aside.")
    revision: int = Field(description="Rises with every change; a command may name it as `expect`.")
    reason: str = Field(description="Why the last change was.")
    pending: bool = Field(description="Whether a change is being written.")


class FindingView(BaseModel):
    """What one gate found."""

    gate: str = Field(description="Its path under `gates`.")
    passed: bool
    looked_at: str
    where: str
    found: str
    needed: str


class VersionView(BaseModel):
    """One version. `counts` are requests by outcome since control started; the rest is of canaries only."""

    state: Literal["ready", "warming", "unready", "gated", "rolled_back"]
    reason: str = Field("", description="Why it is in that state, or what is wrong with it.")
    counts: dict[str, int]
    resolved: dict[str, object] | None = Field(None, description="The pinned URI and its lineage; null when forwarded.")
    digest: str
    endpoints: list[EndpointView]
    evidence: dict[str, GuardView] = Field({}, description="By guard.")
    verdict: VerdictView | None = None
    gates: list[FindingView] = Field([], description="What the model's gates found; empty where none is asked.")
    rollout: RolloutView | None = None


class RegionView(BaseModel):
    """A model in one region."""

    stable: str
    declared: Percentages
    effective: Percentages
    observed: Percentages = Field(description="Of the last five minutes; empty where nothing was asked.")
    rate: float = Field(0.0, description="Requests per second over the last five minutes.")


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


class Wanted(BaseModel):
    """A command's details."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=1000, description="Why; kept in the audit trail.")
    version: str | None = Field(None, description="Which canary; needed where there are several.")
    region: str | None = Field(None, description="Only if the rollout is in this region now.")
    all: bool = Field(False, description="With `promote`: to the end of the rollout at once.")
    expect: int | None = Field(None, description="Only if `rollout.revision` is still this.")


class ActionView(BaseModel):
    """A command that is in force. `sequence` is its audit entry's; null where the store has not taken it yet."""

    model: str
    version: str
    action: str
    sequence: int | None
    recorded: bool
    rollout: RolloutView


class ConflictDetails(ProblemDetails):
    """A command that does not apply, and what there is instead."""

    version: str | None = None
    rollout: RolloutView | None = None


class HeadView(BaseModel):
    """The newest entry's place and hash: noted elsewhere, it proves that nothing up to there was changed."""

    sequence: int
    hash: str


class AuditView(BaseModel):
    """Entries of the audit trail, oldest first, each with `sequence`, `previous` and `hash`."""

    entries: list[dict[str, object]]
    head: HeadView
