"""`canary-router simulate`: how a model's guards would judge a canary that is bad in a named way.

Rules:
1. The guards and the rollout are those of the model's config; the code that judges is the one in production.
2. Beside the bad canary one as good as stable is simulated, which must not be rolled back.
3. Exit 1, with the reason, where the bad one would pass or the good one be rolled back; 2 where no badness was named.
4. The same seed gives the same figures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from router.cli.output import output_option, render
from router.cli.simulate_report import HEADER, Figures, Promise, figures, judgement, plot, row
from router.cli.simulate_traffic import Arms, Ended, Setting, Users, run, slow_share
from router.config.fields import DEFAULT_REGION
from router.config.load import load_repository
from router.config.scalars import format_weight, parse_chance, parse_duration, parse_multiple, parse_weight
from router.config.schema import ModelConfig
from router.control.steering import limits_of
from router.core.analysis import span
from router.core.plan import Plan, plan_of
from router.errors import OperatorError


class _Text(click.ParamType[Any]):
    """An option's value as configs write it."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _times(text: str) -> float:
    return parse_multiple(text if text.endswith("stable") else f"{text} stable")


CHANCE, DURATION = _Text("PERCENT", parse_chance), _Text("DURATION", parse_duration)


@click.command()
@click.argument("model")
@click.option("--config", "directory", default="config", show_default=True, type=click.Path(path_type=Path),
              help="The folder that holds models/.")  # fmt: skip
@click.option("--canary-error-rate", type=CHANCE, help="Share of the canary's requests that fail.")
@click.option("--stable-error-rate", type=CHANCE, default="0.5%", show_default=True, help="The same of stable's.")
@click.option("--canary-rejection-rate", type=CHANCE, help="Share of the canary's requests that get a 4xx.")
@click.option("--stable-rejection-rate", type=CHANCE, default="0%", show_default=True, help="The same of stable's.")
@click.option("--canary-latency", type=_Text("MULTIPLE", _times), help="How slow the canary is beside stable: 2x.")
@click.option("--onset", type=DURATION, default="0s", show_default=True, help="The canary is as good as stable before.")
@click.option("--rps", type=click.FloatRange(0.001, 100_000), default=20.0, show_default=True,
              help="Requests per second, of both versions.")  # fmt: skip
@click.option("--duration", type=DURATION, default="24h", show_default=True, help="How long a run lasts at most.")
@click.option(
    "--weight", type=_Text("WEIGHT", parse_weight), help="The canary's weight, instead of what the config says."
)
@click.option("--region", help="The region (default: the first in which the canary has weight).")
@click.option("--canary", help="Which canary (default: the rollout's, or the first version with weight).")
@click.option("--users", type=click.IntRange(10, 1_000_000), default=10_000, show_default=True,
              help="Sticky users, where the config has stickiness.")  # fmt: skip
@click.option("--failing-users", type=click.IntRange(0, 10_000), default=0, show_default=True,
              help="Sticky users beside them who always fail, whichever version they are on.")  # fmt: skip
