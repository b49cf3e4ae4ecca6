"""`python -m loadtest.rollback.cost`: CPU of one bad event in control, in microseconds.

Each event comes in a message of its own, is a failure and slow, and has a sticky key: the most that one can cost.
"""

from __future__ import annotations

import time

from loadtest.rollback.play import SUBJECT, arms_of
from router.core.guards import CanaryEvidence, GuardLimits
from router.core.outcome import FAILURE, SLOW, ArmBatch, BadEvent


def cost(events: int = 5000, rounds: int = 5) -> float:
    """Seconds of CPU per event, the best of `rounds`."""
    canary, stable = arms_of(10.0)
    told = [BadEvent(canary if n % 10 == 0 else stable, FAILURE | SLOW, n + 1, 0.1) for n in range(events)]
    counts = (ArmBatch(canary, ((500, "failure", True, 1),)),)
    best = float("inf")
    for _ in range(rounds):
        evidence = CanaryEvidence(GuardLimits(), True, SUBJECT)
        began = time.process_time()
        for number, event in enumerate(told):
            evidence.observe(counts, (event,), 1000.0 + number)
        best = min(best, (time.process_time() - began) / events)
    return best


if __name__ == "__main__":
    print(f"{cost() * 1e6:.1f} µs per bad event")
