"""`make bench`: what one forwarded request costs, against nginx `split_clients`, in alternating runs.

500-byte POST, 100-byte answer, one worker on one core, every feature on; CPU of the whole process tree, control
and supervisor included. Every request has another sticky key and another body than the one before it, unless the row
says otherwise. Exits 1 where a median ratio is above its row's bound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.rig import (
    DIFFERENT,
    MissingProgramError,
    Run,
    load,
    need,
    nginx_proxy,
    router,
    scratch,
    traffic,
    upstream,
)

COLUMNS = f"{'pair':>4}  {'nginx µs':>9}  {'router µs':>9}  {'ratio':>6}  {'nginx p99':>10}  {'router p99':>10}"


@dataclass(frozen=True)
class Row:
    """One kind of work. `bound` is how many times nginx's cost ours may be; of `models`, `used` get requests."""

    connections: int
    bound: float
    models: int = 1
    used: int = 1
    versions: int = 2
    different: int = DIFFERENT


ROWS = {
    "32": Row(32, 1.5),
    "128": Row(128, 1.5),
    "32-same": Row(32, 1.5, different=1),
    "32-one-of-1000": Row(32, 1.7, models=1000, versions=4),
    "32-all-of-1000": Row(32, 4.0, models=1000, used=1000, versions=4),
}


def pairs(row: Row, count: int, seconds: int) -> list[tuple[Run, Run]]:
    """`count` runs of each, in turn."""
    found = []
    with scratch() as folder, upstream(folder) as port:
        lua = folder / "post.lua"
        lua.write_text(traffic(models=row.used, different=row.different))
        with (
            nginx_proxy(folder, port) as peer,
            router(folder, port, models=row.models, versions=row.versions) as ours,
        ):
            load(peer, lua, row.connections, 1)
            load(ours, lua, row.connections, 1)
            print(COLUMNS)
            for number in range(1, count + 1):
                theirs_run = load(peer, lua, row.connections, seconds)
                ours_run = load(ours, lua, row.connections, seconds)
                found.append((theirs_run, ours_run))
                print(
                    f"{number:>4}  {theirs_run.cpu_us:>9.1f}  {ours_run.cpu_us:>9.1f}"
                    f"  {ours_run.cpu_us / theirs_run.cpu_us:>6.2f}"
                    f"  {theirs_run.p99_us:>8.0f}µs  {ours_run.p99_us:>8.0f}µs",
                    flush=True,
                )
    return found


def measured(row: Row, count: int, seconds: int) -> dict[str, object]:
    """Runs `row` and prints its verdict."""
    print(
        f"{row.connections} connections, {row.models} models of {row.versions} versions, {row.used} used, "
        f"{row.different} different requests"
    )
    found = pairs(row, count, seconds)
    ratio = statistics.median(ours.cpu_us / theirs.cpu_us for theirs, ours in found)
    errors = sum(ours.errors for _, ours in found)
    held = ratio <= row.bound and not errors
    print(f"median: {ratio:.2f} × nginx (at most {row.bound}), {errors} errors: {'held' if held else 'NOT held'}\n")
    return {
        **asdict(row),
        "median_ratio": ratio,
        "held": held,
        "pairs": [{"nginx": asdict(theirs), "router": asdict(ours)} for theirs, ours in found],
    }


def main() -> int:
    """Runs it and prints the verdicts."""
    parser = argparse.ArgumentParser(prog="loadtest.bench")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which of {', '.join(ROWS)}; all of them otherwise")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("loadtest/results/bench.json"))
    args = parser.parse_args()
    unknown = set(args.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    try:
        need("nginx", "wrk")
    except MissingProgramError as missing:
        print(missing, file=sys.stderr)
        return 1
    found = {name: measured(ROWS[name], args.pairs, args.seconds) for name in args.rows or ROWS}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(found, indent=2))
    return 0 if all(row["held"] for row in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
