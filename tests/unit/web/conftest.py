"""A control process without workers, supervisor and disk, whose state a test makes by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from router.config.load import load_model
from router.control.canary import Step
from router.control.needs import Fact, Need
from router.control.reload import Change
from router.control.service import Control, Setup
from router.core.snapshot import Endpoint
from tests.unit.control.fakes import FakeClock, FakeRegistry, MemoryStore

TEXT = """\
model: fraud
owner: risk-ml
versions:
  v3: {upstreams: [http://127.0.0.1:9003]}
  v4: {upstreams: [http://127.0.0.1:9004], headers: {authorization: {env: SECRET}}}
stable: v3
regions:
  default: {v3: 90, v4: 10}
"""


async def never_probe(asked: object) -> str:
    return ""


class Desk:
    """A `Control` and what its controller is told."""

    def __init__(self, root: Path, regions: tuple[str, ...]) -> None:
        self.facts: dict[Need, Fact] = {}
        self.clock = FakeClock()
        self.control = Control(
            Setup(config=root, state=root, run=root, regions=regions, workers=1),
            store=MemoryStore(),
            registry=FakeRegistry(),
            command=lambda _launch: ([], {}),
            probe=never_probe,
            clock=self.clock,
        )
        steering = self.control.helm.steering
        steering.recall({}, {})
        steering._put = self._at_once  # type: ignore[method-assign]  # there is no store whose turn would come
        self.control.controller._fact = lambda need: self.facts.get(need, Fact(reason="not looked at yet"))

    @staticmethod
    def _at_once(step: Step | None) -> None:
        if step is not None:
            step.canary.take(step)

    def write(self, text: str = TEXT) -> None:
        """A good file of model fraud was read."""
        config, problems = load_model(
            "fraud", text.encode(), file="models/fraud.yaml", regions=None, root=self.control.setup.config
        )
        assert config is not None, problems
        self.control._act(self.control.controller.apply([Change("fraud", config, text, "digest of fraud")]))
        self.control.reloads.revision = "rev1"
        self.control.reloads.applied = True

    def settle(self, states: Mapping[str, Fact]) -> None:
        """Facts of fraud's versions, in all regions."""
        for (version, _), need in self.control.controller.models["fraud"].needs.items():
            self.facts[need] = states[version]
        self.control._act(self.control.controller.refresh(list(self.facts)))


def ready(port: int, **more: str) -> Fact:
    return Fact(
        "ready", endpoints=(Endpoint("tcp", "127.0.0.1", port),), digest=f"d{port}", headers=tuple(more.items())
    )


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, ("default",))


@pytest.fixture
def two_regions(tmp_path: Path) -> Desk:
    return Desk(tmp_path, ("eu-west", "us-east"))
