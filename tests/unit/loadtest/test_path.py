"""What a request may cost beside a bare forwarder: a gate that a busy machine does not fool."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

TURNS = 3
"""A quick machine is slow for a moment, a slow path is slow each time."""


def costs(models: int) -> dict[str, float]:
    """One measurement, in a process of its own: it tunes the garbage collector."""
    command = [sys.executable, "-m", "loadtest.path", str(models)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    return found


@pytest.mark.parametrize(("models", "ratio", "calls"), [(1, 1.7, 60), (1000, 2.4, 66)])
def test_the_path_costs_little_more_than_a_bare_forwarder(models: int, ratio: float, calls: int) -> None:
    seen = []
    for _ in range(TURNS):
        cost = costs(models)
        assert cost["calls"] <= calls, "a call more in the straight way"
        seen.append(cost["ratio"])
        if cost["ratio"] <= ratio:
            return
    pytest.fail(f"at most {ratio} × the bare forwarder, and it was {seen}")
