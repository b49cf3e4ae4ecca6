"""What a model's config means, once it was read and found right.

Rules:
1. Frozen, and complete: every default is filled in.
2. Weights are hundredths of a percent, durations seconds, sizes bytes, other percentages parts of one; text is read
   as operators write it.
3. This is the one place that says which keys there are: reading, JSON Schema and reference follow from it.
4. Shape only; what several fields mean together is judged in `checks`.
5. No I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from router.config.fields import (
    DEFAULT_REGION,
    BatchDelay,
    BatchRows,
    Buffer,
    Confidence,
    Count,
    CredentialHeader,
    Environment,
    ErrorRate,
    Fallback,
    FalseAlarm,
    Hold,
    Latency,
    Margin,
    MaxBody,
    Memory,
    ModelUri,
    Multiple,
    Name,
    NoSecret,
    OneLine,
    Paragraph,
    Patience,
    Points,
    Processes,
    RolloutRegions,
    SecretFile,
    StableByRegion,
    StepWeight,
    StickyCookie,
    StickyHeader,
    Switch,
    Timeout,
    UrlsByRegion,
    Variable,
    Weight,
    at_least_one_step,
)
from router.config.gates_schema import Gates
from router.config.scalars import ALL, parse_quantile
from router.config.serving import Serving

DEFAULT_TIMEOUT = 30.0
DEFAULT_MAX_BODY = 10 * 1024 * 1024
DEFAULT_BUFFER = 1024 * 1024
MAX_VERSIONS = 256
MAX_REGIONS = 256
MAX_STEPS = 100


def _one_of(*keys: str) -> dict[str, Any]:
    return {"oneOf": [{"required": [key]} for key in keys]}


def _default_attempt(values: Mapping[str, Any]) -> float:
    # Half of the time is for a second attempt; where there can be none, the only one has it all.
    timeout: float = values.get("timeout", DEFAULT_TIMEOUT)
    return timeout / 2 if values.get("idempotent") else timeout


def _within_max_body(values: Mapping[str, Any]) -> int:
    largest: int = values.get("max_body", DEFAULT_MAX_BODY)
    return min(DEFAULT_BUFFER, largest)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SecretRef(_Frozen):
    """Where a credential header's value comes from: exactly one of an environment variable or a file."""

    model_config = ConfigDict(json_schema_extra=_one_of("env", "file"))

    env: Variable | None = Field(
        None, description="Name of an environment variable of the router that holds the value."
    )
    file: SecretFile | None = Field(
        None, description="File that holds the value, read again when it changes; relative to the repository's folder."
    )


class Batching(_Frozen):
    """Requests that wait are predicted together."""

    max_rows: BatchRows = Field(64, description="At most so many rows are predicted together (default 64).")
    max_delay: BatchDelay = Field(
        0.0, description="How long the first waits for company while the model is free (default 0s, at most 1s)."
    )


class Version(_Frozen):
    """One version: exactly one of `model_uri` (load) and `upstreams` (forward; by region, `default` for the rest)."""

    model_config = ConfigDict(json_schema_extra=_one_of("model_uri", "upstreams"))

    model_uri: ModelUri | None = Field(
        None,
        description="LOAD: the router serves this MLflow model itself. models:/name/3, models:/name@alias, "
        "models:/m-id, runs:/id/path, or a path (relative to the repository's folder).",
    )
    upstreams: UrlsByRegion | None = Field(
        None,
        description="FORWARD: http or https URLs of servers that already run, with an optional base path; a list, or a "
        "map of lists by region with `default` for the rest.",
    )
    registered: ModelUri | None = Field(
        None, description="The registered model that a forwarded version is, for its lineage; forms as for model_uri."
    )
    headers: Mapping[CredentialHeader, Annotated[SecretRef, NoSecret]] = Field(
        {}, description="Credentials for the upstreams: header name to {env: NAME} or {file: PATH}."
    )
    upstream_model: Name | None = Field(None, description="What the upstream calls the model, if not by its name here.")
    batching: Batching | None = Field(
        None,
        description="For model_uri: requests that wait are predicted together, once the warm-up has shown that this "
        "changes no prediction (default: one by one).",
    )
    processes: Processes = Field(1, description="For model_uri: how many processes predict (default 1, at most 64).")
    memory: Memory | None = Field(
        None, description="For model_uri: what predictions may take in each process, beside the loaded model."
    )
    environment: Environment = Field(
        "current",
        description="For model_uri: current (default) uses the libraries of the router, isolated builds an environment "
        "from the model's requirements.",
    )

    @property
    def serving(self) -> Serving:
        """How a loaded version is to be served."""
        batching = self.batching or Batching(max_rows=1)
        return Serving(
            max_rows=batching.max_rows,
            max_delay=batching.max_delay,
            processes=self.processes,
            isolated=self.environment == "isolated",
            memory=self.memory or 0,
        )


