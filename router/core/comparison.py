"""One guard that compares the canary with stable.

Rules:
1. It fires once its evidence has reached its threshold and what was observed matters in practice; then it stays fired.
2. What was observed is measured since the evidence began to speak, not since the canary started: a canary that turns
   bad after a good week is not excused by that week.
3. A sticky key brings one event, whichever version it was on: its next outcomes are no new draws. Rates count them all.
"""

from __future__ import annotations

import msgspec

from router.core.evidence import Bet, BetState, Mark, SpentKeys


class GuardReading(msgspec.Struct, frozen=True):
    """Where one guard stands.

    `bad_*` of `n_*` requests since the canary's start; `observed_*` are rates since the evidence began to speak.
    `threshold` is the e-value it fires at; `matters` whether what was observed is more than the guard ignores. `note`
    says what limits it, in words, where something does.
    """

    guard: str
    e: float
    threshold: float
    fired: bool
    observed_canary: float
    observed_stable: float
    bad_canary: int
    bad_stable: int
    n_canary: int
    n_stable: int
    note: str = ""
    matters: bool = True


class ComparisonState(msgspec.Struct, frozen=True, array_like=True):
    """What `Comparison.restore` needs."""

    guard: str
    bet: BetState
    marks: tuple[Mark, ...]
    bad_canary: int
    bad_stable: int
    fired: bool
    keys: bytes


class Comparison:
    """One guard that compares the canary with stable."""

    __slots__ = ("_ignore_below", "bad_canary", "bad_stable", "bet", "fired", "keys", "name", "threshold")

    def __init__(self, name: str, rho: float, ignore_below: float, threshold: float) -> None:
        self.name = name
        self.bet = Bet(rho)
        self.keys = SpentKeys()
        self.threshold = threshold
        self._ignore_below = ignore_below
        self.bad_canary = 0
        self.bad_stable = 0
        self.fired = False

    def on_bad(self, canary: bool, pi: float, key: int, n_canary: int, n_stable: int) -> None:
        """Counts one bad event, and bets on it if its key has not brought one before (0: no key)."""
        mark = (n_canary, n_stable, self.bad_canary, self.bad_stable)
        if canary:
            self.bad_canary += 1
        else:
            self.bad_stable += 1
        if key and not self.keys.spend(key):
            return
        self.bet.on_bad(canary, pi, mark)
        if canary and not self.fired and self.bet.reached(self.threshold):
            ours, stables = self.observed(n_canary, n_stable)
            self.fired = ours - stables >= self._ignore_below

    def observed(self, n_canary: int, n_stable: int) -> tuple[float, float]:
        """The rates of the canary and of stable since the evidence began to speak (rule 2)."""
        was_canary, was_stable, bad_canary, bad_stable = self.bet.marks[self.bet.leader]
        return (
            _rate(self.bad_canary - bad_canary, n_canary - was_canary),
            _rate(self.bad_stable - bad_stable, n_stable - was_stable),
        )

    def reading(self, n_canary: int, n_stable: int, note: str) -> GuardReading:
        """Where it stands."""
        ours, stables = self.observed(n_canary, n_stable)
        return GuardReading(
            self.name, self.bet.e, self.threshold, self.fired, ours, stables,
            self.bad_canary, self.bad_stable, n_canary, n_stable, note, ours - stables >= self._ignore_below,
        )  # fmt: skip

    def state(self) -> ComparisonState:
        """What `restore` needs to go on."""
        return ComparisonState(
            self.name, self.bet.state(), tuple(self.bet.marks), self.bad_canary, self.bad_stable, self.fired,
            self.keys.state(),
        )  # fmt: skip

    def restore(self, state: ComparisonState) -> None:
        """Goes on from `state`."""
        self.bet.restore(state.bet)
        self.bet.marks = list(state.marks)
        self.bad_canary = state.bad_canary
        self.bad_stable = state.bad_stable
        self.fired = state.fired
        self.keys.restore(state.keys)


def _rate(bad: int, n: int) -> float:
    # What hangs is known to be bad before it has ended and is counted.
    return bad / max(bad, n, 1)
