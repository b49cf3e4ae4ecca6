"""`python -m loadtest.rollback`: every statistical row of the bar, with what must be and what was reached.

Exits with 1 where a row is not held.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.pool
import sys
import time
from functools import partial
from pathlib import Path

from loadtest.rollback.play import Ended, play
from loadtest.rollback.report import Row, draw, row, show, write
from loadtest.rollback.scenario import CASES, Case

RESULTS = Path(__file__).parent.parent / "results"


def main() -> int:
    """Runs the cases that were asked for."""
    parser = argparse.ArgumentParser(prog="loadtest.rollback", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--runs", type=int, default=None, help="at most so many runs of each case")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for rollback.json and rollback.png")
    given = parser.parse_args()
    unknown = set(given.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    ended: dict[str, list[Ended]] = {}
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for case in CASES:
            if given.cases and case.name not in given.cases:
                continue
            runs = min(case.runs, given.runs or case.runs)
            ended[case.name] = _played(pool, case, runs)
            rows.append(row(case, ended[case.name]))
    show(rows)
    write(rows, given.out / "rollback.json")
    draw(rows, ended, given.out / "rollback.png")
    return 0 if all(one.held for one in rows) else 1


def _played(pool: multiprocessing.pool.Pool, case: Case, runs: int) -> list[Ended]:
    began = time.monotonic()
    ended = pool.map(partial(play, case), range(runs), chunksize=max(1, min(20, runs // 20)))
    print(f"{case.name}: {runs} runs, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return ended


if __name__ == "__main__":
    sys.exit(main())
