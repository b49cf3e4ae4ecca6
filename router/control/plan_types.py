"""What a plan says: two repositories of configs, and what the difference does to traffic.

Rules:
1. Data only, complete enough for any way of showing it. Weights and shares are hundredths of a percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from router.config.problems import Problem
from router.control.power import Power
from router.control.splits import Movement
from router.gates.findings import Finding, failed


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning. `kind` is for programs; `region` is empty where it concerns all of them."""

    kind: str
    region: str
    message: str


@dataclass(frozen=True, slots=True)
class Live:
    """What a running router says: requests per second by model and region, and the rollbacks that hold, by model and
    version, each with its reason."""

    rates: Mapping[tuple[str, str], float] = field(default_factory=dict)
    rolled_back: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a config does not say. `rates` are requests per second by region, `""` for every other one; `live` is what
    a running router says, where one was asked."""

    rates: Mapping[str, float] = field(default_factory=dict)
    stable_error_rate: float = 0.005
    served: tuple[str, ...] | None = None
    live: Live | None = None

    def rate(self, model: str, region: str) -> float | None:
        """Requests per second of `model` in `region`, given or else observed; None where nobody knows."""
        given = self.rates.get(region, self.rates.get(""))
        if given is not None or self.live is None:
            return given
        return self.live.rates.get((model, region)) or None


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """One model in one region. Weights in hundredths of a percent; `before` or `after` is empty where it is not served.

    `ladder` has the weights that a rollout gives its `canary`, one after the other.
    """

    region: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    stable_before: str
    stable_after: str
    canary: str = ""
    ladder: tuple[int, ...] = ()
    movement: Movement = field(default_factory=Movement)
    power: tuple[Power, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything here is another split, other users or another model."""
        same = dict(self.before) == dict(self.after) and self.stable_before == self.stable_after
        return not same or bool(self.movement.moved) or bool(self.ladder)


@dataclass(frozen=True, slots=True)
class GateReport:
    """What the gates say of one version that comes in, beside `stable`. `problem` says why they could not be asked,
    `note` what was left for later."""

    version: str
    stable: str
    findings: tuple[Finding, ...] = ()
    problem: str = ""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything that was asked for was shown."""
        return not self.problem and not failed(self.findings)


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What changes for one model. `change` is added, removed or changed.

    `starts` and `stops` are versions that the router begins or ceases to load or to probe; `redefined` stand for
    another model than before under the same name. `settings` says what else is different, `notes` what to know.
    """

    model: str
    change: str
    owner: str
    regions: tuple[RegionPlan, ...] = ()
    starts: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    redefined: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[Warned, ...] = ()
    gates: tuple[GateReport, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """What a change does. `unchanged` counts the models it leaves alone; `problems` are those of the new configs."""

    models: tuple[ModelPlan, ...]
    unchanged: int
    problems: tuple[Problem, ...]

    @property
    def differs(self) -> bool:
        """Whether anything changes."""
        return bool(self.models)

    @property
    def warnings(self) -> int:
        """How many warnings there are."""
        return sum(len(model.warnings) for model in self.models)
