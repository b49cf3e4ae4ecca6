"""Changes of configs, written into the audit trail before they take effect.

Rules:
1. What changes a model's config is audited first; a restart, a broken file or problems alone change none.
2. The digest that was audited last is kept with the entry in one step: after a crash between entry and effect the
   change takes effect, and is not told twice.
3. Where the store refuses, the config in force goes on, the model says why, and the change is tried again with every
   look. A model that is not served at all is served nevertheless, and audited later.
4. Many changes come out in batches: the first models need not wait for the last one's entry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from router.clock import Clock
from router.config.problems import Problem
from router.config.schema import ModelConfig
from router.control.recorder import Recorder, Revisions, Writing
from router.control.reload import Change
from router.store.audit import AuditEntry
from router.store.base import Key, StoreConflict, StoreError, Versioned

BATCH = 32
WHOLE = ""
"""Stands in the place of a version for what is about the model as a whole."""


class Edits:
    """`in_force` tells the config of a model that is in force now, `revision` that of the repository."""

    def __init__(
        self,
        recorder: Recorder,
        clock: Clock,
        regions: Iterable[str],
        *,
        in_force: Callable[[str], ModelConfig | None],
        revision: Callable[[], str],
    ) -> None:
        self._recorder = recorder
        self._clock = clock
        self._regions = tuple(regions)
        self._in_force = in_force
        self._revision = revision
        self._revisions: dict[str, Revisions] = {}
        self._audited: dict[str, str] = {}
        self._waiting: dict[str, Change] = {}

    def recall(self, rollouts: Mapping[Key, Versioned]) -> None:
        """Takes over what the store has."""
        for (model, version), stored in rollouts.items():
            if version == WHOLE:
                self._audited[model] = stored.value.decode()
                self._revisions[model] = Revisions(stored.revision)

    async def audited(self, changes: Iterable[Change]) -> AsyncIterator[list[Change]]:
        """`changes`, and those that waited, as they may take effect."""
        ready = [change for change in changes if not self._queue(change)]
        refused = False
        for model, change in list(self._waiting.items()):
            refused = refused or not await self._write(change)
            if not refused:
                del self._waiting[model]
            ready.append(self._refused(change) if refused else change)
            if len(ready) >= BATCH:
                yield ready
                ready = []
        yield ready

    def _queue(self, change: Change) -> bool:
        """Whether `change` has to wait for its entry; what waited for the same model does so no more."""
        self._waiting.pop(change.model, None)
        if (change.config is None and not change.removed) or change.digest == self._audited.get(change.model, ""):
            return False
        self._waiting[change.model] = change
        return True

    def _refused(self, change: Change) -> Change:
        """Rule 3."""
        if change.removed or self._in_force(change.model) is None:
            return change
        why = f"is not in force: {self._recorder.problem}"
        problem = Problem(
            file=f"models/{change.model}.yaml", line=1, column=1, path="", message=why, model=change.model
        )
        return replace(change, config=None, problems=(*change.problems, problem))

    async def _write(self, change: Change) -> bool:
        revisions = self._revisions.setdefault(change.model, Revisions())
        value = change.digest.encode()
        writing = Writing(change.model, WHOLE, revisions, rollout=value, entry=self._entry(change))
        try:
            await self._recorder.write(change.model, WHOLE, lambda: writing)
        except StoreConflict:
            stored = (await self._recorder.stored(change.model, WHOLE)).rollout
            revisions.rollout = stored.revision if stored is not None else 0
            return stored is not None and stored.value == value
        except StoreError:
            return False
        self._audited[change.model] = change.digest
        return True

    def _entry(self, change: Change) -> AuditEntry:
        before = self._in_force(change.model)
        shown = self._shown(before) if before is not None else {}
        if digest := self._audited.get(change.model):
            shown["digest"] = digest
        after = {**self._shown(change.config), "digest": change.digest} if change.config is not None else {}
        return AuditEntry(
            time=self._clock.wall(),
            actor="config",
            action="remove" if change.removed else "config",
            model=change.model,
            before=shown,
            after=after,
            reason="its file is gone" if change.removed else "its file says so",
            revision=self._revision(),
            digest=change.digest,
        )

    def _shown(self, config: ModelConfig) -> dict[str, Any]:
        """What people want to know of a config: who is stable, and the weights by region, in percent."""
        weights = {
            region: {version: weight / 100 for version, weight in config.weights_in(region).items() if weight}
            for region in self._regions
        }
        stable = {region: config.stable_in(region) for region in self._regions}
        rollout = {"rollout": config.rollout.canary} if config.rollout is not None else {}
        return {"stable": stable, "weights": weights, **rollout}
