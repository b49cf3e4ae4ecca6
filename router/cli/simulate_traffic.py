"""Synthetic traffic beside a canary, and what its guards and its rollout make of it.

Rules:
1. What judges is the code that judges in production: `CanaryEvidence`, `assess` and `decide`. Nothing is judged here.
2. Bad events are drawn one by one; how many good requests lie between them is drawn as a count. Each of the canary's is
   judged at once, and each failure; what is only slow or rejected at stable fires nothing, and comes with the next one.
3. Approvals that a rollout asks for are given at once: the guards alone stand between a bad version and everybody.
4. A run follows from its seed. Times are seconds, rates fractions, weights hundredths of a percent.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from math import inf, log, log1p, sqrt
from random import Random
from statistics import NormalDist
from typing import Literal

from router.core.analysis import Verdict, assess
from router.core.guards import CanaryEvidence, GuardLimits, Subject
from router.core.outcome import FAILURE, REJECTION, SLOW, Arm, ArmBatch, BadEvent
from router.core.plan import Plan
from router.core.rollout import begin, decide, declared_weight
from router.core.rollout_state import Command, Decision, RolloutState, Tick

TICK = 60.0
SPREAD = 0.5
"""The lognormal σ of latencies."""

End = Literal["rolled back", "passed", "held"]
_DIGEST = "simulated"


@dataclass(frozen=True)
class Arms:
    """The shares of one version's requests that fail, are rejected, or are slow and nothing worse."""

    failure: float = 0.0
    rejection: float = 0.0
    slow: float = 0.0

    @property
    def bad(self) -> float:
        """The share of bad requests."""
        return self.failure + self.rejection + self.slow


@dataclass(frozen=True)
class Users:
    """Sticky traffic: `regular` users, and `failing` ones who always fail and ask every `every` seconds."""

    regular: int = 10_000
    failing: int = 0
    every: float = 60.0


@dataclass(frozen=True)
class Setting:
    """One model, as its config judges a canary, and the traffic it gets. The canary is bad from `onset` on."""

    plan: Plan
    region: str
    limits: GuardLimits
    tolerance: float
    confidence: float
    rps: float
    duration: float
    stable: Arms
    canary: Arms
    onset: float = 0.0
    users: Users | None = None

    @property
    def alone(self) -> bool:
        """Whether no stable runs beside the canary."""
        return not self.plan.automatic and self.plan.by_hand.get(self.region, 0) >= 10_000

    @property
    def good(self) -> Setting:
        """The same with a canary as good as stable."""
        rest = 1.0 - self.stable.failure - self.stable.rejection
        slow = rest * slow_share(self.limits, 1.0) if self.stable.slow else 0.0
        return replace(self, canary=replace(self.stable, slow=slow), onset=0.0)


@dataclass(frozen=True)
class Ended:
    """How a run ended: by which guard, "" where none fired; `requests` of the canary and `seconds` since the onset.

    `early`: before the onset.
    """

    end: End
    guard: str
    requests: int
    seconds: float
    early: bool


def slow_share(limits: GuardLimits, times: float) -> float:
    """The share of slow requests of a canary whose every latency is `times` stable's."""
    normal = NormalDist()
    return 1.0 - normal.cdf(normal.inv_cdf(limits.latency_quantile) + log(limits.latency_at_most / times) / SPREAD)


def run(setting: Setting, seed: str) -> Ended:
    """One run of `setting`."""
    return _Run(setting, Random(seed)).play()  # noqa: S311 - a simulation has to be repeatable