class Stickiness(_Frozen):
    """Which request header or cookie holds the key; exactly one of the two."""

    model_config = ConfigDict(json_schema_extra=_one_of("header", "cookie"))

    header: StickyHeader | None = Field(None, description="Name of the request header that holds the key.")
    cookie: StickyCookie | None = Field(None, description="Name of the cookie that holds the key; it is only read.")


class ErrorsGuard(_Frozen):
    """Failures: how many the canary may have beside stable's."""

    at_most: Multiple = Field(1.0, description="Allowed rate, as a multiple of stable's (default 1x stable).")
    ignore_below: Points = Field(0.001, description="An increase smaller than this never rolls back (default 0.1pp).")


class RejectionsGuard(_Frozen):
    """Rejections (4xx): how many the canary may have beside stable's."""

    at_most: Multiple = Field(1.0, description="Allowed rate, as a multiple of stable's (default 1x stable).")
    ignore_below: Points = Field(0.01, description="An increase smaller than this never rolls back (default 1pp).")


class ErrorRateGuard(_Frozen):
    """Failures in absolute terms, also where no stable runs beside the canary."""

    max: ErrorRate = Field(0.2, description="Highest rate of failures that is tolerated at all (default 20%).")


class Guards(_Frozen):
    """The guards of a model, every one of them in force."""

    false_alarm: FalseAlarm = Field(
        0.001,
        description="Chance that a canary as good as stable is ever rolled back, however long it runs (default 0.1%).",
    )
    errors: ErrorsGuard = Field(ErrorsGuard(), description="Failures, compared with stable's.")
    rejections: RejectionsGuard = Field(RejectionsGuard(), description="Rejections (4xx), compared with stable's.")
    latency: Latency = Field(
        {"p95": 1.25},
        description="One quantile and how slow the canary may be there, as a multiple of stable's "
        "(default p95: 1.25x stable).",
    )
    error_rate: ErrorRateGuard = Field(ErrorRateGuard(), description="Failures, in absolute terms.")

    @property
    def latency_quantile(self) -> float:
        """The quantile at which latencies are compared: 0.95 for `p95`."""
        return parse_quantile(next(iter(self.latency)))

    @property
    def latency_at_most(self) -> float:
        """How many times as slow as stable the canary may be at that quantile."""
        return next(iter(self.latency.values()))


class Step(_Frozen):
    """One step of a rollout."""

    weight: StepWeight = Field(description="The canary's weight during this step, taken from stable's.")
    hold: Hold = Field(
        0.0, description="How long the step lasts at least before the next one is entered (default 0s, at most 1000h)."
    )
    approval: Switch = Field(False, description="Waits for `approve` before it enters the step (default false).")


class PromoteWhen(_Frozen):
    """The conditions of a promotion."""

    no_worse_than_stable_by: Margin = Field(
        0.005,
        description="A step above 25% needs proof that the canary's failure rate is not higher than stable's by this "
        "much (default 0.5pp).",
    )
    confidence: Confidence = Field(0.95, description="How sure that proof must be (default 95%).")
    min_requests: Count = Field(500, description="Requests of the canary that every step needs (default 500).")


