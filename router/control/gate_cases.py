"""Which versions are asked to show what their model's gates ask for, and what is known of each by then.

Rules:
1. Asked are canaries, and a newly named stable while another one serves. Who serves as stable is never taken out, and
   where none serves the named one is let in: a gate is no reason for an outage.
2. A case is one version beside one stable under one set of gates; whatever of it changes makes another case.
3. Only what is ready is asked: a gate looks at what would really be served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from router.config.gates_schema import Gates
from router.config.schema import ModelConfig
from router.control.needs import Fact, ForwardNeed, LoadNeed, Need
from router.core.snapshot import Endpoint, Target
from router.gates.facts import Seen, Smoke
from router.gates.findings import Finding, failed

Place = tuple[str, str]
"""A version and a region."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version's lineage is: `uri` in the registry (empty: nowhere), and what was `resolved` of it already.

    `fetched`: its artifacts are on this machine already, as it is served from them.
    """

    uri: str = ""
    resolved: Mapping[str, object] = field(default_factory=dict)
    fetched: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One question to the gates; `key` identifies it (rule 2)."""

    key: str
    model: str
    version: str
    digest: str
    gates: Gates = field(compare=False)
    origin: Origin = field(compare=False)
    stable: Origin | None = field(compare=False)
    endpoint: Endpoint | None = field(compare=False)
    headers: tuple[tuple[str, str], ...] = field(compare=False, default=())


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a case, with everything that was seen. `at` is wall-clock seconds; `problem` says why it could not
    be judged, and then nothing passed."""

    case: str
    digest: str
    passed: bool
    at: float
    findings: list[Finding] = []
    seen: Seen = Seen()
    stable: Seen | None = None
    smoke: Smoke | None = None
    problem: str = ""

    @property
    def reason(self) -> str:
        """Why the version is held back; empty where it is not."""
        if self.passed:
            return ""
        if self.problem:
            return f"its gates could not be looked at: {self.problem}"
        return "; ".join(map(str, failed(self.findings)))


def cases_of(
    config: ModelConfig,
    needs: Mapping[Place, Need],
    known: Mapping[Place, Fact],
    standing: Mapping[str, tuple[Target, Origin]],
) -> dict[Place, Case]:
    """The cases of a model by version and region.

    Args:
        config: its config.
        needs: what each version needs.
        known: what is known of that.
        standing: by region, the stable in force and where its lineage is.
    """
    if config.gates is None:
        return {}
    return {
        (version, region): _case(config, config.gates, version, known[version, region], needs[version, region], beside)
        for version, region in needs
        if (beside := _asked(config, version, region, known, needs, standing)) is not None
    }


def origin_of(config: ModelConfig, version: str, need: Need, fact: Fact) -> Origin:
    """Where the lineage of `version` is."""
    if isinstance(need, LoadNeed):
        return Origin(str(fact.resolved.get("resolved", "")) or need.uri, fact.resolved, fetched=True)
    return Origin(config.versions[version].registered or "") if version in config.versions else Origin()


def _asked(
    config: ModelConfig,
    version: str,
    region: str,
    known: Mapping[Place, Fact],
    needs: Mapping[Place, Need],
    standing: Mapping[str, tuple[Target, Origin]],
) -> tuple[str, Origin] | None:
    """Digest and origin of the stable that `version` is beside in `region`; None where it is not asked (rules 1, 3)."""
    fact, stable = known[version, region], config.stable_in(region)
    if fact.state != "ready":
        return None
    if region in standing:
        target, origin = standing[region]
        in_charge = (target.version, target.digest) == (version, fact.digest)
        return None if in_charge or not comes_in(config, version, region) else (target.digest, origin)
    if version == stable or not comes_in(config, version, region):
        return None
    need = needs.get((stable, region))
    there = known.get((stable, region), Fact())
    return (there.digest, origin_of(config, stable, need, there)) if need is not None else ("", Origin())


def comes_in(config: ModelConfig, version: str, region: str) -> bool:
    """Whether the config gives `version` production traffic in `region`, now or by its rollout."""
    if version == config.stable_in(region) or config.weights_in(region).get(version):
        return True
    rollout = config.rollout
    return rollout is not None and rollout.canary == version and rollout.stage_of(region) is not None


def _case(config: ModelConfig, gates: Gates, version: str, fact: Fact, need: Need, beside: tuple[str, Origin]) -> Case:
    stable_digest, stable = beside
    origin = origin_of(config, version, need, fact)
    parts = [config.model, version, fact.digest, origin.uri, gates.model_dump_json()]
    parts += [stable_digest, stable.uri] if gates.compares else []
    return Case(
        key=hashlib.sha256(json.dumps(parts).encode()).hexdigest(),
        model=config.model,
        version=version,
        digest=fact.digest,
        gates=gates,
        origin=origin,
        stable=stable if gates.compares else None,
        endpoint=next((each for each in fact.endpoints if each.healthy), None),
        headers=fact.headers if isinstance(need, ForwardNeed) else (),
    )
