"""`canary-router simulate`."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from random import Random

import pytest

from router.cli.main import run
from router.cli.simulate_traffic import Arms, Setting, Users, _binomial, slow_share
from router.cli.simulate_traffic import run as simulate
from router.core.guards import GuardLimits
from router.core.plan import Plan, Rung

BY_HAND = """\
model: fraud
versions: {v3: {model_uri: models:/fraud/3}, v4: {model_uri: models:/fraud/4}}
stable: v3
regions: {default: {v3: 100}, eu-west: {v3: 90, v4: 10}}
"""
ROLLOUT = """\
model: fraud
versions: {v3: {model_uri: models:/fraud/3}, v4: {model_uri: models:/fraud/4}}
stable: v3
rollout:
  canary: v4
  steps:
    - {weight: 10%, hold: 10m}
    - {weight: 25%, hold: 10m, approval: true}
    - {weight: 100%}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    written(tmp_path, BY_HAND)
    return tmp_path


def written(root: Path, text: str) -> None:
    (root / "models" / "fraud.yaml").write_text(text, encoding="utf-8")


def simulated(root: Path, *options: str) -> int:
    return run(["simulate", "fraud", "--config", str(root), "--runs", "5", "--duration", "2h", *options])


def setting(**given: object) -> Setting:
    known: dict[str, object] = {
        "plan": Plan("fraud", "v4", "simulated", by_hand={"default": 1000}), "region": "default",
        "limits": GuardLimits(), "tolerance": 0.005, "confidence": 0.95, "rps": 20.0, "duration": 3600.0,
        "stable": Arms(0.005), "canary": Arms(0.2),
    }  # fmt: skip
    return Setting(**{**known, **given})  # type: ignore[arg-type]  # the names are the fields'


