"""What the fields of a model's config mean together.

Rules:
1. Each check looks at the tree, at no more of it than it needs, and stays silent where that part is broken: so all
   problems of a file are told in one go, and none twice.
2. A check never changes anything; it only reports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from router.config.fields import DEFAULT_REGION
from router.config.look import check_defined, entries, get, read, stable_in, weight_of
from router.config.problems import Report, one_of, quote
from router.config.rollout_checks import canary_of, check_rollout, covers, regions_of
from router.config.scalars import ALL, format_weight, parse_duration, parse_size
from router.config.schema import DEFAULT_MAX_BODY, DEFAULT_TIMEOUT, MAX_REGIONS, MAX_VERSIONS
from router.config.yaml import Broken, Entry, Map, Node, Path, Text


def check_model(root: Map, name: str, regions: Sequence[str] | None, report: Report) -> None:
    """Reports what is wrong with the model file `root` although each field by itself may be right.

    Args:
        root: the tree of the file.
        name: the model's name, which the file's name says.
        regions: the regions there are; None where nobody wrote them down.
        report: gets the problems.
    """
    _check_model_name(root, name, report)
    versions = entries(root, "versions")
    if len(versions) > MAX_VERSIONS:
        return
    for entry in versions.values():
        _check_version(entry, report)
    _check_stable(root, versions, report)
    _check_weights(root, versions, report)
    _check_region_names(root, versions, regions, report)
    _check_upstream_regions(root, versions, regions, report)
    check_rollout(root, versions, regions, report)
    _check_exactly_one(get(root, "stickiness"), ("stickiness",), ("header", "cookie"), report)
    _check_fallback(root, report)
    _check_limits(root, report)


def _check_model_name(root: Map, name: str, report: Report) -> None:
    model = get(root, "model")
    if isinstance(model, Text) and model.text != name:
        message = (
            f"the file is named after model {quote(name)}, and this says {quote(model.text)}; they must be the same"
        )
        report.add(model.line, model.column, ("model",), message)


def _check_version(entry: Entry, report: Report) -> None:
    path: Path = ("versions", entry.key.text)
    keys = entries(entry.value)
    _check_exactly_one(entry.value, path, ("model_uri", "upstreams"), report)
    if "model_uri" in keys and "upstreams" not in keys:
        _refuse(keys, ("headers", "upstream_model"), path, "is for upstreams, and this version has a model_uri", report)
    if "upstreams" in keys and "model_uri" not in keys:
        message = "is for a model_uri, and this version has upstreams, which serve as they do"
        _refuse(keys, ("batching", "processes", "memory", "environment"), path, message, report)
    seen: dict[str, Text] = {}
    for header, value in entries(entry.value, "headers").items():
        _check_exactly_one(value.value, (*path, "headers", header), ("env", "file"), report)
        first = seen.setdefault(header.lower(), value.key)
        if first is not value.key:
            message = f"the same header is here twice; the first is in line {first.line}"
            report.add(value.key.line, value.key.column, (*path, "headers", header), message)


def _refuse(keys: Mapping[str, Entry], unfit: Iterable[str], path: Path, message: str, report: Report) -> None:
    for key in unfit:
        if key in keys:
            at = keys[key].key
            report.add(at.line, at.column, (*path, key), message)


def _check_exactly_one(node: Node | None, path: Path, keys: tuple[str, str], report: Report) -> None:
    if not isinstance(node, Map):
        return
    found = [node.entries[key] for key in keys if key in node.entries]
    if not found:
        report.add(node.line, node.column, path, f"needs exactly one of {keys[0]} and {keys[1]}; it has none")
    elif len(found) > 1:
        at = max((entry.key for entry in found), key=lambda key: (key.line, key.column))
        report.add(at.line, at.column, path, f"needs exactly one of {keys[0]} and {keys[1]}; it has both")


def _check_stable(root: Map, versions: Mapping[str, Entry], report: Report) -> None:
    stable = get(root, "stable")
    if isinstance(stable, Text):
        check_defined(stable, ("stable",), versions, report)
    elif isinstance(stable, Map):
        for region, entry in stable.entries.items():
            if isinstance(entry.value, Text):
                check_defined(entry.value, ("stable", region), versions, report)
        if DEFAULT_REGION not in stable.entries:
            message = "needs a 'default', for the regions that are not named here"
            report.add(stable.line, stable.column, ("stable",), message)


def _check_weights(root: Map, versions: Mapping[str, Entry], report: Report) -> None:
    for region, line in entries(root, "regions").items():
        weights = entries(line.value)
        for version, entry in weights.items():
            check_defined(entry.key, ("regions", region, version), versions, report)
        total = _total(line.value)
        if total not in {None, ALL}:
            hint = _rest_hint(stable_in(root, region), versions, weights, total)
            message = f"the weights sum to {format_weight(total)}, not to 100%{hint}"
            report.add(line.value.line, line.value.column, ("regions", region), message)


def _total(line: Node) -> int | None:
    """What the weights of `line` sum to; None where one of them cannot be read."""
    if not isinstance(line, Map):
        return None
    weights = [weight_of(entry.value) for entry in line.entries.values()]
    return None if None in weights else sum(weight for weight in weights if weight is not None)


def _rest_hint(stable: str, versions: Mapping[str, Entry], weights: Mapping[str, Entry], total: int) -> str:
    if total < ALL and stable in versions and stable not in weights:
        return f" (is {quote(stable)} missing, with {format_weight(ALL - total)}?)"
    return ""


def _check_region_names(
    root: Map, versions: Mapping[str, Entry], regions: Sequence[str] | None, report: Report
) -> None:
    if regions is None:
        return
    places: list[Path] = [("regions",), ("stable",)]
    places += [("versions", version, "upstreams") for version in versions]
    known = {*regions, DEFAULT_REGION}
    for path in places:
        for region, entry in entries(root, *map(str, path)).items():
            if region not in known:
                hint = "" if report.full else one_of(region, sorted(known))
                message = f"regions.yaml has no region {quote(region)}{hint}"
                report.add(entry.key.line, entry.key.column, (*path, region), message)


def _check_upstream_regions(
    root: Map, versions: Mapping[str, Entry], regions: Sequence[str] | None, report: Report
) -> None:
    mapped = {
        name: upstreams for name in versions if isinstance(upstreams := get(versions[name].value, "upstreams"), Map)
    }
    known = _mentioned(root, mapped.values()) if regions is None else regions
    if len(known) > MAX_REGIONS:
        report.add(root.line, root.column, (), f"the file names more than {MAX_REGIONS} regions")
        return
    for version, upstreams in mapped.items():
        if DEFAULT_REGION in upstreams.entries:
            continue
        missing = [region for region in known if region not in upstreams.entries and _serves(root, version, region)]
        if missing:
            where = ", ".join(map(quote, missing[:5])) + (", …" if len(missing) > 5 else "")
            message = f"no upstream for region {where}, where this version may get traffic; add it, or a 'default'"
            report.add(upstreams.line, upstreams.column, ("versions", version, "upstreams"), message)


def _mentioned(root: Map, upstreams: Iterable[Map]) -> Collection[str]:
    """Every region that the file names, and `default`, which stands for those it does not name."""
    named = {DEFAULT_REGION: None} | dict.fromkeys(entries(root, "regions")) | dict.fromkeys(entries(root, "stable"))
    named |= dict.fromkeys(regions_of(root) or ())
    for each in upstreams:
        named |= dict.fromkeys(each.entries)
    return named


def _serves(root: Map, version: str, region: str) -> bool:
    """Whether `version` is stable in `region`, or has weight there, or may get some by a rollout."""
    if version == stable_in(root, region) or (version == canary_of(root) and covers(root, region)):
        return True
    lines = entries(root, "regions")
    line = lines.get(region) or lines.get(DEFAULT_REGION)
    return weight_of(get(line.value, version) if line else None) not in {None, 0}


def _check_fallback(root: Map, report: Report) -> None:
    fallback, idempotent = get(root, "fallback"), get(root, "idempotent")
    if fallback is None or isinstance(fallback, Broken):
        return
    if idempotent is None or (isinstance(idempotent, Text) and idempotent.text == "false"):
        message = "needs idempotent: true, because the prediction may then be computed twice"
        report.add(fallback.line, fallback.column, ("fallback",), message)


def _check_limits(root: Map, report: Report) -> None:
    timeout, attempt = get(root, "timeout"), get(root, "attempt_timeout")
    whole = read(timeout, parse_duration, DEFAULT_TIMEOUT)
    part = read(attempt, parse_duration, None)
    if attempt is not None and whole is not None and part is not None and part > whole:
        message = "is longer than timeout, the deadline of all attempts together"
        report.add(attempt.line, attempt.column, ("attempt_timeout",), f"{message} ({whole:g}s)")
    body, buffer = get(root, "max_body"), get(root, "buffer")
    largest = read(body, parse_size, DEFAULT_MAX_BODY)
    held = read(buffer, parse_size, None)
    if buffer is not None and largest is not None and held is not None and held > largest:
        report.add(buffer.line, buffer.column, ("buffer",), f"is larger than max_body ({largest} bytes)")
