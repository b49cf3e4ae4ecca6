"""`make bench`: what one forwarded request costs, against nginx `split_clients`, in alternating runs.

500-byte POST, 100-byte answer, one worker on one core, every feature on; CPU of the whole process tree, control
and supervisor included. Exits 1 where the median ratio is above the bound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

from loadtest.rig import LUA, MissingProgramError, Run, load, need, nginx_proxy, router, scratch, upstream

BOUND = 2.0
COLUMNS = f"{'pair':>4}  {'nginx µs':>9}  {'router µs':>9}  {'ratio':>6}  {'nginx p99':>10}  {'router p99':>10}"


def pairs(connections: int, count: int, seconds: int, models: int) -> list[tuple[Run, Run]]:
    """`count` runs of each, in turn."""
    found = []
    with scratch() as folder, upstream(folder) as port:
        lua = folder / "post.lua"
        lua.write_text(LUA)
        with nginx_proxy(folder, port) as peer, router(folder, port, models=models) as ours:
            load(peer, lua, connections, 1)
            load(ours, lua, connections, 1)
            print(COLUMNS)
            for number in range(1, count + 1):
                theirs_run = load(peer, lua, connections, seconds)
                ours_run = load(ours, lua, connections, seconds)
                found.append((theirs_run, ours_run))
                print(
                    f"{number:>4}  {theirs_run.cpu_us:>9.1f}  {ours_run.cpu_us:>9.1f}"
                    f"  {ours_run.cpu_us / theirs_run.cpu_us:>6.2f}"
                    f"  {theirs_run.p99_us:>8.0f}µs  {ours_run.p99_us:>8.0f}µs",
                    flush=True,
                )
    return found


def main() -> int:
    """Runs it and prints the verdict."""
    parser = argparse.ArgumentParser(prog="loadtest.bench")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--json", type=Path, default=Path("loadtest/results/bench.json"))
    args = parser.parse_args()
    try:
        need("nginx", "wrk")
    except MissingProgramError as missing:
        print(missing, file=sys.stderr)
        return 1
    found = pairs(args.connections, args.pairs, args.seconds, args.models)
    ratio = statistics.median(ours.cpu_us / theirs.cpu_us for theirs, ours in found)
    errors = sum(ours.errors for _, ours in found)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(
        json.dumps(
            {
                "connections": args.connections,
                "models": args.models,
                "median_ratio": ratio,
                "pairs": [{"nginx": asdict(theirs), "router": asdict(ours)} for theirs, ours in found],
            },
            indent=2,
        )
    )
    held = ratio <= BOUND and not errors
    print(
        f"median: {ratio:.2f} × nginx (at most {BOUND}), {errors} errors, "
        f"{args.connections} connections, {args.models} models: {'held' if held else 'NOT held'}"
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
