"""What a rollout means together with the rest of its model's file.

Rules:
1. A version is steered by hand or by its rollout, never both: no line under `regions` names the rollout's canary.
2. The canary is stable nowhere: where it is, there is nothing left to roll out.
3. Weights rise from step to step, and stable has that much to give in every region the rollout goes to.
4. As all checks: silent where what they look at is broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router.config.fields import DEFAULT_REGION
from router.config.look import check_defined, entries, get, stable_in, weight_of
from router.config.problems import Report, one_of, quote
from router.config.scalars import format_weight
from router.config.yaml import Entry, List, Map, Path, Text


def check_rollout(root: Map, versions: Mapping[str, Entry], regions: Sequence[str] | None, report: Report) -> None:
    """Reports what is wrong with the rollout in the model file `root` although each field by itself may be right.

    Args:
        root: the tree of the file.
        versions: what `versions` has.
        regions: the regions there are; None where nobody wrote them down.
        report: gets the problems.
    """
    canary = get(root, "rollout", "canary")
    if isinstance(canary, Text):
        check_defined(canary, ("rollout", "canary"), versions, report)
        _check_stable_nowhere(root, canary, report)
        _check_not_by_hand(root, canary, report)
    _check_regions(root, regions, report)
    _check_steps(root, report)


def canary_of(root: Map) -> str:
    """The version that is rolled out, as far as the file says it readably."""
    canary = get(root, "rollout", "canary")
    return canary.text if isinstance(canary, Text) else ""


def regions_of(root: Map) -> Mapping[str, Text] | None:
    """The regions that the rollout names, each where it is named first; None for all."""
    listed = get(root, "rollout", "regions")
    if not isinstance(listed, List):
        return None
    named: dict[str, Text] = {}
    for item in listed.items:
        if isinstance(item, Text):
            named.setdefault(item.text, item)
    return named


def covers(root: Map, region: str) -> bool:
    """Whether the rollout goes to `region`."""
    named = regions_of(root)
    return named is None or region in named or DEFAULT_REGION in named


def _check_stable_nowhere(root: Map, canary: Text, report: Report) -> None:
    stable = get(root, "stable")
    where = [
        region for region, entry in entries(root, "stable").items() if getattr(entry.value, "text", "") == canary.text
    ]
    if isinstance(stable, Text) and stable.text == canary.text:
        message = "is stable already; a rollout is for another version"
    elif where:
        message = f"is stable in region {quote(where[0])}; the canary of a rollout is stable nowhere"
    else:
        return
    report.add(canary.line, canary.column, ("rollout", "canary"), message)


def _check_not_by_hand(root: Map, canary: Text, report: Report) -> None:
    for region, line in entries(root, "regions").items():
        found = entries(line.value).get(canary.text)
        if found and stable_in(root, region) != canary.text:
            message = "is what the rollout decides; leave it out here, its share is taken from stable's"
            report.add(found.key.line, found.key.column, ("regions", region, canary.text), message)


def _check_regions(root: Map, regions: Sequence[str] | None, report: Report) -> None:
    listed = get(root, "rollout", "regions")
    first = regions_of(root) or {}
    known = {*(regions or ()), DEFAULT_REGION}
    for index, item in enumerate(listed.items if isinstance(listed, List) else ()):
        if not isinstance(item, Text):
            continue
        path: Path = ("rollout", "regions", index)
        if first[item.text] is not item:
            report.add(item.line, item.column, path, "this region is here twice")
        elif regions is not None and item.text not in known:
            hint = "" if report.full else one_of(item.text, sorted(known))
            report.add(item.line, item.column, path, f"regions.yaml has no region {quote(item.text)}{hint}")


def _check_steps(root: Map, report: Report) -> None:
    steps = get(root, "rollout", "steps")
    room = _room(root)
    before = 0
    for index, step in enumerate(steps.items if isinstance(steps, List) else ()):
        at = get(step, "weight")
        weight = weight_of(at)
        if at is None or weight is None:
            continue
        path: Path = ("rollout", "steps", index, "weight")
        if 0 < weight <= before:
            message = f"is not more than the step before has ({format_weight(before)}); weights rise from step to step"
            report.add(at.line, at.column, path, message)
        for region, share in room.items():
            if weight > share >= before:
                message = f"is more than stable has to give in region {quote(region)} ({format_weight(share)})"
                report.add(at.line, at.column, path, message)
        before = weight


def _room(root: Map) -> dict[str, int]:
    """What stable has, in hundredths of a percent, by line of `regions` that the rollout concerns."""
    room: dict[str, int] = {}
    for region, line in entries(root, "regions").items():
        stable = stable_in(root, region)
        share = weight_of(get(line.value, stable)) if stable in entries(line.value) else 0
        if not isinstance(line.value, Map) or share is None or stable in {"", canary_of(root)}:
            continue
        if _concerns(root, region):
            room[region] = share
    return room


def _concerns(root: Map, line: str) -> bool:
    """Whether the rollout goes to a region that takes its weights from `line`."""
    named = regions_of(root)
    if line != DEFAULT_REGION or named is None:
        return covers(root, line)
    return any(region == DEFAULT_REGION or region not in entries(root, "regions") for region in named)
