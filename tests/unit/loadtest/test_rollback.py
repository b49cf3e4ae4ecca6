"""A small version of the simulation: the same engine, traffic and seeds, fewer runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtest.rollback import report
from loadtest.rollback.play import Ended, play
from loadtest.rollback.scenario import CASES, Case, Phase, Poison, Rates, slow_share
from loadtest.rollback.traffic import draw, draw_sticky
from router.core.outcome import FAILURE, SLOW

DOCS = Path(__file__).parents[3] / "docs"


def case(name: str) -> Case:
    return next(one for one in CASES if one.name == name)


def played(name: str, runs: int) -> report.Row:
    return report.row(case(name), [play(case(name), run) for run in range(runs)])


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("dead", 40), ("errors-20", 150), ("errors-5", 100), ("rejected", 40), ("late-100", 15), ("late-20", 25),
        ("slow", 60), ("same-slow-pace", 40), ("sticky-5", 2), ("shared-all", 1),
        ("shared-all-50", 10), ("absolute-late", 20),
    ],
)  # fmt: skip
def test_what_must_be_is_reached(name: str, runs: int) -> None:
    row = played(name, runs)

    assert row.held, row
    assert row.early == 0
    assert row.measure != "rolled back" or row.reached == 0


def test_a_run_can_be_had_again_from_its_seed() -> None:
    assert play(case("errors-5"), 7) == play(case("errors-5"), 7)
    assert len({one.seed for one in CASES}) == len(CASES)


def test_traffic_has_the_rates_it_was_asked_for() -> None:
    phase = Phase(36_000.0, 20.0, Rates(0.01, 0.02, 0.0), Rates(0.05, 0.0, 0.1))
    drawn = draw(phase, 20.0, np.random.default_rng(1))
    ours, stables = int(drawn.ours[-1]), int(drawn.stables[-1])

    assert ours / (ours + stables) == pytest.approx(0.2, rel=0.02)
    assert (drawn.canary & (drawn.kind == (FAILURE | SLOW))).sum() / ours == pytest.approx(0.05, rel=0.05)
    assert (drawn.canary & (drawn.kind == SLOW)).sum() / ours == pytest.approx(0.1, rel=0.05)
    assert (~drawn.canary).sum() / stables == pytest.approx(0.03, rel=0.05)
    assert (np.diff(drawn.at) >= 0).all()


def test_sticky_users_keep_their_version() -> None:
    rng = np.random.default_rng(2)
    drawn = draw_sticky(Phase(86_400.0, 30.0), 20.0, Poison(5, 60.0, 100), rng.random(105), rng)
    versions: dict[int, set[bool]] = {}
    for key, canary in zip(drawn.key.tolist(), drawn.canary.tolist(), strict=True):
        versions.setdefault(key, set()).add(canary)

    assert all(len(found) == 1 for found in versions.values())
    assert len(versions) == 105


def test_twice_as_slow_is_slow_more_often() -> None:
    assert slow_share(0.5, 1.25) == pytest.approx(0.05)
    assert 0.0 < slow_share(0.5, 1.0) < 0.05 < slow_share(0.5, 2.0) < 1.0


def test_one_bad_event_costs_control_less_than_50_microseconds() -> None:
    # In a process of its own: what measures coverage would be measured as well.
    told = subprocess.run([sys.executable, "-m", "loadtest.rollback.cost"], capture_output=True, text=True, check=True)

    assert 0.0 < float(told.stdout.split()[0]) < 50.0


def test_the_report_says_what_was_held_and_what_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [Ended("errors", False, 2.0, 900), Ended("errors", False, 3.0, 1000), Ended("latency", True, 1.0, 5)]
    rows = [
        report.row(case("errors-20"), found),
        report.row(case("errors-5"), [*found, Ended("", False, 0.0, 0)]),
        report.row(case("same"), [Ended("", False, 0.0, 0)]),
    ]
    report.show(rows)
    report.write(rows, tmp_path / "rollback.json")
    written = json.loads((tmp_path / "rollback.json").read_text(encoding="utf-8"))

    assert capsys.readouterr().out.count("NOT held") == 2
    assert report.markdown(rows).count("(not held)") == 2
    assert [one["held"] for one in written] == [False, False, True]
    assert report.earlier(tmp_path / "rollback.json") == rows
    assert report.earlier(tmp_path / "none.json") == []
    assert (rows[0].reached, rows[0].early, rows[1].reached) == (950.0, 1, None)


def test_the_page_has_the_figures_that_were_reached() -> None:
    rows = report.earlier(DOCS / "figures" / "rollback.json")

    assert [row.name for row in rows] == [one.name for one in CASES]
    assert [(row.seed, row.must, row.runs) for row in rows] == [(one.seed, one.must, one.runs) for one in CASES]
    assert all(row.held for row in rows)
    assert report.markdown(rows) in (DOCS / "evidence.md").read_text(encoding="utf-8")