class _Run:
    """A rollout under way in simulated time."""

    def __init__(self, setting: Setting, random: Random) -> None:
        self._setting = setting
        self._random = random
        plan = setting.plan
        self._evidence = CanaryEvidence(
            setting.limits, setting.users is not None, Subject(plan.model, plan.canary, _DIGEST),
            tolerance=setting.tolerance, confidence=setting.confidence,
        )  # fmt: skip
        users = setting.users
        places = [random.random() for _ in range(users.regular)] if users else []
        failing = [random.random() for _ in range(users.failing)] if users else []
        self._places, self._failing = sorted(places), sorted(failing)
        self._state: RolloutState = begin(plan)
        self._now = 0.0
        self._before_onset = 0
        self._through_before = False
        self._ticked = (0.0, 0)

    def play(self) -> Ended:
        """Until a guard fires, the rollout is through, or the time is over."""
        setting = self._setting
        while self._now < setting.duration:
            self._decide()
            if self._state.phase == "completed" and self._now >= setting.onset and not self._through_before:
                return self._ended("passed")
            boundary = setting.onset if self._now < setting.onset else inf
            until = min(self._now + TICK, setting.duration, boundary)
            if self._minute(until):
                return self._ended("rolled back")
            if until == setting.onset:
                self._before_onset = self._evidence.requests
                self._through_before = self._state.phase == "completed"
            self._now = until
        held = setting.plan.automatic and self._state.phase != "completed"
        return self._ended("held" if held else "passed")

    def _ended(self, end: End) -> Ended:
        guard = next((one.guard for one in self._evidence.readings() if one.fired and end == "rolled back"), "")
        seconds = self._now - self._setting.onset
        return Ended(end, guard, self._evidence.requests - self._before_onset, max(0.0, seconds), seconds < 0.0)

    def _decide(self) -> None:
        """Lets the rollout go on as it would."""
        plan = self._setting.plan
        if not plan.automatic:
            return
        verdict: Verdict = assess(self._evidence, now=self._now)
        (before, counted), self._ticked = self._ticked, (self._now, self._evidence.requests)
        tick = Tick(verdict.kind, self._now - before, self._evidence.requests - counted, verdict.quiet)
        self._take(decide(self._state, tick, plan))
        if self._state.phase == "awaiting_approval":
            self._take(decide(self._state, Command("approve"), plan))

    def _take(self, told: object) -> None:
        if isinstance(told, Decision):
            self._state = told.state

    def _minute(self, until: float) -> bool:
        """Traffic from now to `until`; whether a guard has fired, and then now is when."""
        setting = self._setting
        weight = declared_weight(setting.plan, self._state, setting.region)
        canary = setting.canary if self._now >= setting.onset else setting.good.canary
        stream = _Stream(setting, weight, canary, self._places, self._failing)
        left = int(setting.rps * (until - self._now) + self._random.random())
        pace = left / (until - self._now)
        began, told = self._now, 0
        waiting: list[BadEvent] = []
        ours = stables = 0
        while True:
            gap = stream.gap(self._random)
            good = min(gap - 1, left - told)
            mine = _binomial(self._random, good, stream.good_share)
            ours, stables = ours + mine, stables + good - mine
            if gap - 1 >= left - told:
                self._evidence.observe(stream.counts(ours, stables), waiting, until)
                return False
            told += gap
            event = stream.event(self._random)
            waiting.append(event)
            if event.arm.canary:
                ours += 1
            else:
                stables += 1
                if not event.kind & FAILURE:
                    continue
            self._now = began + told / pace
            self._evidence.observe(stream.counts(ours, stables), waiting, self._now)
            if self._evidence.fired:
                return True
            waiting, ours, stables = [], 0, 0


class _Stream:
    """Requests at one weight: each is the canary's with probability `pi`, and bad with its version's rates."""

    def __init__(self, setting: Setting, weight: int, canary: Arms, places: list[float], failing: list[float]) -> None:
        plan, region = setting.plan, setting.region
        self._arms = (
            Arm(plan.model, region, plan.canary, _DIGEST, weight, 10_000 - weight, True),
            Arm(plan.model, region, "stable", "stable", 10_000 - weight, 0, False, ((plan.canary, _DIGEST, weight),)),
        )
        self._rates = (canary, setting.stable)
        self._places, self._failing = places, failing
        self._below = bisect_left(places, weight / 10_000)
        pi = self._below / len(places) if places else weight / 10_000
        users = setting.users
        self._always = min(1.0, len(failing) / users.every / setting.rps) if users else 0.0
        ours, stables = pi * canary.bad, (1.0 - pi) * setting.stable.bad
        self._bad = (1.0 - self._always) * (ours + stables) + self._always
        self._ours = ours / (ours + stables) if ours + stables else 0.0
        self._failing_below = bisect_left(failing, weight / 10_000)
        good = 1.0 - ours - stables
        self.good_share = pi * (1.0 - canary.bad) / good if good > 0.0 else 0.0

    def gap(self, random: Random) -> int:
        """How many requests there are up to and with the next bad one."""
        if self._bad >= 1.0:
            return 1
        if self._bad <= 0.0:
            return 2**62
        return 1 + int(log(1.0 - random.random()) / log1p(-self._bad))

    def counts(self, ours: int, stables: int) -> tuple[ArmBatch, ...]:
        """So many requests of each version."""
        canary, stable = self._arms
        return ArmBatch(canary, ((200, "ok", True, ours),)), ArmBatch(stable, ((200, "ok", True, stables),))

    def event(self, random: Random) -> BadEvent:
        """A bad request."""
        canary, stable = self._arms
        if self._always and random.random() < self._always / self._bad:
            user = random.randrange(len(self._failing))
            return BadEvent(canary if user < self._failing_below else stable, FAILURE | SLOW, 2**32 + user, 0.0)
        ours = random.random() < self._ours
        rates = self._rates[0 if ours else 1]
        drawn = random.random() * rates.bad
        kind = (
            FAILURE | SLOW if drawn < rates.failure else REJECTION if drawn < rates.failure + rates.rejection else SLOW
        )
        key = 0
        if self._places:
            key = 1 + (random.randrange(self._below) if ours else random.randrange(self._below, len(self._places)))
        return BadEvent(canary if ours else stable, kind, key, 0.0)


def _binomial(random: Random, n: int, p: float) -> int:
    """About how many of `n` come with chance `p` each; exact where there are few."""
    if n <= 40:
        return sum(random.random() < p for _ in range(n))
    return min(n, max(0, round(random.gauss(n * p, sqrt(n * p * (1.0 - p))))))
