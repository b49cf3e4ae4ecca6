"""Rounds in which every proxy has its turn, and what they amount to.

Rules:
1. In each round every proxy runs once per number of connections; a round starts with another proxy than the last.
2. Ratios are medians of the ratios within rounds: what changes the machine's speed changes both sides.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

from loadtest.rig import Peer, Run, cpu_seconds, load, pss_mb, tree

OURS = "canary-router"
Runs = dict[tuple[str, int], list[Run]]
"""By proxy and number of connections: one run per round."""


def play(peers: list[Peer], connections: list[int], rounds: int, seconds: int, lua: Path) -> Runs:
    """Loads each of `peers` at each number of `connections`, in turn."""
    found: Runs = {(peer.name, many): [] for peer in peers for many in connections}
    for peer in peers:
        load(peer, lua, 8, 1)
    for number in range(rounds):
        shift = number % len(peers)
        for peer in peers[shift:] + peers[:shift]:
            for many in connections:
                found[peer.name, many].append(load(peer, lua, many, seconds))
        print(f"round {number + 1} of {rounds} done", flush=True)
    return found


def worker_pss(peer: Peer) -> float:
    """Proportional set size in MB of the process of `peer` that does the work: the one that used most CPU."""
    return pss_mb(max(tree(peer.pid), key=lambda pid: cpu_seconds(pid) if pid != peer.pid else own_cpu(peer)))


def own_cpu(peer: Peer) -> float:
    """CPU seconds of the root process of `peer` without its children."""
    return cpu_seconds(peer.pid) - sum(cpu_seconds(pid) for pid in tree(peer.pid) - {peer.pid})


@dataclass(frozen=True)
class Line:
    """One line of the table: medians. `ratio` is our CPU per request as a multiple of this proxy's."""

    name: str
    connections: int
    cpu_us: float
    ratio: float
    rps: float
    p50_us: float
    p99_us: float
    errors: int


def line(runs: Runs, name: str, connections: int) -> Line:
    """The medians of one proxy at one number of connections."""
    own = runs[name, connections]
    ours = runs.get((OURS, connections), own)
    return Line(
        name,
        connections,
        statistics.median(run.cpu_us for run in own),
        statistics.median(our.cpu_us / run.cpu_us for our, run in zip(ours, own, strict=True)),
        statistics.median(run.rps for run in own),
        statistics.median(run.p50_us for run in own),
        statistics.median(run.p99_us for run in own),
        sum(run.errors for run in own),
    )


def added_latency(runs: Runs, peer: str) -> float | None:
    """What we add to the median latency at one connection, as a multiple of what `peer` adds; None where unknown."""
    ours, theirs, bare = (runs.get((name, 1), []) for name in (OURS, peer, "no proxy"))
    if not (ours and theirs and bare):
        return None
    return statistics.median(
        (our.p50_us - none.p50_us) / (their.p50_us - none.p50_us)
        for our, their, none in zip(ours, theirs, bare, strict=True)
    )
