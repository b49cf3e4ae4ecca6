"""Evidence that stays valid however often it is looked at: bets against "the canary is as good as stable".

Rules:
1. Each wealth process starts at 1 and is a nonnegative supermartingale while its null hypothesis holds, so the chance
   that it ever reaches 1/α is at most α (Ville's inequality). Nothing here has to know when somebody looks.
2. A request went to the canary with a known probability π, whatever its outcome was to be. Every event brings its own
   π; one that is not strictly between 0 and 1 compares nothing and is left out.
3. Without a tolerance (δ = 0) a success changes nothing: only bad events cost work, and those of several workers merge
   by interleaving them.
4. A wallet keeps half of the wealth back and hands it out slowly, one part before each bad event, so that a canary
   that turns bad late meets fresh money. What is handed out never depends on the outcome it is bet on.
5. Wealth is kept as numbers of moderate size over one shared logarithm: nothing overflows, however long it runs.
6. State is logarithms and counts; what was restored goes on as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, inf, lgamma, log, log1p

import msgspec

RATIOS = (1.5, 2.0, 3.0, 6.0, 20.0, 1000.0)
"""How many times worse than allowed the canary may be: one bet on each."""

CAUTION = (0.05, 0.1, 0.2, 0.4, 0.7, 0.95)
"""Shares of the largest bet that cannot ruin, for non-inferiority."""

PATIENCE = 50
"""The wallet's constant: before bad event n, 1/(n + PATIENCE) of the cash is handed out."""

_BIG = 1e200
_LOG_BIG = log(_BIG)
_MOST_FACTORS = 256


Mark = tuple[int, int, int, int]
"""Counts at some moment; what they count is the caller's affair."""

START: Mark = (0, 0, 0, 0)


class BetState(msgspec.Struct, frozen=True, array_like=True):
    """A bet's wealth: natural logarithms of its components and of its cash, and how many bad events it saw."""

    components: tuple[float, ...]
    cash: float
    n: int


def log_of(wealth: float) -> float:
    """The natural logarithm of `wealth`, −∞ of 0."""
    return log(wealth) if wealth > 0.0 else -inf


def plain(log_wealth: float) -> float:
    """The wealth whose natural logarithm is `log_wealth`, or the largest number that JSON and Prometheus can carry."""
    return exp(log_wealth) if log_wealth < 700.0 else 1e304


