"""The cases, with their seeds, which were fixed before anything was run.

Rules:
1. Traffic is given by rates: requests per second, and the share of each arm's requests that fail, are rejected or are
   slow. Nothing here knows how the engine works.
2. The seeds are the cases' places in the list and nothing else; no case was run again with another one.
3. Latencies are lognormal. A request of the canary is slow beyond 1.25 times stable's p95, one of stable beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from statistics import NormalDist
from typing import Literal

SEED = 20_260_000
"""The seed of run r of case c is `[SEED + c, r]`."""

DAY = 86_400.0
USUAL = 0.005
"""The share of failures of stable, and of a canary as good."""


@dataclass(frozen=True)
class Rates:
    """What becomes of one arm's requests: shares that fail, are rejected, or are slow and nothing worse."""

    failure: float = USUAL
    rejection: float = 0.0
    slow: float = 0.0


@dataclass(frozen=True)
class Phase:
    """`seconds` of traffic with the canary at `weight` percent; failures reach the engine one by one.

    Other bad events come in batches of at most `batch` seconds. Events are told `lag` seconds before their requests
    are counted.
    """

    seconds: float
    weight: float = 10.0
    stable: Rates = Rates()
    canary: Rates = Rates()
    batch: float = 0.0
    lag: float = 0.0


@dataclass(frozen=True)
class Poison:
    """Sticky traffic of `regular` users, beside `users` who always fail, each asking every `every` seconds."""

    users: int
    every: float
    regular: int = 10_000


@dataclass(frozen=True)
class Case:
    """One row: `must` is the most that `measure` may come to.

    Runs count from the start of the last phase where `measure` is about canary requests; what was rolled back before
    it is a false alarm there.
    """

    name: str
    title: str
    measure: Literal["median", "largest", "rolled back"]
    must: float
    phases: tuple[Phase, ...]
    runs: int
    rps: float = 20.0
    poison: Poison | None = None

    @property
    def seed(self) -> int:
        """See rule 2."""
        return SEED + CASES.index(self)


def slow_share(sigma: float, times: float, at_most: float = 1.25) -> float:
    """The share of requests beyond `at_most` times stable's p95, of an arm whose every latency is `times` stable's.

    `sigma` is the lognormal's.
    """
    normal = NormalDist()
    return 1.0 - normal.cdf(normal.inv_cdf(0.95) + log(at_most / times) / sigma)


def _bad(canary: Rates, stable: Rates = Rates()) -> tuple[Phase, ...]:
    return (Phase(4 * 3600.0, stable=stable, canary=canary),)


def _late(canary: Rates) -> tuple[Phase, ...]:
    return (Phase(3600.0, batch=30.0), Phase(4 * 3600.0, canary=canary))


def _slow(sigma: float) -> tuple[Phase, ...]:
    return _bad(Rates(slow=slow_share(sigma, 2.0)), Rates(slow=0.05))


_EVEN = Rates(rejection=0.01, slow=0.05)
_GOOD = Rates(rejection=0.01, slow=slow_share(0.5, 1.0))
_HOUR = Phase(3600.0, stable=_EVEN, canary=_GOOD, batch=30.0)


def _shared(failure: float, seconds: float, *, times: int, weight: float = 10.0) -> tuple[Phase, ...]:
    """A day in which both arms fail alike, `times` times, `seconds` each."""
    quiet = Phase((DAY - times * seconds) / (times + 1), weight, batch=30.0)
    both = Phase(seconds, weight, stable=Rates(failure), canary=Rates(failure), batch=0.1)
    return (*(quiet, both) * times, quiet)


def _ramp() -> tuple[Phase, ...]:
    return tuple(Phase(DAY / 3, weight, batch=30.0) for weight in (1.0, 10.0, 50.0))


CASES: tuple[Case, ...] = (
    Case("dead", "every request fails, stable 0.5 %", "largest", 8, _bad(Rates(1.0)), 2000),
    Case("errors-20", "20 % errors against 0.5 %", "median", 40, _bad(Rates(0.2)), 2000),
    Case("errors-5", "5 % errors against 0.5 %", "median", 250, _bad(Rates(0.05)), 2000),
    Case("rejected", "every request of the canary rejected, stable 1 %", "largest", 12,
         _bad(Rates(0.0, 1.0), Rates(USUAL, 0.01)), 2000),
    Case("late-100", "all fail after 72 000 requests of a good canary", "median", 15, _late(Rates(1.0)), 1000),
    Case("late-20", "20 % fail after 72 000 requests of a good canary", "median", 80, _late(Rates(0.2)), 1000),
    Case("slow", "p95 twice stable's, σ = 0.5", "median", 200, _slow(0.5), 2000),
    Case("slow-narrow", "p95 twice stable's, σ = 0.25", "median", 200, _slow(0.25), 2000),
    Case("slow-wide", "p95 twice stable's, σ = 0.75", "median", 200, _slow(0.75), 2000),
    Case("same", "identical, 24 h at 20 rps: errors, rejections, latency", "rolled back", 6, (_HOUR,) * 24, 2000),
    Case("same-slow-pace", "identical, 24 h at 0.2 rps", "rolled back", 6, (_HOUR,) * 24, 2000, rps=0.2),
    Case("shared-10", "identical, 24 h at 20 rps, both fail at 10 % twice for an hour", "rolled back", 6,
         _shared(0.1, 3600.0, times=2), 2000),
    Case("shared-all", "identical, 24 h at 20 rps, both fail altogether three times five minutes", "rolled back", 6,
         _shared(1.0, 300.0, times=3), 2000),
    Case("sticky-5", "identical, sticky, 24 h 1-10-50, five users always fail", "rolled back", 6, _ramp(), 2000,
         poison=Poison(5, 60.0)),
    Case("sticky-50", "identical, sticky, 24 h 1-10-50, fifty users always fail", "rolled back", 6, _ramp(), 2000,
         poison=Poison(50, 300.0)),
    Case("shared-all-50", "the same at a weight of 50 %, three times a minute", "rolled back", 6,
         _shared(1.0, 60.0, times=3, weight=50.0), 2000),
    Case("absolute-late", "alone at 100 %, all fail after 72 000 good requests", "median", 15,
         (Phase(3600.0, 100.0, batch=30.0), Phase(600.0, 100.0, canary=Rates(1.0))), 1000),
    Case("told-first", "identical, 500 rps, 8 % fail, told 200 ms before they are counted", "rolled back", 6,
         (Phase(300.0, stable=Rates(0.08), canary=Rates(0.08), lag=0.2),), 2000, rps=500.0),
)  # fmt: skip
