"""Weights to slots, and a key to its slot.

Rules:
1. A region has 10 000 slots, one for each hundredth of a percent.
2. The first canary, in the order of the model's versions, takes slots from 0 up; the second from 9 999 down,
   further ones below the second. Stable has what is left between. So raising one of two canaries moves
   nobody off it, and nobody off the other.
3. A canary's place depends on its declared rank, never on whether another canary is rolled back or not ready.
4. A key's slot is `xxh64("<model>:" + key) % 10000`, the hash that Envoy uses for weighted clusters, so that every
   replica, restart and other data plane gives a user the same version.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from xxhash import xxh64_intdigest

SLOTS = 10_000


class Slots(NamedTuple):
    """A region's slots as runs: run i covers the slots from `ends[i-1]` up to, not including, `ends[i]`.

    `choices[i]` is the index of the version that has run i. `ends` rises strictly and ends with 10 000.
    """

    ends: tuple[int, ...]
    choices: tuple[int, ...]

    def version_at(self, slot: int) -> int:
        """The index of the version that has `slot` (0 ≤ slot < 10 000)."""
        return self.choices[bisect_right(self.ends, slot)]


def lay_out(stable: int, canaries: Sequence[tuple[int, int]]) -> Slots:
    """Lays the canaries' weights out over the region's slots; stable gets the rest.

    Args:
        stable: index of the stable version.
        canaries: `(index, weight)` in the order of the model's versions, weights in hundredths of a percent; a
            canary that may have nothing now stays in the list with weight 0, which keeps the others' places.

    Raises:
        ValueError: the weights are negative or sum to more than 10 000.
    """
    total = sum(weight for _, weight in canaries)
    if total > SLOTS or any(weight < 0 for _, weight in canaries):
        raise ValueError(f"canary weights {[weight for _, weight in canaries]} do not fit into {SLOTS} slots")
    below = list(canaries[:1])
    above = list(reversed(canaries[1:]))
    ends: list[int] = []
    choices: list[int] = []
    start = 0
    for index, weight in [*below, (stable, SLOTS - total), *above]:
        if weight:
            start += weight
            ends.append(start)
            choices.append(index)
    return Slots(tuple(ends), tuple(choices))


def slot_of(model: bytes, key: bytes) -> int:
    """The slot of sticky `key` under `model`: 0 ≤ slot < 10 000."""
    slot: int = xxh64_intdigest(model + b":" + key) % SLOTS
    return slot


def fingerprint(model: bytes, key: bytes) -> int:
    """Stands for sticky `key` under `model` where only equality matters: a 64-bit hash, never 0."""
    found: int = xxh64_intdigest(model + b":" + key)
    return found or 1
