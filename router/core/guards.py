"""The guards of one canary config: everything that was gathered about it, and which guard has had enough.

Rules:
1. Each guard has its share of the false alarms that are allowed: it fires at evidence of 1 / (share · `false_alarm`).
   What a guard demands beyond that can only lower false alarms. A guard that fired stays fired.
2. The absolute guard counts every request. It looks away while stable fails at least half as often as the limit allows:
   such an outage is not the canary's; stable's requests since the canary's failures began must show that there is none.
   Where stable runs beside the canary, a few sticky keys alone do not move it.
3. Successes are counts. Several workers' batches may come in any order; events keep the order within their batch.
4. The split itself is watched as well; an alarm there tells of a router that is wrong, never of a canary.
5. Evidence about other limits is no evidence about these: what they concern starts anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from math import log

import msgspec

from router.core.assignment import FALSE_ALARM, Assignments, AssignmentState
from router.core.comparison import Comparison, ComparisonState, GuardReading
from router.core.evidence import Absolute, BetState, NonInferiority, plain
from router.core.outcome import FAILURE, REJECTION, SLOW, Arm, ArmBatch, BadEvent
from router.core.recent import WINDOW, Recent

__all__ = ["CanaryEvidence", "EvidenceState", "GuardLimits", "GuardReading", "Subject"]

SHARES = {"errors": 0.4, "rejections": 0.1, "latency": 0.25, "absolute": 0.1}
"""What each guard may have of the false alarms; the rest is for prediction drift."""

FEW_KEYS = 8
"""So many different sticky keys must be among the last failures before the absolute guard takes notice of them."""

WITNESSES = 10
"""So many requests of stable, since the canary's last failures began, must show that it is not failing as well."""

_LAST_FAILURES = 20
_SPAN = 10


class GuardLimits(msgspec.Struct, frozen=True):
    """What the guards allow. Rates are fractions; `*_at_most` multiples of stable's.

    `errors_ignore_below` and `rejections_ignore_below` are differences of rates; `latency_quantile` is compared.
    """

    false_alarm: float = 0.001
    errors_at_most: float = 1.0
    errors_ignore_below: float = 0.001
    rejections_at_most: float = 1.0
    rejections_ignore_below: float = 0.01
    latency_quantile: float = 0.95
    latency_at_most: float = 1.25
    error_rate_max: float = 0.2


class Subject(msgspec.Struct, frozen=True):
    """Which canary is judged: a version of a model, as its digest pins it."""

    model: str
    version: str
    digest: str


class EvidenceState(msgspec.Struct, frozen=True):
    """Everything gathered about one canary config, for the store.

    `uncounted` are, by region, the failures that were told and whose requests were not counted yet.
    """

    subject: Subject
    limits: GuardLimits
    sticky: bool
    tolerance: float
    requests: int
    n_canary: int
    n_stable: int
    comparisons: tuple[ComparisonState, ...]
    absolute: BetState
    absolute_bad: int
    absolute_fired: bool
    promotion: BetState
    assignments: AssignmentState
    uncounted: dict[str, int] = {}


class _Region:
    """One region's part: what the absolute guard has not bet on yet, and how stable does there.

    `n` and `failed` count stable's requests and failures. `last` has the canary's last failures: each one's key (below
    0 where it has none) and those counts at that moment. `alone`: the last one came where no stable ran beside it.
    """

    __slots__ = ("alone", "bad", "canary", "failed", "good", "last", "n", "stable")

    def __init__(self) -> None:
        self.stable = Recent()
        self.canary = Recent()
        self.good = 0
        self.bad = 0
        self.n = 0
        self.failed = 0
        self.last: deque[tuple[int, int, int]] = deque(maxlen=_LAST_FAILURES)
        self.alone = False

    def many_failed(self) -> bool:
        """Whether the canary's last failures are more than a few users'; one without a key is a draw of its own."""
        keys = [key for key, _, _ in self.last]
        return all(key < 0 for key in keys) or len(set(keys)) >= FEW_KEYS

    def stable_held(self, limit: float, now: float) -> bool:
        """Whether stable was seen to fail less often than `limit` since the canary's last failures began."""
        if self.alone or not self.stable.requests(now):
            return True
        _, n, failed = self.last[-min(len(self.last), _SPAN)]
        seen = self.n - n
        return seen >= WITNESSES and self.failed - failed < limit * seen


