"""What a comparison's rounds amount to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.compare import peers, report
from loadtest.compare.rounds import OURS, Runs, added_latency, line
from loadtest.rig import Run


def run(cpu: float, p50: float = 100.0, errors: int = 0) -> Run:
    """One run that took so many microseconds."""
    return Run(cpu, 1000.0, p50, 2 * p50, errors)


RUNS: Runs = {
    (OURS, 1): [run(30, p50=50), run(30, p50=60), run(30, p50=70)],
    ("nginx", 1): [run(20, p50=40), run(20, p50=40), run(20, p50=50)],
    ("no proxy", 1): [run(5, p50=20), run(5, p50=20), run(5, p50=20)],
    (OURS, 32): [run(30), run(60), run(30)],
    ("nginx", 32): [run(20), run(40, errors=2), run(10)],
}


def test_ratios_are_medians_of_rounds_not_ratios_of_medians() -> None:
    assert line(RUNS, "nginx", 32).ratio == pytest.approx(1.5)
    assert line(RUNS, "nginx", 32).cpu_us == 20
    assert line(RUNS, "nginx", 32).errors == 2


def test_added_latency_leaves_out_the_servers_own() -> None:
    assert added_latency(RUNS, "nginx") == pytest.approx(5 / 3)


def test_added_latency_is_unknown_without_the_server_alone() -> None:
    assert added_latency({(OURS, 1): [run(30)], ("nginx", 1): [run(20)]}, "nginx") is None


def test_the_bar_is_for_many_connections_and_names_what_it_measures() -> None:
    judged = report.judge(RUNS, report.lines(RUNS))

    assert [what for what, _, _ in judged] == ["CPU per request, c = 32, × nginx", "added latency, c = 1, × nginx"]
    assert [figure for _, figure, _ in judged] == pytest.approx([1.5, 5 / 3])
    assert {bound for _, _, bound in judged} == {1.5}


@pytest.mark.parametrize(
    ("figure", "words"), [(1.49, "1.49, at most 1.5: held"), (1.51, "1.51, at most 1.5: NOT held")]
)
def test_a_figure_is_printed_beside_its_bar(capsys: pytest.CaptureFixture[str], figure: float, words: str) -> None:
    assert report.verdict("CPU", figure, 1.5) is (figure < 1.5)
    assert capsys.readouterr().out == f"CPU: {words}\n"


def test_every_run_is_written(tmp_path: Path) -> None:
    report.write(tmp_path / "new" / "compare.json", RUNS, {"nginx": 6.0})

    written = json.loads((tmp_path / "new" / "compare.json").read_text())
    assert [len(one["runs"]) for one in written["runs"]] == [3] * 5
    assert written["worker_pss_mb"] == {"nginx": 6.0}


def test_what_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    assert peers.missing(list(peers.ALL)) == peers.INSTALL
