"""`python -m loadtest.compare [WHAT]`: measures, and prints each figure beside its bar; see `--help` for what there is.

Rules:
1. Exit 0 if every bar is held, 1 if one is not or a program is missing.
2. Whatever is printed is also written, as JSON, under `--out`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

from loadtest.compare import footprint, report, rounds, snapshots
from loadtest.compare.peers import ALL, missing, started
from loadtest.rig import LUA, MissingProgramError, need, scratch, upstream

MEMORY_BAR = {10: 50.0, 1000: 80.0}
IDLE_BAR_KIB = 6.0
VISIBLE = 1.1
FLAT_MB = 2.0
LARGE_BAR_MB = 32.0
SCRAPE_BAR_MS = 500.0
SNAPSHOT_BAR_MS = 100.0
DELAY_BAR_MS = 10.0


def compare(args: argparse.Namespace) -> bool:
    """All proxies on the same work."""
    names = [name for name in ALL if not args.only or name in args.only]
    for name, how in missing(names).items():
        print(f"left out: {name}, which is not installed; {how}")
        names.remove(name)
    with scratch() as folder, upstream(folder) as server, started(names, folder, server) as peers:
        lua = folder / "post.lua"
        lua.write_text(LUA)
        runs = rounds.play(peers, args.connections, args.rounds, args.seconds, lua)
        memory = {peer.name: rounds.worker_pss(peer) for peer in peers}
    table = report.lines(runs)
    report.show(table, memory)
    report.write(args.out / "compare.json", runs, memory)
    drawn = report.draw(args.out / "compare.png", table)
    print(f"written: {args.out}/compare.json" + (", compare.png" if drawn else "; no plot without matplotlib"))
    held = [report.verdict(*found) for found in report.judge(runs, table)]
    return all(held)


def memory(args: argparse.Namespace) -> bool:
    """A worker's memory, with few models and with many."""
    found = {models: footprint.memory(models) for models in MEMORY_BAR}
    _write(args.out / "memory.json", found)
    held = [report.verdict(f"a worker with {n} models", mb, MEMORY_BAR[n], " MB") for n, mb in found.items()]
    return all(held)


def metrics(args: argparse.Namespace) -> bool:
    """A scrape of many models."""
    many = args.many or 1000
    found = footprint.scrapes(many, args.rounds)
    _write(args.out / "metrics.json", found)
    return report.verdict(f"/metrics with {many} models", statistics.median(found) * 1e3, SCRAPE_BAR_MS, " ms")


def idle(args: argparse.Namespace) -> bool:
    """What idle connections take."""
    found = footprint.idle(args.many or 10_000, args.rounds, args.seconds)
    cpu, p99 = footprint.cost_of_idle(found)
    _write(args.out / "idle.json", asdict(found))
    held = [
        report.verdict("an idle connection", found.bytes_each / 1024, IDLE_BAR_KIB, " KiB"),
        report.verdict("CPU per request beside them, × without", cpu, VISIBLE),
    ]
    print(f"p99 at 32 connections beside them: {p99:.2f} × without")
    return all(held)


def churn(args: argparse.Namespace) -> bool:
    """Memory over connections that come and go."""
    many = args.many or 100_000
    found = footprint.churn(many, 5)
    _write(args.out / "churn.json", found)
    print("MB after each fifth: " + ", ".join(f"{mb:.1f}" for mb in found))
    return report.verdict(
        f"growth from the first fifth of {many} connections to the last", found[-1] - found[1], FLAT_MB
    )


def large(args: argparse.Namespace) -> bool:
    """Memory while large bodies pass."""
    found = footprint.large(args.many or 10, 1 << 30)
    _write(args.out / "large.json", found)
    bodies = f"of 1 GiB each, {args.many or 10} at once"
    held = [report.verdict(f"{way}s {bodies}", mb, LARGE_BAR_MB, " MB more") for way, mb in found.items()]
    return all(held)


def snapshot(args: argparse.Namespace) -> bool:
    """A whole snapshot of many models."""
    found = snapshots.measure(args.many or 1000, args.rounds, 10.0, 500)
    _write(args.out / "snapshot.json", found)
    print(json.dumps(found))
    return all(
        [
            report.verdict("a snapshot in force, median", float(str(found["median_ms"])), SNAPSHOT_BAR_MS, " ms"),
            report.verdict(
                "p99.9 of requests over a quiet link", float(str(found["p99.9_delay_ms"])), DELAY_BAR_MS, " ms"
            ),
        ]
    )


def _write(path: Path, found: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2))


WHAT = {
    "peers": compare,
    "memory": memory,
    "metrics": metrics,
    "idle": idle,
    "churn": churn,
    "large": large,
    "snapshot": snapshot,
}


def main() -> int:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(prog="loadtest.compare")
    parser.add_argument("what", nargs="?", default="peers", choices=WHAT)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=ALL, help="these proxies alone")
    parser.add_argument("--many", type=int, help="models, connections or bodies, where the default is not wanted")
    parser.add_argument("--out", type=Path, default=Path("loadtest/results"))
    args = parser.parse_args()
    try:
        need("nginx", "wrk")
    except MissingProgramError as absent:
        print(absent, file=sys.stderr)
        return 1
    return 0 if WHAT[args.what](args) else 1


if __name__ == "__main__":
    sys.exit(main())
