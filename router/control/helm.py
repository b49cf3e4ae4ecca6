"""Steering as a whole: its parts, and who tells whom.

Rules:
1. What the store has is read before any canary may have weight; where it cannot be read it is tried again for ever.
2. Evidence is kept a moment after it changed, and with every decision: a restart goes on from there.
3. A command is decided at once and answered once it is in force.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from router.clock import Clock
from router.config.notify_schema import Notify
from router.control.canary import Canary, Step
from router.control.enactor import Enactor, OvertakenError, Place
from router.control.entries import alarm_of
from router.control.notify import Notifier
from router.control.recorder import Recorder
from router.control.steering import Steering
from router.control.tasks import Tasks
from router.core.outcome import OutcomeBatch
from router.core.rollout_state import Command, CommandName, Refused
from router.errors import ClientError
from router.store.audit import AuditRecord
from router.store.base import Key, Ledger, StoreError, Versioned

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
SAVE_SECONDS = 1.0


class UnknownCanaryError(ClientError):
    """There is no such model, or no such canary of it."""


class NotApplicableError(ClientError):
    """A command does not apply to what there is now, or something else came first."""

    def __init__(self, message: str, canary: Canary | None) -> None:
        super().__init__(message)
        self.canary = canary


@dataclass(frozen=True, slots=True)
class Wish:
    """A command as an operator gives it. `version` and `region` are empty where they are not named."""

    model: str
    name: CommandName
    actor: str
    reason: str = ""
    version: str = ""
    region: str = ""
    expect: int | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A command that is in force; `record` is None where the store has not taken it yet."""

    canary: Canary
    step: Step
    record: AuditRecord | None


class Helm:
    """`apply` puts the weights of models in force, `place` says under which config a model is."""

    def __init__(
        self,
        regions: Sequence[str],
        ledger: Ledger,
        notify: Sequence[Notify],
        clock: Clock,
        *,
        apply: Callable[[Collection[str]], None],
        place: Callable[[str], Place],
    ) -> None:
        self._clock = clock
        self._apply = apply
        self._regions = tuple(regions)
        self.steering = Steering(regions, clock)
        self.recorder = Recorder(ledger, clock)
        self.notifier = Notifier(notify, clock)
        self.enactor = Enactor(
            self.recorder, clock, apply=lambda model: apply((model,)), place=place, tell=self.notifier.tell
        )

    async def recall(self) -> Mapping[Key, Versioned] | None:
        """Reads what the store has (rule 1), and returns its states; None where it cannot be read."""
        try:
            rollouts, evidences = await self.recorder.recall()
        except StoreError as error:
            log.warning("the store cannot be read, so that no canary has weight: %s", error)
            return None
        self.steering.recall(rollouts, evidences)
        return rollouts

    def start(self, tasks: Tasks) -> None:
        """Starts every part."""
        self.notifier.start()
        for work in (self._tick, self._save, self.recorder.keep_trying):
            tasks.start(f"helm {work.__name__}", work)

    def observe(self, batch: OutcomeBatch) -> None:
        """Takes a worker's batch."""
        changed = self.steering.observe(batch)
        self.act()
        if changed:
            self._apply(changed)

    def act(self) -> None:
        """Has enacted what was decided."""
        for step in self.steering.take():
            self.enactor.start(step)

    async def command(self, wish: Wish) -> Done:
        """Does what an operator wishes (rule 3).

        Raises:
            UnknownCanaryError: there is no such canary.
            NotApplicableError: the command does not apply, or something else came first.
            StoreError: the store refuses, and nothing was changed.
        """
        canary = self._canary(wish)
        self._check_region(wish, canary)
        try:
            step = self.steering.command(wish.model, canary.version, _command_of(wish), wish.actor)
        except LookupError as error:
            why = f"`{wish.name}` does not apply yet: it is not known yet what {canary.version} is"
            raise NotApplicableError(why, canary) from error
        if isinstance(step, Refused):
            raise NotApplicableError(step.reason, canary)
        try:
            record = await self.enactor.enact(step)
        except OvertakenError as error:
            raise NotApplicableError(f"`{wish.name}` came second: something else came first", canary) from error
        return Done(canary, step, record)

    def _canary(self, wish: Wish) -> Canary:
        canaries = self.steering.canaries(wish.model)
        if wish.version:
            if wish.version not in canaries:
                raise UnknownCanaryError(f"{wish.version} is no canary of {wish.model}{_named(canaries)}")
            return canaries[wish.version]
        if len(canaries) != 1:
            what = "has several canaries: say which" if canaries else "has no canary now"
            raise NotApplicableError(f"{wish.model} {what}{_named(canaries)}", None)
        return next(iter(canaries.values()))

    def _check_region(self, wish: Wish, canary: Canary) -> None:
        if not wish.region:
            return
        if wish.region not in self._regions:
            raise UnknownCanaryError(f"this router serves no region {wish.region}, only {', '.join(self._regions)}")
        if canary.stage and wish.region not in canary.stage:
            raise NotApplicableError(
                f"`{wish.name}` does not apply in {wish.region}: the rollout is in {', '.join(canary.stage)}", canary
            )

    async def _tick(self) -> None:
        while True:
            if not self.steering.recalled and await self.recall() is not None:
                self._apply(self.steering.waiting())
            changed = self.steering.tick()
            self.act()
            if changed:
                self._apply(changed)
            for canary in self.steering.alarms():
                text = f"the share of {canary.version} is not the declared one; the router itself is at fault"
                log.error("model %s: %s", canary.model, text)
                self.notifier.tell(alarm_of(canary, self._clock.wall(), text))
            await self._clock.sleep(TICK_SECONDS)

    async def _save(self) -> None:
        while True:
            await self._clock.sleep(SAVE_SECONDS)
            for canary in [canary for canary in self.steering.all() if canary.dirty]:
                await self.enactor.save(canary)

    async def close(self) -> None:
        """Writes what is to be kept, and ends."""
        for canary in [canary for canary in self.steering.all() if canary.dirty]:
            await self.enactor.save(canary)
        await self.enactor.close()
        await self.notifier.close()


def _command_of(wish: Wish) -> Command:
    return Command(wish.name, wish.reason, wish.expect)


def _named(canaries: Collection[str]) -> str:
    return f" ({', '.join(canaries)})" if canaries else ""
