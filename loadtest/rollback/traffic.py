"""Traffic of one phase as its bad events and the counts between them, drawn in bulk.

Rules:
1. Requests come evenly in time; each is the canary's with the phase's weight, whatever its outcome.
2. Only bad events are drawn one by one; how many good requests lie between them is drawn as a count.
3. Sticky traffic is drawn by user: a user's place is drawn once a run, and with the weight says whose requests are his.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.rollback.scenario import Phase, Poison, Rates
from router.core.outcome import FAILURE, REJECTION, SLOW

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

KINDS = np.array([FAILURE | SLOW, REJECTION, SLOW])


@dataclass(frozen=True)
class Drawn:
    """Bad events in order: arrays of one length.

    `at` seconds from the phase's start; `ours` and `stables` are requests of each arm up to and with the event.
    """

    at: Floats
    canary: Bools
    kind: Ints
    key: Ints
    ours: Ints
    stables: Ints


def draw(phase: Phase, rps: float, rng: np.random.Generator) -> Drawn:
    """The bad events of `phase` where every request is a draw of its own."""
    pi = phase.weight / 100.0
    ours, stables = _shares(phase.canary), _shares(phase.stable)
    bad_ours, bad_stables = pi * ours.sum(), (1.0 - pi) * stables.sum()
    bad = bad_ours + bad_stables
    requests = rps * phase.seconds
    gaps = rng.geometric(bad, size=int(requests * bad + 8.0 * np.sqrt(requests * bad) + 50))
    number = np.cumsum(gaps)
    kept = int(np.searchsorted(number, requests, side="right"))
    gaps, number = gaps[:kept], number[:kept]
    canary = rng.random(kept) < bad_ours / bad
    kind = np.where(canary, _kinds(ours, kept, rng), _kinds(stables, kept, rng))
    rest = (pi - bad_ours) / (1.0 - bad) if bad < 1.0 else 0.0
    mine = np.cumsum(rng.binomial(gaps - 1, min(1.0, max(0.0, rest))) + canary)
    return Drawn(number / rps, canary, kind, np.zeros(kept, dtype=np.int64), mine, number - mine)


def draw_sticky(phase: Phase, rps: float, poison: Poison, places: Floats, rng: np.random.Generator) -> Drawn:
    """The failures of `phase` where users are bound to a version.

    `places` holds a number from 0 to 1 for every user, those who always fail first; the canary's are those below the
    weight.
    """
    of_canary = places < phase.weight / 100.0
    asked = phase.seconds / poison.every
    regular = rps * phase.seconds - asked * poison.users
    now_and_then = rng.poisson(regular * phase.stable.failure)
    always = rng.poisson(asked * poison.users)
    user = np.concatenate(
        [rng.integers(poison.users, len(places), now_and_then), rng.integers(0, poison.users, always)]
    )
    at = rng.random(len(user)) * phase.seconds
    order = np.argsort(at)
    at, user = at[order], user[order]
    canary = of_canary[user]
    share = of_canary[poison.users :].mean() * regular + of_canary[: poison.users].sum() * asked
    mine = np.maximum(np.cumsum(canary), (at / phase.seconds * share).astype(np.int64))
    stables = np.maximum(np.cumsum(~canary), (at * rps).astype(np.int64) - mine)
    return Drawn(at, canary, np.full(len(user), FAILURE | SLOW), user + 1, mine, stables)


def _shares(rates: Rates) -> Floats:
    return np.array([rates.failure, rates.rejection, rates.slow])


def _kinds(shares: Floats, size: int, rng: np.random.Generator) -> Ints:
    total = shares.sum()
    if not total:
        return np.zeros(size, dtype=np.int64)
    return KINDS[np.minimum(np.searchsorted(np.cumsum(shares) / total, rng.random(size), side="right"), 2)]
