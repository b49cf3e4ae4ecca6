"""`python -m loadtest.rollback`: every statistical row of the bar, with what must be and what was reached.

Rules:
1. Exit 1 where a row that was run is not held.
2. Cases that were not run keep their row in `rollback.json`, and the plot shows them all.
3. `rollback.json` is written after each case: a run that is cut short has lost one case at most.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.pool
import sys
import time
from functools import partial
from pathlib import Path

from loadtest.rollback import report
from loadtest.rollback.play import Ended, play
from loadtest.rollback.report import Row
from loadtest.rollback.scenario import CASES, Case

RESULTS = Path(__file__).parent.parent / "results"


def main() -> int:
    """Runs the cases that were asked for."""
    parser = argparse.ArgumentParser(prog="loadtest.rollback", description="Rows of the bar.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--runs", type=int, default=None, help="at most so many runs of each case")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for rollback.json and rollback.png")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    unknown = set(given.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    chosen = [case for case in CASES if not given.cases or case.name in given.cases]
    rows: dict[str, Row] = {one.name: one for one in report.earlier(given.out / "rollback.json")}
    with multiprocessing.get_context("spawn").Pool(given.jobs) as pool:
        for case in chosen:
            rows[case.name] = report.row(case, _played(pool, case, min(case.runs, given.runs or case.runs)))
            ordered = [rows[case.name] for case in CASES if case.name in rows]
            report.write(ordered, given.out / "rollback.json")
    if given.markdown:
        print(report.markdown(ordered), end="")
    else:
        report.show([row for row in ordered if row.name in {case.name for case in chosen}])
    report.draw(ordered, given.out / "rollback.png")
    return 0 if all(rows[case.name].held for case in chosen) else 1


def _played(pool: multiprocessing.pool.Pool, case: Case, runs: int) -> list[Ended]:
    began = time.monotonic()
    ended = pool.map(partial(play, case), range(runs), chunksize=max(1, min(20, runs // 20)))
    print(f"{case.name}: {runs} runs, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return ended


if __name__ == "__main__":
    sys.exit(main())
