"""A version has weight once it has shown what is asked for, and not before; what it showed is kept."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from router.config.schema import ModelConfig
from router.control.enactor import Place
from router.control.gate_cases import Origin
from router.control.gatekeeper import Gatekeeper
from router.control.needs import Fact, ForwardNeed, LoadNeed, needs_of
from router.control.recorder import Recorder
from router.core.snapshot import Endpoint, Target
from tests.support.configs import config_of
from tests.unit.control.fakes import FakeClock, FakeRegistry, MemoryStore, until

pytestmark = pytest.mark.anyio
COMMIT = "0123456789abcdef"
LINEAGE = "gates: {lineage: [git_commit]}\n"
ENDPOINT = Endpoint("tcp", "127.0.0.1", 1)


def config(gates: str = LINEAGE, *, split: str = "v3: 90, v4: 10", stable: str = "v3") -> ModelConfig:
    return config_of(
        "model: fraud\nversions:\n  v3: {model_uri: models:/fraud/3}\n  v4: {model_uri: models:/fraud/4}\n"
        "  v5: {upstreams: [http://127.0.0.1:1], registered: models:/fraud/5}\n"
        f"stable: {stable}\nregions:\n  default: {{{split}}}\n{gates}"
    )


@dataclass
class Lineage(FakeRegistry):
    """A registry whose versions have `told`, by pinned URI, on top."""

    told: dict[str, dict[str, object]] = field(default_factory=dict)

    async def resolve(self, uri: str) -> Mapping[str, object]:
        return {**await super().resolve(uri), **self.told.get(uri, {})}


@dataclass
class Bench:
    registry: Lineage
    store: MemoryStore
    clock: FakeClock
    keeper: Gatekeeper
    changes: list[str]

    def state(self, of: ModelConfig, version: str = "v4", *, pinned: dict[str, Any] | None = None, **more: Any) -> str:
        """What is made of `version` in the only region, all versions being ready."""
        needs = needs_of(of, ("default",))
        known = {}
        for place, need in needs.items():
            there = isinstance(need, LoadNeed)
            resolved = {"resolved": need.uri, "sha256": "ab", **(pinned or {})} if isinstance(need, LoadNeed) else {}
            digest = f"d{place[0]}" if there else need.digest if isinstance(need, ForwardNeed) else ""
            known[place] = Fact("ready", endpoints=(ENDPOINT,), digest=digest, resolved=resolved)
        return self.keeper.judged(of, needs, known, more.get("standing", {}))[version, "default"].state

    def findings(self, version: str = "v4") -> list[str]:
        return [str(each) for ruling in self.keeper.rulings("fraud", version) if ruling for each in ruling.findings]


@asynccontextmanager
async def bench(tmp_path: Path, store: MemoryStore | None = None) -> AsyncIterator[Bench]:
    store, clock = store or MemoryStore(), FakeClock()
    registry = Lineage({f"models:/fraud/{n}": f"models:/fraud/{n}" for n in (3, 4, 5)})
    changes: list[str] = []
    keeper = Gatekeeper(
        registry, Recorder(store, clock), clock,
        models=tmp_path, place=lambda _: Place("r", "d"), on_change=changes.append,
    )  # fmt: skip
    await keeper.recall()
    yield Bench(registry, store, clock, keeper, changes)
    await keeper.close()


async def test_a_canary_is_held_back_until_the_registry_has_what_was_missing(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        assert there.state(config()) == "gated"
        await until(lambda: there.changes)
        assert there.state(config()) == "gated"
        looked_at = "tag mlflow.source.git.commit of models:/fraud/4"
        assert there.findings() == [
            f"lineage.git_commit failed: {looked_at} is nothing, needed is the hash of a git commit"
        ]
        there.registry.told["models:/fraud/4"] = {"git_commit": COMMIT}
        await until(lambda: len(there.changes) > 1, clock=there.clock)
        assert there.state(config()) == "ready"
        entries = [record.entry for record in there.store.records]
        assert [(entry.action, entry.version, entry.after["passed"]) for entry in entries] == [
            ("gate", "v4", False), ("gate", "v4", True),
        ]  # fmt: skip
        assert (entries[1].evidence["seen"]["git_commit"], entries[1].after["artifacts"]) == (COMMIT, "ab")


async def test_stable_is_never_held_back_but_a_newly_named_one_is_while_another_serves(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        assert there.state(config(), "v3") == "ready"
        new = config(split="v4: 100", stable="v4")
        serving = {"default": (Target("v3", "ready", 10_000, 10_000, (ENDPOINT,), "dv3"), Origin("models:/fraud/3"))}
        assert there.state(new, standing=serving) == "gated"
        assert there.state(new, "v3", standing=serving) == "ready"
    async with bench(tmp_path) as there:
        assert there.state(new) == "ready"


async def test_what_was_let_in_stays_in_after_a_restart_whatever_the_registry_says_by_then(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.state(config(), pinned={"git_commit": COMMIT})
        await until(lambda: there.changes)
        assert there.state(config()) == "ready"
        store = there.store
    async with bench(tmp_path, store) as again:
        assert again.state(config()) == "ready"
        assert again.registry.resolved == []


async def test_weight_that_a_version_had_is_kept_until_it_fails_the_new_gates(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        assert there.state(config("")) == "ready"
        assert there.state(config()) == "ready"
        await until(lambda: there.changes)
        assert there.state(config()) == "gated"


async def test_who_had_no_weight_before_the_gates_gets_none_while_they_are_looked_at(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        assert there.state(config("", split="v3: 100")) == "ready"
        assert there.state(config()) == "gated"


async def test_nothing_is_let_in_before_it_is_written(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.store.broken = True
        there.state(config(), pinned={"git_commit": COMMIT})
        await until(lambda: there.store.writes)
        assert there.state(config()) == "gated"
        there.registry.told["models:/fraud/4"] = {"git_commit": COMMIT}
        there.store.broken = False
        await until(lambda: there.changes, clock=there.clock)
        assert there.state(config()) == "ready"


async def test_a_registry_that_does_not_answer_lets_nobody_in_and_is_said(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.registry.down = True
        of = config(split="v3: 90, v5: 10")
        there.state(of, "v5")
        await until(lambda: there.changes)
        assert there.state(of, "v5") == "gated"
        (ruling,) = there.keeper.rulings("fraud", "v5")
        assert ruling is not None
        assert ruling.reason == ("its gates could not be looked at: the registry does not answer for models:/fraud/5")


async def test_a_forwarded_version_is_looked_up_where_its_config_says_it_is_registered(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.registry.told["models:/fraud/5"] = {"git_commit": COMMIT}
        of = config(split="v3: 90, v5: 10")
        there.state(of, "v5")
        await until(lambda: there.changes)
        assert there.state(of, "v5") == "ready"
        kept = json.loads(next(iter(there.store.gates().values())).value)
        assert kept["seen"]["sha256"] == "digest of models:/fraud/5"


async def test_a_smoke_prediction_that_nobody_answers_has_failed(tmp_path: Path) -> None:
    async with bench(tmp_path) as there:
        there.state(config("gates: {smoke: true}\n"))
        await until(lambda: there.changes)
        assert "not tried: the model has no input example" in there.findings()[0]