@click.option("--runs", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Runs of each canary.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the random numbers.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Write an SVG to this file.")
@output_option
@click.pass_context
def simulate(
    context: click.Context, /, model: str, directory: Path, picture: Path | None, output: str, **given: Any
) -> None:
    """Show how MODEL's guards would judge a canary that is bad in the way named.

    For example: canary-router simulate fraud-classifier --canary-error-rate 5%

    Exits with 1, and says why, where such a canary would pass in any of the runs, or where a good one is rolled back
    more often than the config's false_alarm promises.
    """
    config = _config(directory, model)
    setting, name = _setting(config, given)
    runs, seed = given["runs"], given["seed"]
    bad = _played(setting, runs, f"{seed}-bad", f"{name}")
    good = _played(setting.good, runs, f"{seed}-good", "as good as stable")
    found = {"as good as stable": figures(good), name: figures(bad)}
    promise = Promise(setting.limits.false_alarm, setting.duration, setting.alone)
    safe, reason = judgement(figures(good), figures(bad), name, promise)
    if picture is not None:
        _write(picture, plot(bad, f"{model}: {name}"))
    click.echo(_told(model, setting, found, seed, safe, reason, output))
    context.exit(0 if safe else 1)


def _config(directory: Path, model: str) -> ModelConfig:
    loaded = load_repository(directory)
    config = loaded.configs.get(model)
    if config is None:
        problems = [str(problem) for problem in loaded.problems if problem.model in {model, ""}]
        hint = problems[0] if problems else f"there are: {', '.join(sorted(loaded.configs)) or 'none'}"
        raise OperatorError(f"there is no good config of {model!r} in {directory}", hint=hint)
    return config


def _setting(config: ModelConfig, given: dict[str, Any]) -> tuple[Setting, str]:
    """What to simulate, and what the bad canary is called."""
    limits = limits_of(config.guards)
    plan, region = _plan(config, given)
    times = given["canary_latency"]
    stable = _arms(given["stable_error_rate"], given["stable_rejection_rate"], 1.0 - limits.latency_quantile)
    canary = _arms(
        _or(given["canary_error_rate"], stable.failure),
        _or(given["canary_rejection_rate"], stable.rejection),
        slow_share(limits, _or(times, 1.0)),
    )
    _check(stable, canary, times)
    named = _named(stable, canary, times, given["onset"])
    promote = config.rollout.promote_when if config.rollout else None
    setting = Setting(
        plan=plan,
        region=region,
        limits=limits,
        tolerance=promote.no_worse_than_stable_by if promote else 0.005,
        confidence=promote.confidence if promote else 0.95,
        rps=given["rps"],
        duration=given["duration"] + given["onset"],
        stable=stable,
        canary=canary,
        onset=given["onset"],
        users=Users(given["users"], given["failing_users"]) if config.stickiness else None,
    )
    return setting, named


def _plan(config: ModelConfig, given: dict[str, Any]) -> tuple[Plan, str]:
    """The canary's plan, and the region to look at."""
    regions = [given["region"]] if given["region"] else list(dict.fromkeys((*config.regions, DEFAULT_REGION)))
    canary = given["canary"] or (config.rollout.canary if config.rollout else None)
    if canary is not None and canary not in config.versions:
        raise OperatorError(
            f"{config.model} has no version {canary!r}", hint=f"there are: {', '.join(config.versions)}"
        )
    if canary is None:
        canary = next((version for region in regions for version in _canaries(config, region)), None)
    if given["weight"] is not None:
        plan = Plan(config.model, canary or "canary", "simulated", by_hand={regions[0]: given["weight"]})
        return plan, regions[0]
    if canary is None:
        raise OperatorError(
            f"no version of {config.model} is a canary in {', '.join(regions)}",
            hint="give it a weight in the config, or say which one to simulate: --weight 10%",
        )
    for region in regions:
        plan = plan_of(config, canary, [region], digest="simulated")
        if plan.automatic or plan.by_hand.get(region):
            return plan, region
    raise OperatorError(
        f"{canary} has no weight in {', '.join(regions)}", hint="say which one to simulate: --weight 10%"
    )


def _canaries(config: ModelConfig, region: str) -> Sequence[str]:
    weights = config.weights_in(region)
    return [version for version in config.versions if weights.get(version) and version != config.stable_in(region)]


def _arms(failure: float, rejection: float, slow: float) -> Arms:
    """Shares of one version; of those that neither fail nor are rejected, `slow` are slow."""
    rest = 1.0 - failure - rejection
    if rest < -1e-9:
        raise click.UsageError("the shares of failures and of rejections are more than 100 % together")
    return Arms(failure, rejection, max(0.0, rest) * slow)


def _check(stable: Arms, canary: Arms, times: float | None) -> None:
    worse = canary.failure > stable.failure or canary.rejection > stable.rejection
    if not worse and not (times is not None and canary.slow > stable.slow):
        raise click.UsageError(
            "name what is bad about the canary, worse than stable: --canary-error-rate 5%, "
            "--canary-rejection-rate 10% or --canary-latency 2x"
        )


def _named(stable: Arms, canary: Arms, times: float | None, onset: float) -> str:
    words = []
    if canary.failure != stable.failure:
        words.append(f"{_percent(canary.failure)} of requests failing")
    if canary.rejection != stable.rejection:
        words.append(f"{_percent(canary.rejection)} of requests rejected")
    if times is not None:
        words.append(f"{times:g}x stable's latency")
    late = f" after {span(onset)}" if onset else ""
    return ", ".join(words) + late


def _percent(rate: float) -> str:
    return f"{100.0 * rate:.4g} %"


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _played(setting: Setting, runs: int, seed: str, name: str) -> list[Ended]:
    ended: list[Ended] = []
    with click.progressbar(length=runs, label=name, file=sys.stderr) as bar:
        for number in range(runs):
            ended.append(run(setting, f"{seed}-{number}"))
            bar.update(1)
    return ended


def _write(picture: Path, text: str) -> None:
    try:
        picture.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperatorError(
            f"cannot write {picture}: {error.strerror}", hint="name another file with --plot"
        ) from error


def _told(
    model: str, setting: Setting, found: dict[str, Figures], seed: int, safe: bool, reason: str, output: str
) -> str:
    rows = [row(name, one) for name, one in found.items()]
    steps = [format_weight(step.weight) for step in setting.plan.steps] or [
        format_weight(setting.plan.by_hand[setting.region])
    ]
    good, bad = found.values()
    data = {
        "model": model,
        "canary": setting.plan.canary,
        "region": setting.region,
        "weights": steps,
        "rps": setting.rps,
        "duration": setting.duration,
        "onset": setting.onset,
        "sticky": setting.users is not None,
        "seed": seed,
        "good": asdict(good),
        "bad": asdict(bad),
        "safe": safe,
        "reason": reason,
    }
    printed = render(data, HEADER, rows, output)
    if output in {"json", "yaml"}:
        return printed
    where = f"{setting.plan.canary} of {model} in {setting.region} at {', '.join(steps)}, {setting.rps:g} requests/s"
    return "\n".join([where, printed, reason])
