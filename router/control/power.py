"""How soon a bad canary would be rolled back: the guards themselves, played against simulated failures.

Rules:
1. The same engine judges here as in the router; only the failures are drawn, from a generator with a fixed seed: the
   same question always has the same answer.
2. The work is counted in bad events, not in seconds, and is bounded: what exceeds it is not answered.
3. One region's requests alone are looked at, each with a key of its own or none. Several regions at once are quicker.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p
from random import Random

from router.config.schema import Guards
from router.core.comparison import Comparison
from router.core.evidence import Absolute
from router.core.guards import FEW_KEYS, SHARES

RUNS = 41
FEW_RUNS = 5
"""Where so many runs in a row end without a rollback, the others would as well."""

MOST_EVENTS = 20_000
"""Bad events of one run; who is not rolled back by then is not within any time that matters."""

BUDGET = 2_000_000
"""Bad events of all runs together: a few seconds."""

_SEED = 7


@dataclass(frozen=True, slots=True)
class Power:
    """What becomes of a canary with `weight` (hundredths of a percent) that fails at `error_rate`.

    `requests` is how many of its requests half of all such canaries are rolled back within, `at_most` nine of ten;
    None where that does not happen. `seconds` and `at_most_seconds` are the same in time, None where no rate is known.
    """

    version: str
    weight: int
    error_rate: float
    requests: int | None
    at_most: int | None
    seconds: float | None = None
    at_most_seconds: float | None = None

    @property
    def failures(self) -> int | None:
        """How many of those requests failed; stable answers them where the model has `fallback: stable`."""
        return None if self.requests is None else max(1, round(self.requests * self.error_rate))


class Simulator:
    """Answers for many canaries within one budget (rule 2); remembers what it was asked before.

    Args:
        stable_error_rate: how often stable fails, between 0 and 1.
    """

    def __init__(self, stable_error_rate: float, *, budget: int = BUDGET) -> None:
        self._stable = stable_error_rate
        self._left = budget
        self._known: dict[tuple[object, ...], tuple[int | None, int | None]] = {}

    def power(
        self, version: str, weight: int, stable_weight: int, error_rate: float, guards: Guards, rate: float | None
    ) -> Power | None:
        """The answer for one canary; None where the budget is spent.

        Args:
            version: the canary.
            weight: its weight in hundredths of a percent, more than 0.
            stable_weight: stable's beside it.
            error_rate: how often the canary fails, between 0 and 1.
            guards: the model's.
            rate: requests per second of the whole model in the region; None where nobody knows.
        """
        question = (weight, stable_weight, error_rate, guards.false_alarm, guards.errors, guards.error_rate)
        found = self._known.get(question)
        if found is None:
            if self._left <= 0:
                return None
            found = self._known[question] = self._simulate(weight, stable_weight, error_rate, guards)
        median, slow = found
        per_second = rate * weight / 10_000 if rate else None
        return Power(version, weight, error_rate, median, slow, _time(median, per_second), _time(slow, per_second))

    def _simulate(
        self, weight: int, stable_weight: int, error_rate: float, guards: Guards
    ) -> tuple[int | None, int | None]:
        generator = Random(_SEED)  # noqa: S311 - a simulation, repeatable on purpose
        pi = weight / (weight + stable_weight)
        needed = [self._run(generator, pi, error_rate, guards) for _ in range(FEW_RUNS)]
        if min(needed) == _NEVER:
            return None, None
        needed += [self._run(generator, pi, error_rate, guards) for _ in range(RUNS - FEW_RUNS)]
        needed.sort()
        return _known(needed[RUNS // 2]), _known(needed[RUNS * 9 // 10])

    def _run(self, generator: Random, pi: float, error_rate: float, guards: Guards) -> int:
        """The canary's requests until its rollback in one simulated life, or `_NEVER`."""
        errors = Comparison("errors", guards.errors.at_most, guards.errors.ignore_below, _threshold(guards, "errors"))
        ceiling = Absolute(guards.error_rate.max)
        watched = error_rate > guards.error_rate.max
        bad = pi * error_rate + (1.0 - pi) * self._stable
        if not bad:
            return _NEVER
        canarys = pi * error_rate / bad
        requests, counted, failed = 0, 0, 0
        for _ in range(MOST_EVENTS):
            self._left -= 1
            requests += _gap(generator, bad)
            ours = round(requests * pi)
            canary = generator.random() < canarys
            failed += canary
            if pi < 1.0:
                errors.on_bad(canary, pi, 0, ours, requests - ours)
                if errors.fired:
                    return max(ours, failed)
            if watched and canary:
                ceiling.observe(max(0, ours - counted - 1), 1)
                counted = ours
                if failed >= FEW_KEYS and ceiling.log_e >= log(_threshold(guards, "absolute")):
                    return max(ours, failed)
        return _NEVER


_NEVER = 1 << 62


def _known(requests: int) -> int | None:
    return None if requests == _NEVER else requests


def _threshold(guards: Guards, guard: str) -> float:
    return 1.0 / (guards.false_alarm * SHARES[guard])


def _gap(generator: Random, chance: float) -> int:
    """How many requests it takes until one is bad, itself included."""
    return 1 if chance >= 1.0 else 1 + int(log(1.0 - generator.random()) / log1p(-chance))


def _time(requests: int | None, per_second: float | None) -> float | None:
    return None if requests is None or per_second is None else requests / per_second
