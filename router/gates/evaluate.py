"""Facts and asks → findings.

Rules:
1. Pure and total: every gate that is asked for gives one finding or more, whatever the facts are.
2. Absent means failed; so does a number that is none.
3. Bounds are exact: 0.95 less 0.005 is 0.945, as operators calculate.
4. Where the version is itself stable it is no worse than itself, and shares everything with itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from decimal import Decimal

from router.config.gates_schema import Approvals, Gates, MetricGate
from router.gates.facts import Seen, Smoke
from router.gates.findings import NOTHING, Finding

HASH_TAG = "dataset_sha256"
AUTHOR_TAG = "mlflow.user"
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST = 200
_DAY = 86_400.0


def evaluate(
    gates: Gates,
    seen: Seen,
    *,
    stable: Seen | None,
    smoke: Smoke | None,
    now: float,
    authors: frozenset[str] = frozenset(),
) -> tuple[Finding, ...]:
    """The findings of every gate in `gates`, in the order of the file.

    Args:
        gates: what is asked for.
        seen: the version.
        stable: the version that is stable now; None where nothing is known of it.
        smoke: how the smoke prediction went; None where none was tried.
        now: wall-clock seconds.
        authors: who wrote the change that brings the version in, where somebody knows.
    """
    return tuple(_Looking(gates, seen, stable, smoke, now, authors).all())


class _Looking:
    def __init__(
        self, gates: Gates, seen: Seen, stable: Seen | None, smoke: Smoke | None, now: float, authors: frozenset[str]
    ) -> None:
        self._gates, self._seen, self._stable = gates, seen, stable
        self._smoke, self._now, self._authors = smoke, now, authors

    def all(self) -> Iterator[Finding]:
        gates = self._gates
        for name in gates.lineage:
            yield self._lineage(name)
        if gates.flavors is not None:
            flavor = self._seen.flavor
            yield self._found("flavors", flavor in gates.flavors, "flavor", flavor, _any_of(gates.flavors))
        for metric in gates.metrics:
            yield from self._metric(metric)
        for tag in gates.same_as_stable or ():
            yield self._shared(tag)
        for tag, value in (gates.tags or {}).items():
            yield self._tag(tag, value)
        if gates.approvals is not None:
            yield self._approvals(gates.approvals)
        if gates.max_age is not None:
            yield self._age(gates.max_age)
        if gates.smoke:
            yield self._smoked()

    def _found(self, gate: str, passed: bool, looked_at: str, found: str, needed: str, where: str = "") -> Finding:
        where = where or self._seen.place or "the version"
        return Finding(
            gate=gate, passed=passed, looked_at=looked_at, where=where, found=_shown(found), needed=_shown(needed)
        )

    def _lineage(self, name: str) -> Finding:
        seen, gate = self._seen, f"lineage.{name}"
        if name == "git_commit":
            commit = seen.git_commit
            passed = bool(_COMMIT.fullmatch(commit))
            return self._found(gate, passed, "tag mlflow.source.git.commit", commit, "the hash of a git commit")
        if name == "dataset_digest":
            logged = ", ".join(f"{each.name} {each.digest or '(no digest)'}" for each in seen.datasets)
            passed = bool(seen.datasets) and all(each.digest for each in seen.datasets)
            return self._found(gate, passed, "data sets", logged, "at least one, each with a digest")
        if name == "dataset_hash":
            value = seen.tags.get(HASH_TAG, "")
            return self._found(gate, bool(_SHA256.fullmatch(value)), f"tag {HASH_TAG}", value, "a SHA-256 in hex")
        if name == "run":
            status = f"{seen.run_id} ({seen.run_status or 'not there any more'})" if seen.run_id else ""
            passed = bool(seen.run_id) and seen.run_status == "FINISHED"
            return self._found(gate, passed, "run", status, "a run that is FINISHED")
        return self._found(gate, seen.signature, "signature", "there" if seen.signature else "", "a signature")

    def _metric(self, gate: MetricGate) -> Iterator[Finding]:
        path, what = f"metrics.{gate.name}", f"metric {gate.name}"
        value = _number(self._seen.metrics.get(gate.name))
        found = _text(value)
        if gate.min is not None:
            least = _exact(gate.min)
            yield self._found(f"{path}.min", value is not None and value >= least, what, found, f"{least} or more")
        if gate.max is not None:
            most = _exact(gate.max)
            yield self._found(f"{path}.max", value is not None and value <= most, what, found, f"{most} or less")
        if gate.no_worse_than_stable_by is not None:
            yield self._beside(gate, value)

    def _beside(self, gate: MetricGate, value: Decimal | None) -> Finding:
        path, what = f"metrics.{gate.name}.no_worse_than_stable_by", f"metric {gate.name}"
        theirs = _number(self._stable.metrics.get(gate.name)) if self._stable is not None else None
        if theirs is None or self._stable is None:
            return self._found(
                path, False, what, _text(value), f"the same metric of {self._stables_name}, which has none"
            )
        margin = _exact(gate.no_worse_than_stable_by or 0.0)
        if gate.lower_is_better:
            limit, passed = theirs + margin, value is not None and value <= theirs + margin
        else:
            limit, passed = theirs - margin, value is not None and value >= theirs - margin
        side = "less" if gate.lower_is_better else "more"
        return self._found(path, passed, what, _text(value), f"{limit} or {side} ({self._stables_name} has {theirs})")

    @property
    def _stables_name(self) -> str:
        known = self._stable.place if self._stable is not None else ""
        return f"stable, {known}" if known else "stable, of which no registry is known to tell"

    def _shared(self, tag: str) -> Finding:
        gate, what = f"same_as_stable.{tag}", f"tag {tag}"
        mine = self._seen.tags.get(tag, "")
        theirs = self._stable.tags.get(tag, "") if self._stable is not None else ""
        if not theirs:
            return self._found(gate, False, what, mine, f"the same as of {self._stables_name}, which has none")
        return self._found(gate, mine == theirs, what, mine, f"{theirs}, as {self._stables_name} has")

    def _tag(self, tag: str, value: str) -> Finding:
        mine = self._seen.tags.get(tag, "")
        passed = mine == value if value else bool(mine.strip())
        return self._found(f"tags.{tag}", passed, f"tag {tag}", mine, value or "any value")

    def _approvals(self, asked: Approvals) -> Finding:
        named = names_in(self._seen.tags.get(asked.tag, ""))
        authors = {author.lower() for author in (self._seen.tags.get(AUTHOR_TAG, ""), *self._authors) if author}
        count = {name.lower() for name in named} - (authors if asked.not_by_author else set())
        needed = f"{asked.at_least} or more" + (
            f", without its author {', '.join(sorted(authors))}" if asked.not_by_author and authors else ""
        )
        return self._found("approvals", len(count) >= asked.at_least, f"tag {asked.tag}", ", ".join(named), needed)

    def _age(self, most: float) -> Finding:
        needed = f"{most / _DAY:g} days or less"
        created = self._seen.created_at
        if not created or not math.isfinite(created):
            return self._found("max_age", False, "age", "", needed)
        age = max(0.0, self._now - created)
        return self._found("max_age", age <= most, "age", f"{age / _DAY:.1f} days", needed)

    def _smoked(self) -> Finding:
        needed = "an answer without an error"
        if self._smoke is None:
            return self._found("smoke", False, "prediction of its input example", "not tried", needed)
        return self._found(
            "smoke",
            self._smoke.passed,
            "prediction of its input example",
            self._smoke.answered,
            needed,
            self._smoke.where,
        )


def names_in(text: str) -> list[str]:
    """The names in a tag: apart by commas or semicolons, each once."""
    return list(dict.fromkeys(name.strip() for name in re.split(r"[,;]", text) if name.strip()))


def _any_of(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}"


def _exact(number: float) -> Decimal:
    return Decimal(repr(float(number))).normalize() + 0


def _number(value: float | None) -> Decimal | None:
    return _exact(value) if value is not None and math.isfinite(value) else None


def _text(value: Decimal | None) -> str:
    return "" if value is None else str(value)


def _shown(text: str) -> str:
    plain = "".join(sign if sign.isprintable() else "�" for sign in text[: _LONGEST + 1]).strip()
    return plain[:_LONGEST] + ("…" if len(plain) > _LONGEST else "") or NOTHING
