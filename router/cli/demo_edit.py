"""The demo's pull request: new weights in the YAML, and what they did to the traffic.

Rules:
1. The file is replaced by an atomic rename, as a checkout or a ConfigMap does it; the router is not told.
2. In force means seen by a client: the first patient who had the old stable and is answered by the canary.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from router.cli.demo_report import percent, tolerance
from router.cli.demo_traffic import Told
from router.errors import OperatorError, UpstreamError

# Workers of one router hear of a change one after the other.
_SETTLING = 0.5


def edit_weights(path: Path, region: str, weights: Mapping[str, int]) -> None:
    """Writes `weights` (percent) into the line of `region` of the config at `path`.

    Raises:
        OperatorError: the config has no such line.
    """
    line = re.compile(rf"^(\s*{re.escape(region)}:\s*)\{{[^}}]*\}}", re.MULTILINE)
    new = "{" + ", ".join(f"{version}: {weight}" for version, weight in weights.items()) + "}"
    text, found = line.subn(rf"\g<1>{new}", path.read_text(encoding="utf-8"))
    if found != 1:
        raise OperatorError(
            f"{path} has no line with the weights of {region}", hint="remove it, and run the demo again"
        )
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.rename(path)


def in_force(before: Mapping[str, str], answers: Sequence[Told], canary: str, edited: float) -> float:
    """Seconds from the edit until a patient who had another version was answered by `canary`.

    Raises:
        UpstreamError: that never happened.
    """
    moved = [
        told.sent + told.took
        for told in answers
        if told.version == canary and told.sent > edited and before[told.visit.patient] != canary
    ]
    if not moved:
        raise UpstreamError("the edited weights never came into force", hint="see the router's log")
    return min(moved) - edited


def check_move(before: Mapping[str, str], answers: Sequence[Told], canary: str, weight: float, since: float) -> float:
    """The share of `canary` in percent among requests sent after `since`.

    Raises:
        UpstreamError: it is not `weight` percent, or a patient who had the canary lost it.
    """
    back = {t.visit.patient for t in answers if before[t.visit.patient] == canary and t.version != canary}
    if back:
        raise UpstreamError(f"{len(back)} patients of {canary} were moved back by raising its weight")
    later = [told for told in answers if told.sent > since + _SETTLING]
    share = percent(sum(told.version == canary for told in later), len(later))
    if not later or abs(share - weight) > tolerance(weight, len(later)):
        raise UpstreamError(
            f"{canary} got {share:.1f} % of {len(later)} requests after the edit, declared {weight:g} %"
        )
    return share