class _Pot:
    """Components that multiply and cash that waits (rules 4 to 6). What underflows beside the rest is worth nothing."""

    __slots__ = ("_unscale", "cash", "n", "scale", "wealth")

    def __init__(self, components: int, *, wallet: bool) -> None:
        self.cash = 0.5 if wallet else 0.0
        self.wealth = [(1.0 - self.cash) / components] * components
        self.n = 0
        self.scale = 0.0
        self._unscale = 1.0

    def transfer(self) -> float:
        """Takes what each component gets for one bad event out of the cash; the caller adds it."""
        self.n += 1
        moved = self.cash / (self.n + PATIENCE)
        self.cash -= moved
        return moved * self._unscale / len(self.wealth)

    def balance(self) -> None:
        """Brings the components back to moderate size, where their sum has left it."""
        total = sum(self.wealth)
        if total > _BIG:
            self._rescale(_LOG_BIG)
        elif total < 1.0 and self.scale > 0.0:
            self._rescale(-_LOG_BIG)

    def log_e(self) -> float:
        """The logarithm of all wealth."""
        return log(sum(self.wealth) + self.cash * self._unscale) + self.scale

    def state(self) -> BetState:
        """The wealth in logarithms."""
        return BetState(tuple(log_of(each) + self.scale for each in self.wealth), log_of(self.cash), self.n)

    def restore(self, state: BetState) -> None:
        """Goes on from `state`. Raises ValueError where it has another number of components."""
        if len(state.components) != len(self.wealth):
            raise ValueError(f"a state of {len(state.components)} components is not one of {len(self.wealth)}")
        self.scale = _LOG_BIG * max(0.0, max(state.components) // _LOG_BIG)
        self._unscale = exp(-self.scale)
        self.wealth = [exp(each - self.scale) for each in state.components]
        self.cash = exp(state.cash)
        self.n = state.n

    def _rescale(self, by: float) -> None:
        factor = exp(-by)
        self.wealth = [each * factor for each in self.wealth]
        self.scale = max(0.0, self.scale + by)
        self._unscale = exp(-self.scale)


class Bet:
    """The two-sample bet against p(canary) ≤ `rho` · p(stable) + `delta`.

    `marks[i]` is the mark given with the first bad event, or with the last one at which the wallet handed component i
    more than all it had: what it shows is news since then.
    """

    __slots__ = ("_delta", "_factors", "_pot", "_rho", "marks")

    def __init__(self, rho: float = 1.0, delta: float = 0.0, *, wallet: bool = True) -> None:
        self._rho = rho
        self._delta = delta
        self._pot = _Pot(len(RATIOS), wallet=wallet)
        self._factors: dict[float, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {}
        self.marks: list[Mark] = [START] * len(RATIOS)

    @property
    def n(self) -> int:
        """How many bad events were bet on."""
        return self._pot.n

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value."""
        return self._pot.log_e()

    @property
    def e(self) -> float:
        """The e-value: 1 at the start; capped where it leaves what a float can hold."""
        return plain(self._pot.log_e())

    def reached(self, threshold: float) -> bool:
        """Whether the e-value is at least `threshold`, a number below 1e200."""
        pot = self._pot
        return pot.scale > 0.0 or sum(pot.wealth) + pot.cash >= threshold

    @property
    def leader(self) -> int:
        """Which component holds most: the index into `RATIOS` of what the events look like."""
        wealth = self._pot.wealth
        return wealth.index(max(wealth))

    def on_bad(self, canary: bool, pi: float, mark: Mark = START) -> None:
        """Bets on one bad event, of the canary or else of stable, whose request had probability `pi` of the canary."""
        if not 0.0 < pi < 1.0:
            return
        factors = self._factors.get(pi) or self._make_factors(pi)
        pot = self._pot
        part = pot.transfer()
        first = pot.n == 1
        fresh = []
        total = 0.0
        for index, (each, factor) in enumerate(zip(pot.wealth, factors[0 if canary else 1], strict=True)):
            if each < part or first:
                self.marks[index] = mark
            held = (each + part) * factor
            total += held
            fresh.append(held)
        pot.wealth = fresh
        if total > _BIG or (pot.scale > 0.0 and total < 1.0):
            pot.balance()

    def on_good(self, k: int, pi: float) -> None:
        """Counts `k` requests that were not bad, of either arm; they matter only where there is a tolerance."""
        if self._delta and k and 0.0 < pi < 1.0:
            factors = (self._factors.get(pi) or self._make_factors(pi))[2]
            pot = self._pot
            pot.wealth = [each * factor**k for each, factor in zip(pot.wealth, factors, strict=True)]
            pot.balance()

    def state(self) -> BetState:
        """What `restore` needs to go on."""
        return self._pot.state()

    def restore(self, state: BetState) -> None:
        """Goes on from `state`. Raises ValueError where it is another kind of bet's."""
        self._pot.restore(state)

    def _make_factors(self, pi: float) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        rho, delta = self._rho, self._delta
        theta = pi * rho / (pi * rho + 1.0 - pi)
        ruin = rho / (1.0 - pi) + delta
        odds = [theta * (ratio - 1.0) for ratio in RATIOS]
        bets = [each / (1.0 + each) / ruin for each in odds]
        if len(self._factors) >= _MOST_FACTORS:
            self._factors.clear()
        made = self._factors[pi] = (
            tuple(1.0 + bet * (1.0 / pi - delta) for bet in bets),
            tuple(1.0 - bet * ruin for bet in bets),
            tuple(1.0 - bet * delta for bet in bets),
        )
        return made


def alternatives_to(p_max: float) -> tuple[float, ...]:
    """The failure rates above `p_max` that the absolute guard bets on."""
    spread = [p_max + (1.0 - p_max) * share for share in (0.125, 0.375, 0.625, 0.875, 0.9875)]
    return (*(p_max * by for by in (1.5, 3.0, 10.0) if p_max * by < 0.7 * spread[0]), *spread)


class Absolute:
    """The bet against p ≤ `p_max` (0 < p_max < 1) over every request of one arm; it needs nothing beside it.

    The wallet hands out after a round that had bad events: by then they are past.
    """

    __slots__ = ("_factors", "_pot")

    def __init__(self, p_max: float, *, wallet: bool = True) -> None:
        rates = alternatives_to(p_max)
        self._factors = tuple((rate / p_max, (1.0 - rate) / (1.0 - p_max)) for rate in rates)
        self._pot = _Pot(len(rates), wallet=wallet)

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value."""
        return self._pot.log_e()

    @property
    def e(self) -> float:
        """The e-value: 1 at the start; capped where it leaves what a float can hold."""
        return plain(self._pot.log_e())

    def observe(self, good: int, bad: int) -> None:
        """Bets on one round of `good` and `bad` requests, in whatever order they came."""
        left_good, left_bad = good, bad
        # In steps, because the power of a large round would leave what a float can hold.
        while left_good or left_bad:
            goods, bads = min(left_good, 1000), min(left_bad, 20)
            self._multiply(goods, bads)
            left_good, left_bad = left_good - goods, left_bad - bads
        pot = self._pot
        part = sum(pot.transfer() for _ in range(bad))
        if part:
            pot.wealth = [each + part for each in pot.wealth]

    def state(self) -> BetState:
        """What `restore` needs to go on."""
        return self._pot.state()

    def restore(self, state: BetState) -> None:
        """Goes on from `state`. Raises ValueError where it is another limit's."""
        self._pot.restore(state)

    def _multiply(self, good: int, bad: int) -> None:
        pot = self._pot
        pot.wealth = [
            each * worse**bad * better**good for each, (worse, better) in zip(pot.wealth, self._factors, strict=True)
        ]
        pot.balance()


class NonInferiority:
    """The bet against p(canary) ≥ p(stable) + `delta` (0 < delta): what it wins speaks for promotion."""

    __slots__ = ("_delta", "_factors", "_logs")

    def __init__(self, delta: float) -> None:
        self._delta = delta
        self._logs = [log(1.0 / len(CAUTION))] * len(CAUTION)
        self._factors: dict[float, tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {}

    @property
    def log_e(self) -> float:
        """The natural logarithm of the e-value."""
        return _log_sum(self._logs)

    @property
    def e(self) -> float:
        """The e-value: 1 at the start; capped where it leaves what a float can hold."""
        return plain(self.log_e)

    def on_bad(self, canary: bool, pi: float) -> None:
        """Bets on one bad event, of the canary or else of stable."""
        if 0.0 < pi < 1.0:
            self._add(self._of(pi)[0 if canary else 1], 1.0)

    def on_good(self, k: int, pi: float) -> None:
        """Bets on `k` requests of either arm that were not bad."""
        if k and 0.0 < pi < 1.0:
            self._add(self._of(pi)[2], k)

    def requests_to(self, threshold: float, pi: float, canary_rate: float, stable_rate: float) -> float:
        """About how many requests of both arms are missing until e reaches `threshold`, at those rates of bad events.

        ∞ where they would never do.
        """
        if not 0.0 < pi < 1.0:
            return inf
        bad, good = pi * canary_rate, (1.0 - pi) * stable_rate
        goal = log(threshold)
        needed = inf
        for held, canary, stable, fine in zip(self._logs, *self._of(pi), strict=True):
            growth = bad * canary + good * stable + (1.0 - bad - good) * fine
            if held >= goal:
                return 0.0
            if growth > 0.0:
                needed = min(needed, (goal - held) / growth)
        return needed if self.log_e < goal else 0.0

    def state(self) -> BetState:
        """What `restore` needs to go on."""
        return BetState(tuple(self._logs), -inf, 0)

    def restore(self, state: BetState) -> None:
        """Goes on from `state`. Raises ValueError where it is another kind of bet's."""
        if len(state.components) != len(CAUTION):
            raise ValueError(f"a state of {len(state.components)} components is not one of {len(CAUTION)}")
        self._logs = list(state.components)

    def _add(self, factors: Sequence[float], times: float) -> None:
        self._logs = [held + factor * times for held, factor in zip(self._logs, factors, strict=True)]

    def _of(self, pi: float) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        made = self._factors.get(pi)
        if made is None:
            delta = self._delta
            bets = [share / (1.0 / pi - delta) for share in CAUTION]
            if len(self._factors) >= _MOST_FACTORS:
                self._factors.clear()
            made = self._factors[pi] = (
                tuple(log1p(bet * (delta - 1.0 / pi)) for bet in bets),
                tuple(log1p(bet * (delta + 1.0 / (1.0 - pi))) for bet in bets),
                tuple(log1p(bet * delta) for bet in bets),
            )
        return made


class SampleRatio:
    """The bet against "each request goes to the canary with probability π", over assignments at one π."""

    __slots__ = ("canary", "stable")

    PRIOR = 100.0

    def __init__(self) -> None:
        self.canary = 0
        self.stable = 0

    def add(self, canary: int, stable: int) -> None:
        """Counts assignments."""
        self.canary += canary
        self.stable += stable

    def log_e(self, pi: float) -> float:
        """The natural logarithm of the e-value against probability `pi` (0 < pi < 1), in any order of assignments."""
        a, b = self.PRIOR * pi, self.PRIOR * (1.0 - pi)
        c, s = self.canary, self.stable
        mixed = lgamma(a + c) - lgamma(a) + lgamma(b + s) - lgamma(b) + lgamma(a + b) - lgamma(a + b + c + s)
        return mixed - c * log(pi) - s * log1p(-pi)


class SpentKeys:
    """The sticky keys that have already brought their one bad event; bounded.

    When full, events of keys that are not in it are no longer evidence: the oldest stay, and nothing can count twice.
    """

    __slots__ = ("_keys", "_limit")

    LIMIT = 32_768

    def __init__(self, limit: int = LIMIT) -> None:
        self._keys: set[int] = set()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def full(self) -> bool:
        """Whether no further key can bring evidence."""
        return len(self._keys) >= self._limit

    def unspent(self, key: int) -> bool:
        """Whether an event of `key` would count."""
        return key not in self._keys and len(self._keys) < self._limit

    def spend(self, key: int) -> bool:
        """Whether the event of `key` (64 bits) counts: it is the key's first, and there was room to remember it."""
        if self.unspent(key):
            self._keys.add(key)
            return True
        return False

    def state(self) -> bytes:
        """The keys, 8 bytes each."""
        return b"".join(key.to_bytes(8, "little") for key in sorted(self._keys))

    def restore(self, state: bytes) -> None:
        """Goes on from `state`."""
        self._keys = {int.from_bytes(state[at : at + 8], "little") for at in range(0, len(state), 8)}


def _log_sum(logs: Iterable[float]) -> float:
    held = list(logs)
    high = max(held)
    return high + log(sum(exp(each - high) for each in held))
