"""Control as a whole: its parts, and who tells whom.

Rules:
1. Looks, facts and batches come in; the controller decides; this module acts: publish first, then write and want.
2. No part ends the process: each is started again, and says what is wrong through `problems`.
3. A restarted control takes over what the workers hold, and sends nothing before it knows as much as was known, for
   `HOLD_SECONDS` at most: the file it takes over from may be a little older than what the workers hold.
4. Ready once, it stays ready until it drains: an edit that names a version which still warms up takes away no
   traffic, and must not take this router out of its load balancer together with all others that read the same git.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from router.clock import Clock
from router.config.load import load_model
from router.config.notify_schema import Notify
from router.config.problems import Problem
from router.config.schema import ModelConfig
from router.control import snapshots
from router.control.children import Child, Children
from router.control.controller import Controller, Decision
from router.control.edits import Edits
from router.control.enactor import Place
from router.control.gatekeeper import Gatekeeper
from router.control.health import Probe, Prober
from router.control.helm import Helm
from router.control.keeper import Keeper, Remembered
from router.control.models import Command, Loader, Registry
from router.control.needs import Fact, ForwardNeed, LoadNeed, Need
from router.control.reload import Change, Look, Reader, Watch
from router.control.tasks import Tasks
from router.control.totals import Totals
from router.control.workers import Workers
from router.core.outcome import OutcomeBatch
from router.core.wire import SnapshotUpdate
from router.store.base import Ledger, Store

log = logging.getLogger(__name__)

SNAPSHOT_SECONDS = 0.2
SWEEP_SECONDS = 1.0
FORGET_SECONDS = 300.0
HOLD_SECONDS = 3.0
LOGGED_CHANGES = 20


@dataclass(frozen=True, slots=True)
class Setup:
    """Where things are, and what this router serves."""

    config: Path
    state: Path
    run: Path
    regions: tuple[str, ...]
    workers: int
    notify: tuple[Notify, ...] = ()


class Storage(Store, Ledger, Protocol):
    """Everything that outlives the process."""


@dataclass(slots=True)
class Reloads:
    """What became of the configs. `applied`: all that was read first is. `last_success`: wall-clock seconds, or 0."""

    revision: str = ""
    applied: bool = False
    problems: tuple[Problem, ...] = ()
    failures: int = 0
    last_success: float = 0.0
    broken: set[str] = field(default_factory=set)

    def note(self, look: Look, now: float) -> None:
        """Takes a look into account."""
        newly_broken = {change.model for change in look.changes if change.restored or _is_broken(change)}
        mended = {change.model for change in look.changes} - newly_broken
        self.broken = (self.broken | newly_broken) - mended
        self.failures += len(newly_broken) + len(set(look.problems) - set(self.problems))
        if not self.broken and not look.problems and (look.revision != self.revision or self.problems):
            self.last_success = now
        self.problems = look.problems
        self.revision = look.revision


def _is_broken(change: Change) -> bool:
    return change.config is None and not change.removed


@dataclass(frozen=True, slots=True)
class Missing:
    """A weighted version that readiness waits for."""

    model: str
    version: str
    region: str
    reason: str


class Control:
    """The control process less its admin port."""

    def __init__(
        self,
        setup: Setup,
        *,
        store: Storage,
        registry: Registry,
        command: Command,
        probe: Probe,
        clock: Clock,
    ) -> None:
        self.setup = setup
        self.clock = clock
        self.reloads = Reloads()
        self.totals = Totals(clock)
        self.helm = Helm(setup.regions, store, setup.notify, clock, apply=self._steered, place=self._place)
        self.gatekeeper = Gatekeeper(
            registry,
            self.helm.recorder,
            clock,
            models=setup.state / "models",
            place=self._place,
            on_change=lambda model: self._steered((model,)),
        )
        self.controller = Controller(setup.regions, self._fact, self.helm.steering, self.gatekeeper)
        self.edits = Edits(
            self.helm.recorder, clock, setup.regions, in_force=self._in_force, revision=lambda: self.reloads.revision
        )
        self.workers = Workers(self._batch, self.totals.worker_gone)
        self.keeper = Keeper(store, clock)
        self.children = Children(setup.run / "supervisor.sock", clock, self._child)
        self._registry, self._command, self._probe = registry, command, probe
        self._remembered = Remembered()
        self._loader: Loader | None = None
        self._prober: Prober | None = None
        self._tasks = Tasks(clock)
        self._kept_admissions: set[str] = set()
        self._kept_texts: dict[str, str] = {}
        self._was_ready = False
        self._holding = False
        self._decided = asyncio.Event()

    async def start(self) -> None:
        """Starts every part; returns at once, long before there is anything to serve."""
        if (rollouts := await self.helm.recall()) is not None:
            self.edits.recall(rollouts)
        await self.gatekeeper.recall()
        self._remembered = await self.keeper.recall()
        self._kept_admissions = set(self._remembered.admitted)
        self._kept_texts = {model: text for model, (text, _) in self._remembered.last_good.items()}
        await asyncio.to_thread((self.setup.run / "pyfunc").mkdir, parents=True, exist_ok=True)
        self._loader = Loader(
            models=self.setup.state / "models",
            sockets=self.setup.run / "pyfunc",
            registry=self._registry,
            children=self.children,
            command=self._command,
            clock=self.clock,
            stored_pin=self._remembered.pin_of,
            keep_pin=self.keeper.pin,
            on_change=self._learn,
        )
        self._prober = Prober(
            clock=self.clock, admitted=self._remembered.admitted, on_change=self._learn, probe=self._probe
        )
        for work in (self._serve_workers, self.children.keep_connected, self.keeper.work, self._follow_configs,
                     self._write_snapshots, self._sweep, self._forget):  # fmt: skip
            self._tasks.start(work.__name__, work)
        self.helm.start(self._tasks)

    async def close(self) -> None:
        """Ends every part; workers and model servers go on."""
        await self._tasks.close()
        if self._prober is not None:
            await self._prober.close()
        if self._loader is not None:
            await self._loader.close()
        await self.gatekeeper.close()
        self.workers.close()
        await self.helm.close()
        await self.keeper.flush()

    def problems(self) -> list[str]:
        """What is wrong beyond a single model."""
        return [
            *(str(problem) for problem in self.reloads.problems),
            *([self.keeper.problem] if self.keeper.problem else []),
            *([self.helm.recorder.problem] if self.helm.recorder.problem else []),
        ]

    def _fact(self, need: Need) -> Fact:
        if self._loader is None or self._prober is None:
            return Fact(reason="control is starting")
        return self._loader.fact(need) if isinstance(need, LoadNeed) else self._prober.fact(need)

    def _batch(self, batch: OutcomeBatch) -> None:
        if self.totals.add(batch):
            self.helm.observe(batch)

    def _steered(self, models: Collection[str]) -> None:
        self._act(self.controller.steered(models))
        self._decided.set()

    def _in_force(self, model: str) -> ModelConfig | None:
        known = self.controller.models.get(model)
        return known.config if known is not None else None

    def _place(self, model: str) -> Place:
        known = self.controller.models.get(model)
        return Place(self.reloads.revision, known.digest if known is not None else "")

    def _child(self, child: Child) -> None:
        if self._loader is not None:
            self._loader.heard(child)

    async def _follow_configs(self) -> None:
        reader = Reader(self.setup.config, self.clock, self._kept_texts, self.setup.regions)
        async for look in Watch(self.setup.config, self.clock).looks(reader):
            if not self.reloads.revision:
                await self._take_over(look.changes)
            self.reloads.note(look, self.clock.wall())
            self._log(look)
            async for changes in self.edits.audited(look.changes):
                self._act(self.controller.apply(changes))
            self.reloads.applied = True

    def _log(self, look: Look) -> None:
        for change in look.changes[:LOGGED_CHANGES]:
            for problem in change.problems:
                log.warning("%s", problem)
            what = "removed" if change.removed else f"config {change.digest[:12] or 'broken'}"
            log.info("model %s: %s", change.model, what)
        if len(look.changes) > LOGGED_CHANGES:
            log.info("and %d models more", len(look.changes) - LOGGED_CHANGES)

    async def _take_over(self, changes: Iterable[Change]) -> None:
        """Rule 3."""
        held = await asyncio.to_thread(snapshots.read, self.setup.run / "snapshot.bin")
        if held is None:
            return
        self.workers.resume_after(held.sequence + 1)
        self._holding = True
        self._tasks.start("hold", self._hold)
        await asyncio.to_thread(self._remember, held, {change.model: change for change in changes})

    def _remember(self, held: SnapshotUpdate, changes: dict[str, Change]) -> None:
        for name, route in held.models.items():
            self.helm.steering.was_held_back(route)
            change = changes.get(name)
            config = change.config if change is not None and change.digest == route.digest else None
            text, digest = self._remembered.last_good.get(name, ("", ""))
            if config is None and digest == route.digest:
                config, _ = load_model(name, text.encode(), file=name, regions=None, root=self.setup.config)
            if config is not None:
                self.controller.remember(route, config)

    def _learn(self, needs: Collection[Need]) -> None:
        """New facts about `needs`."""
        self._act(self.controller.refresh(needs))
        for need in needs:
            fact = self._fact(need)
            if fact.state == "ready" and fact.digest not in self._kept_admissions:
                self._kept_admissions.add(fact.digest)
                self._keep_admission(need, fact.digest)

    def _keep_admission(self, need: Need, digest: str) -> None:
        for name in sorted(self.controller.users(need)):
            for (version, _), wanted in self.controller.models[name].needs.items():
                if wanted == need:
                    self.keeper.admit(digest, name, version)
                    return

    async def _hold(self) -> None:
        await self.clock.sleep(HOLD_SECONDS)
        self._release()

    def _release(self) -> None:
        """Ends the hold of rule 3."""
        if self._holding:
            self._holding = False
            models = self.controller.models.values()
            self.workers.publish({model.name: model.route for model in models if model.route is not None})

    def _act(self, decision: Decision) -> None:
        """Rule 1."""
        if not self._holding and (decision.routes or decision.removed or not self.workers.opened):
            self.workers.publish(decision.routes, decision.removed)
        for name in decision.removed:
            self._kept_texts.pop(name, None)
            self.keeper.forget(name)
        for saved in decision.saved:
            if self._kept_texts.get(saved.model) != saved.text:
                self._kept_texts[saved.model] = saved.text
                self.keeper.save(saved)
        new, changed = self.controller.wants_changed()
        if changed:
            self._want(new)
        if self._holding and self.reloads.revision and not self.missing():
            self._release()
        self.helm.act()

    def _want(self, new: set[Need]) -> None:
        if self._loader is None or self._prober is None:
            return
        wanted = self.controller.wanted()
        self._loader.want({need for need in wanted if isinstance(need, LoadNeed)})
        self._prober.want({need for need in wanted if isinstance(need, ForwardNeed)})
        if new:
            self._act(self.controller.refresh(new))

    async def _serve_workers(self) -> None:
        server = await self.workers.serve(self.setup.run / "workers.sock")
        async with server:
            await server.serve_forever()

    async def _write_snapshots(self) -> None:
        changed = self.workers.changed
        while True:
            await changed.wait()
            changed.clear()
            self._decided.clear()
            frame = await asyncio.to_thread(self.workers.whole)
            await asyncio.to_thread(snapshots.write, self.setup.run / "snapshot.bin", frame)
            # A decision waits for no pause: where the store refuses, a control that starts anew has it from here.
            pauses = [
                asyncio.ensure_future(pause) for pause in (self.clock.sleep(SNAPSHOT_SECONDS), self._decided.wait())
            ]
            try:
                await asyncio.wait(pauses, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pause in pauses:
                    pause.cancel()

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(SWEEP_SECONDS)
            settled = self.workers.opened and self.workers.all_hold(self.workers.snapshot.sequence)
            if settled and self._loader is not None:
                self._loader.sweep(self.controller.sockets_in_force())

    async def _forget(self) -> None:
        while True:
            await self.clock.sleep(FORGET_SECONDS)
            self.totals.keep_only(self.controller.models)
            self.helm.steering.bounds.keep_only(self.controller.models)
            if self.reloads.revision:
                wanted = self.controller.wanted()
                digests = {self._fact(need).digest for need in wanted}
                self.keeper.tidy([need for need in wanted if isinstance(need, LoadNeed)], digests)

    def _begins(self, model: str, version: str) -> bool:
        """Whether a canary will have its weight as soon as that is written; a store that refuses holds up nothing."""
        canary = self.helm.steering.canaries(model).get(version)
        return bool(canary and canary.plan and not canary.settled) and not self.helm.recorder.problem

    def missing(self) -> list[Missing]:
        """The weighted versions that are neither admitted nor given up on."""
        missing = []
        for model in self.controller.models.values():
            if model.config is None:
                continue
            for region in self.setup.regions:
                weighted = {name for name, weight in model.config.weights_in(region).items() if weight}
                weighted |= self.helm.steering.expected(model.name, region)
                for version in sorted({model.config.stable_in(region), *weighted}):
                    need = model.needs.get((version, region))
                    fact = self.controller.fact(need) if need is not None else Fact("unready", "no upstream here", True)
                    if fact.state != "ready" and not fact.given_up:
                        missing.append(Missing(model.name, version, region, fact.reason))
                    elif fact.state == "ready" and self._begins(model.name, version):
                        missing.append(Missing(model.name, version, region, "its start is not written yet"))
        return missing

    def ready(self) -> tuple[bool, str, list[Missing]]:
        """Whether to send traffic here, why not, and which versions are still missing (rule 4)."""
        missing = self.missing()
        if self.children.draining:
            return False, "draining", missing
        if not self._was_ready:
            applied = self.workers.applied()
            if not self.workers.opened or not self.reloads.applied:
                return False, "the configs were not read and applied yet", missing
            if not self.controller.models and self.reloads.problems:
                return False, "there are no configs", missing
            if missing:
                return False, "versions are not ready yet", missing
            if len(applied) < self.setup.workers or not self.workers.all_hold(self.workers.snapshot.sequence):
                return False, "workers do not hold the latest snapshot yet", missing
            self._was_ready = True
        if not self.workers.applied():
            return False, "no worker is connected", missing
        return True, "ready", missing