class Rollout(_Frozen):
    """Lets the router raise a canary's weight by itself, instead of weights under `regions`."""

    canary: Name = Field(description="The version to roll out; stable nowhere, and with no weight under regions.")
    regions: RolloutRegions | None = Field(
        None,
        description="All steps in the first region, then all in the second; `default` stands for those not named. "
        "Absent: all regions at once.",
        max_length=MAX_REGIONS,
    )
    steps: Annotated[tuple[Step, ...], AfterValidator(at_least_one_step)] = Field(
        description="Each with more weight than the one before.",
        max_length=MAX_STEPS,
        json_schema_extra={"minItems": 1},
    )
    promote_when: PromoteWhen = Field(PromoteWhen(), description="What must be shown before the next step is entered.")
    inconclusive_after: Patience = Field(
        24 * 3600.0,
        description="A step that has shown too little for this long is reported; it goes on holding (default 24h).",
    )

    def stage_of(self, region: str) -> int | None:
        """Which in the order of regions `region` is, from 0; None where the rollout does not go."""
        if self.regions is None:
            return 0
        for name in (region, DEFAULT_REGION):
            if name in self.regions:
                return self.regions.index(name)
        return None


class ModelConfig(_Frozen):
    """One model's config. `versions` keeps the order of the file; `regions` maps region → version → weight."""

    model: Name = Field(description="The model's name; the same as the file's.")
    owner: OneLine = Field("", description="The team that answers for the model.")
    description: Paragraph = Field("", description="What the model is for.")
    versions: Mapping[Name, Version] = Field(
        description="Every version that may get traffic. The first canary in this order keeps its users when another "
        "one's weight changes.",
        min_length=1,
        max_length=MAX_VERSIONS,
    )
    stable: StableByRegion = Field(
        description="The version that takes what canaries may not have; also by region: {default: v3, eu-west: v4}."
    )
    regions: Mapping[Name, Mapping[Name, Weight]] = Field(
        {},
        description="Weights in percent by region and version, up to two decimals; each line sums to 100. `default` is "
        "for regions without a line of their own; without any, stable gets everything.",
        max_length=MAX_REGIONS,
    )
    stickiness: Stickiness | None = Field(
        None, description="The same key gets the same version. Absent, or no key in a request: an independent draw."
    )
    timeout: Timeout = Field(
        DEFAULT_TIMEOUT, description="Deadline of one prediction, all attempts together (default 30s, at most 24h)."
    )
    idempotent: Switch = Field(
        False, description="A prediction may be computed twice: allows retry and fallback (default false)."
    )
    attempt_timeout: Timeout = Field(
        default_factory=_default_attempt,
        description="Deadline of one attempt (default: half of timeout if idempotent, else all of it).",
    )
    fallback: Fallback = Field(
        False, description="A canary's failure is answered by stable (default none; needs idempotent: true)."
    )
    max_body: MaxBody = Field(DEFAULT_MAX_BODY, description="Largest request body (default 10MiB, at most 1024GiB).")
    buffer: Buffer = Field(
        default_factory=_within_max_body,
        description="Bodies up to this are held whole and can be sent again "
        "(default 1MiB, at most 64MiB and max_body).",
    )
    allow_override: Switch = Field(
        False, description="Requests may ask for one version with x-model-version (default false)."
    )

    guards: Guards = Field(Guards(), description="What rolls a canary back.")
    gates: Gates | None = Field(
        None, description="What a version must show before it may take production traffic (default: nothing)."
    )
    rollout: Rollout | None = Field(
        None, description="Lets the router raise a canary's weight by itself, step by step, as evidence allows."
    )

    def stable_in(self, region: str) -> str:
        """The stable version of `region`."""
        return self.stable.get(region) or self.stable[DEFAULT_REGION]

    def weights_in(self, region: str) -> Mapping[str, int]:
        """Declared weights of `region` in hundredths of a percent, summing to 10 000; 0 is left out or written."""
        return self.regions.get(region) or self.regions.get(DEFAULT_REGION) or {self.stable_in(region): ALL}

    def upstreams_in(self, version: str, region: str) -> tuple[str, ...]:
        """The URLs of a forwarded version in `region`; empty for a loaded one."""
        upstreams = self.versions[version].upstreams or {}
        return upstreams.get(region) or upstreams.get(DEFAULT_REGION) or ()


class RegionsFile(_Frozen):
    """The regions there are. With this file, a region that it does not name is an error in a model's config."""

    regions: tuple[Name, ...] = Field(
        description="Names of the regions. `default` need not be named.", min_length=1, max_length=MAX_REGIONS
    )