def test_a_bad_canary_is_rolled_back_and_a_good_one_is_not(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulated(root, "--canary-error-rate", "20%") == 0
    where, _, good, bad, reason = capsys.readouterr().out.splitlines()

    assert where == "v4 of fraud in eu-west at 10%, 20 requests/s"
    assert good.split()[:7] == ["as", "good", "as", "stable", "5", "0", "5"]
    assert "errors 5" in bad
    assert reason.startswith("safe: all 5 canaries with 20 % of requests failing were rolled back")


def test_a_config_that_would_let_the_bad_one_pass_is_not_called_safe(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulated(root, "--canary-error-rate", "0.6%", "-o", "json") == 1
    told = json.loads(capsys.readouterr().out)

    assert told["safe"] is False
    assert told["bad"]["passed"] == 5
    assert told["reason"].startswith("NOT safe: 5 of 5 canaries with 0.6 % of requests failing would have passed")


def test_failures_that_are_allowed_are_not_told_from_slowness(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lax = "guards: {errors: {at_most: 20x stable}, latency: {p95: 20x stable}}\n"
    written(root, BY_HAND + lax)

    assert simulated(root, "--canary-error-rate", "5%", "-o", "json") == 1
    assert json.loads(capsys.readouterr().out)["bad"]["passed"] == 5


def test_limits_that_a_good_canary_breaks_are_not_called_safe(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(root, BY_HAND + "guards: {error_rate: {max: 0.3%}}\n")

    assert simulated(root, "--canary-error-rate", "20%", "--weight", "100%") == 1
    told = capsys.readouterr().out
    assert "NOT usable: 5 of 5 good canaries were rolled back" in told
    assert "raise error_rate.max" in told


def test_where_the_canary_is_alone_more_traffic_is_no_advice(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulated(root, "--canary-error-rate", "5%", "--weight", "100%", "--rps", "2") == 1
    assert "no stable runs beside it" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_figures(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for seed in ("3", "3", "4"):
        simulated(root, "--canary-error-rate", "5%", "--seed", seed)
        outputs.append(capsys.readouterr().out)

    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize(
    ("option", "value", "guard"),
    [("--canary-rejection-rate", "50%", "rejections"), ("--canary-latency", "2x", "latency")],
)
def test_every_kind_of_badness_has_its_guard(
    root: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, guard: str
) -> None:
    assert simulated(root, option, value, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["bad"]["guards"] == {guard: 5}


def test_a_rollout_is_followed_step_by_step(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(root, ROLLOUT)

    assert simulated(root, "--canary-error-rate", "5%", "--stable-error-rate", "0.1%", "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["weights"] == ["10%", "25%", "100%"]
    assert (told["good"]["passed"], told["bad"]["rolled_back"]) == (5, 5)


def test_a_bad_canary_that_a_rollout_holds_back_has_not_passed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(root, ROLLOUT)

    assert simulated(root, "--canary-error-rate", "1.5%", "--rps", "2", "--duration", "15m") == 0
    told = capsys.readouterr().out
    assert "were held back without a rollback" in told
    assert "so were 5 of 5 good ones" in told


def test_late_onset_counts_from_the_onset() -> None:
    ended = [simulate(setting(canary=Arms(1.0), onset=1800.0), f"late-{number}") for number in range(5)]

    assert {one.end for one in ended} == {"rolled back"}
    assert all(one.requests <= 15 and 0 < one.seconds < 30 and not one.early for one in ended)


def test_a_canary_that_turns_bad_only_after_its_rollout_is_still_judged() -> None:
    plan = Plan("fraud", "v4", "simulated", stages=(("default",),), steps=(Rung(5000), Rung(10_000)))
    late = setting(plan=plan, canary=Arms(1.0), stable=Arms(), onset=1800.0)

    assert simulate(late, "through").guard == "absolute"


def test_users_who_always_fail_are_no_reason() -> None:
    sticky = setting(users=Users(1000, 5, 60.0), duration=1800.0)

    assert simulate(sticky.good, "sticky").end == "passed"
    assert simulate(sticky, "sticky").end == "rolled back"


def test_where_nothing_is_bad_nothing_happens() -> None:
    assert simulate(setting(stable=Arms(), rps=0.001).good, "quiet").end == "passed"
    assert slow_share(GuardLimits(), 1.25) == pytest.approx(0.05)


def test_counts_have_the_mean_they_should() -> None:
    random = Random(5)  # noqa: S311 - only to be repeatable
    for n in (30, 3000):
        assert sum(_binomial(random, n, 0.1) for _ in range(300)) / 300 == pytest.approx(n / 10, rel=0.1)


def test_the_plot_is_a_picture(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulated(root, "--canary-error-rate", "20%", "--plot", str(tmp_path / "out.svg"))
    assert ET.parse(tmp_path / "out.svg").getroot().tag.endswith("svg")  # noqa: S314 - our own file
    capsys.readouterr()

    assert simulated(root, "--canary-error-rate", "20%", "--plot", str(tmp_path / "no" / "out.svg")) == 1
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--canary-error-rate", "0.5%"),
        ("--canary-error-rate", "0.05"),
        ("--canary-error-rate", "60%", "--canary-rejection-rate", "60%"),
        ("--canary-latency", "fast"),
    ],
)
def test_wrong_usage_is_told(root: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    assert simulated(root, *options) == 2
    assert "Error:" in capsys.readouterr().err


def test_what_cannot_be_simulated_is_told_with_a_way_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ("--canary-error-rate", "20%")
    assert simulated(root, *bad, "--region", "default") == 1
    assert "--weight 10%" in capsys.readouterr().err
    assert simulated(root, *bad, "--region", "default", "--canary", "v4") == 1
    assert "v4 has no weight in default" in capsys.readouterr().err
    assert simulated(root, *bad, "--canary", "v9") == 1
    assert "there are: v3, v4" in capsys.readouterr().err
    assert run(["simulate", "churn", "--config", str(root), *bad]) == 1
    assert "there are: fraud" in capsys.readouterr().err
    written(root, BY_HAND.replace("stable: v3", "stabel: v3"))
    assert simulated(root, *bad) == 1
    assert "fraud.yaml:1:1: stable" in capsys.readouterr().err


def test_a_weight_can_be_tried_before_it_is_in_the_config(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulated(root, "--canary-error-rate", "20%", "--region", "default", "--weight", "50%") == 0
    assert "canary of fraud in default at 50%" in capsys.readouterr().out