class CanaryEvidence:
    """What was gathered about `subject` beside one stable.

    Args:
        limits: what the guards allow.
        sticky: whether requests may be bound to a version by a key.
        subject: whose outcomes these are; those of other canaries are left out.
        tolerance: a promotion's `no_worse_than_stable_by`, a difference of failure rates.
        confidence: how sure a promotion must be.
    """

    def __init__(
        self,
        limits: GuardLimits,
        sticky: bool,
        subject: Subject,
        *,
        tolerance: float = 0.005,
        confidence: float = 0.95,
    ) -> None:
        self.limits = limits
        self.sticky = sticky
        self.subject = subject
        self.tolerance = tolerance
        self.confidence = confidence
        self.requests = 0
        self._n_canary = 0
        self._n_stable = 0
        self._errors = Comparison(
            "errors", limits.errors_at_most, limits.errors_ignore_below, _threshold(limits, "errors")
        )
        self._rejections = Comparison(
            "rejections", limits.rejections_at_most, limits.rejections_ignore_below, _threshold(limits, "rejections")
        )
        self._latency = Comparison("latency", 1.0, 0.0, _threshold(limits, "latency"))
        self._comparisons = (self._errors, self._rejections, self._latency)
        self._absolute = Absolute(limits.error_rate_max)
        self._absolute_bad = 0
        self._absolute_fired = False
        self._looks_away: set[str] = set()
        self._promotion = NonInferiority(tolerance)
        self._regions: dict[str, _Region] = {}
        self._assignments = Assignments()

    @property
    def fired(self) -> bool:
        """Whether a guard has fired: the canary is worse than its limits allow."""
        return self._absolute_fired or any(guard.fired for guard in self._comparisons)

    @property
    def pi(self) -> float:
        """The share of the canary's requests among those of it and stable, as counted since its start."""
        return self._n_canary / max(1, self._n_canary + self._n_stable)

    def pace(self, now: float) -> tuple[float, float]:
        """Requests per second of the canary and of stable, over the last minute."""
        regions = self._regions.values()
        return (
            sum(region.canary.requests(now) for region in regions) / WINDOW,
            sum(region.stable.requests(now) for region in regions) / WINDOW,
        )

    def observe(self, arms: Iterable[ArmBatch], bad: Iterable[BadEvent], now: float) -> None:
        """Takes one worker's batch: counts in `arms`, then the `bad` events in their order; `now` is monotonic seconds.

        What concerns another model or another canary is left out, so whole batches may be given.
        """
        for batch in arms:
            weights = self._weights(batch.arm)
            n = _observed(batch) if weights else 0
            if weights and n:
                self._count(batch.arm.canary, batch.arm.region, *weights, n, now)
        for event in bad:
            weights = self._weights(event.arm)
            if weights:
                self._bad(event, *weights, now)
        self._settle(now)

    def _weights(self, arm: Arm) -> tuple[int, int] | None:
        """The canary's weight and stable's when `arm` was picked; None where it concerns another canary."""
        subject = self.subject
        if arm.model != subject.model:
            return None
        if arm.canary:
            if arm.digest != subject.digest or arm.version != subject.version:
                return None
            return arm.weight, arm.stable_weight
        for version, digest, weight in arm.rivals:
            if digest == subject.digest and version == subject.version:
                return weight, arm.weight
        return None

    def _count(self, canary: bool, region_name: str, ours: int, stables: int, n: int, now: float) -> None:
        region = self._region(region_name)
        if canary:
            region.canary.add(n, 0, now)
            self.requests += n
            region.good += n
        else:
            region.stable.add(n, 0, now)
            region.n += n
        if ours <= 0 or stables <= 0:
            return
        if canary:
            self._n_canary += n
        else:
            self._n_stable += n
        self._promotion.on_good(n, ours / (ours + stables))
        if not self.sticky:
            self._assignments.add((region_name, ours, stables), canary, n, now)

    def _bad(self, event: BadEvent, ours: int, stables: int, now: float) -> None:
        canary, kind, key = event.arm.canary, event.kind, event.key
        compared = ours > 0 and stables > 0
        pi = ours / (ours + stables) if compared else 1.0
        if kind & FAILURE:
            self._failed(event, pi, now)
        if not compared:
            return
        n_canary, n_stable = self._n_canary, self._n_stable
        if kind & FAILURE:
            self._errors.on_bad(canary, pi, key, n_canary, n_stable)
        if kind & REJECTION:
            self._rejections.on_bad(canary, pi, key, n_canary, n_stable)
        if kind & SLOW:
            self._latency.on_bad(canary, pi, key, n_canary, n_stable)

    def _failed(self, event: BadEvent, pi: float, now: float) -> None:
        canary = event.arm.canary
        region = self._region(event.arm.region)
        if canary:
            region.bad += 1
            self._absolute_bad += 1
            region.alone = pi >= 1.0
            key = -self._absolute_bad if region.alone or not event.key else event.key
            region.last.append((key, region.n, region.failed))
        else:
            region.stable.add(0, 1, now)
            region.failed += 1
        # Speaking for promotion, a key of stable counts once; against it, every failure of the canary does.
        if canary or not event.key or self._errors.keys.unspent(event.key):
            self._promotion.on_bad(canary, pi)
            self._promotion.on_good(-1, pi)

    def _settle(self, now: float) -> None:
        """Puts before the absolute guard what came since the last time (rule 2)."""
        for name, region in self._regions.items():
            if not region.good and not region.bad:
                continue
            good, bad = max(0, region.good - region.bad), region.bad
            # A failure may be told before its request is counted; then the count that comes is of no success.
            region.good, region.bad = min(0, region.good - region.bad), 0
            half = self.limits.error_rate_max / 2.0
            self._looks_away.discard(name)
            if region.stable.failing(half, now):
                self._looks_away.add(name)
                continue
            self._absolute.observe(good, bad)
            if bad and not self._absolute_fired:
                enough = self._absolute.log_e >= log(_threshold(self.limits, "absolute"))
                self._absolute_fired = enough and region.many_failed() and region.stable_held(half, now)

    def readings(self) -> tuple[GuardReading, ...]:
        """Where every guard stands, the alarm about the split and what speaks for promotion among them."""
        n_canary, n_stable = self._n_canary, self._n_stable
        return (
            *(guard.reading(n_canary, n_stable, self._note(guard)) for guard in self._comparisons),
            self._absolute_reading(),
            self._split_reading(),
            self._promotion_reading(),
        )

    @property
    def _enough(self) -> float:
        return 1.0 / (1.0 - self.confidence)

    def missing_for_promotion(self) -> float:
        """About how many requests of both arms are missing until there is evidence enough for promotion.

        At the rates of failures seen so far; ∞ where those would never do.
        """
        ours, stables = self._errors.bad_canary, self._errors.bad_stable
        canary = ours / max(1, ours, self._n_canary)
        stable = stables / max(1, stables, self._n_stable)
        return self._promotion.requests_to(self._enough, self.pi, canary, stable)

    def state(self) -> EvidenceState:
        """What `restore` needs to go on."""
        return EvidenceState(
            subject=self.subject,
            limits=self.limits,
            sticky=self.sticky,
            tolerance=self.tolerance,
            requests=self.requests,
            n_canary=self._n_canary,
            n_stable=self._n_stable,
            comparisons=tuple(guard.state() for guard in self._comparisons),
            absolute=self._absolute.state(),
            absolute_bad=self._absolute_bad,
            absolute_fired=self._absolute_fired,
            promotion=self._promotion.state(),
            assignments=self._assignments.state(),
            uncounted={name: -region.good for name, region in self._regions.items() if region.good < 0},
        )

    def restore(self, state: EvidenceState) -> None:
        """Goes on from `state`, where it was gathered under the same limits (rule 5).

        Raises:
            ValueError: it is another canary's.
        """
        if state.subject != self.subject:
            raise ValueError(f"evidence about {state.subject} says nothing about {self.subject}")
        self.requests = state.requests
        if (state.limits, state.sticky) != (self.limits, self.sticky):
            return
        self._n_canary = state.n_canary
        self._n_stable = state.n_stable
        for guard, saved in zip(self._comparisons, state.comparisons, strict=True):
            guard.restore(saved)
        self._absolute.restore(state.absolute)
        self._absolute_bad = state.absolute_bad
        self._absolute_fired = state.absolute_fired
        self._assignments.restore(state.assignments)
        for name, failures in state.uncounted.items():
            self._region(name).good = -failures
        if state.tolerance == self.tolerance:
            self._promotion.restore(state.promotion)

    def _region(self, name: str) -> _Region:
        region = self._regions.get(name)
        if region is None:
            region = self._regions[name] = _Region()
        return region

    def _note(self, guard: Comparison) -> str:
        if guard.keys.full:
            return f"its memory of {len(guard.keys)} sticky keys is full: new keys no longer count"
        return f"{len(guard.keys)} sticky keys spent" if self.sticky else ""

    def _absolute_reading(self) -> GuardReading:
        bad, n = self._absolute_bad, max(self.requests, self._absolute_bad)
        return GuardReading(
            "absolute", plain(self._absolute.log_e), _threshold(self.limits, "absolute"), self._absolute_fired,
            bad / max(1, n), 0.0, bad, self._errors.bad_stable, self.requests, self._n_stable,
            "held while stable is failing too" if self._looks_away else "",
        )  # fmt: skip

    def _split_reading(self) -> GuardReading:
        alarmed = self._assignments.check()
        canary, stable = self._assignments.totals
        return GuardReading(
            "sample_ratio", plain(self._assignments.log_e), 1.0 / FALSE_ALARM, alarmed,
            canary / max(1, canary + stable), stable / max(1, canary + stable), 0, 0, canary, stable,
            "not measured: sticky requests are no draws of their own" if self.sticky else "",
        )  # fmt: skip

    def _promotion_reading(self) -> GuardReading:
        errors = self._errors
        e, threshold = plain(self._promotion.log_e), self._enough
        return GuardReading(
            "promotion", e, threshold, False,
            errors.bad_canary / max(1, self._n_canary), errors.bad_stable / max(1, self._n_stable),
            errors.bad_canary, errors.bad_stable, self._n_canary, self._n_stable,
        )  # fmt: skip


def _threshold(limits: GuardLimits, guard: str) -> float:
    return 1.0 / (limits.false_alarm * SHARES[guard])


def _observed(batch: ArmBatch) -> int:
    return sum(n for _, result, observed, n in batch.counts if observed and result != "abandoned")
