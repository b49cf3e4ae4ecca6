"""Lets versions in: asks each for what its model's gates ask for, and holds it back until it has shown it.

Rules:
1. Decides synchronously from what was found by then; looking goes on beside, and `on_change` tells of a new ruling.
2. A version that has not passed has state `gated`, and so no weight; it keeps weight that it had under other gates, or
   beside another stable, until it has failed these.
3. What was found is written, with everything that was seen, before a version is let in. A registry may say something
   else afterwards: a version that was let in stays in.
4. What failed is looked at again, with growing pauses: whoever adds what was missing need not tell the router.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from router.clock import Clock
from router.config.schema import ModelConfig
from router.control.backoff import Backoff
from router.control.enactor import Place as Revision
from router.control.gate_cases import Case, Origin, Place, Ruling, cases_of, comes_in
from router.control.models import Registry
from router.control.needs import Fact, Need
from router.control.pins import key_of
from router.control.recorder import Recorder
from router.control.smoke import predict
from router.control.tasks import Tasks
from router.core.snapshot import Target, VersionFacts
from router.errors import RouterError
from router.gates.evaluate import evaluate
from router.gates.facts import Seen, Smoke, seen_of
from router.gates.findings import failed
from router.store.audit import AuditEntry
from router.store.base import Key, Kind, Put, StoreConflict, StoreError

log = logging.getLogger(__name__)

PENDING = "its gates are being looked at"


@dataclass(slots=True)
class _Model:
    cases: dict[Place, Case] = field(default_factory=dict)
    let_in: set[tuple[str, str]] = field(default_factory=set)


class Gatekeeper:
    """`models` is the folder of fetched artifacts; `place` says under which config a model is."""

    def __init__(
        self,
        registry: Registry,
        recorder: Recorder,
        clock: Clock,
        *,
        models: Path,
        place: Callable[[str], Revision],
        on_change: Callable[[str], None],
    ) -> None:
        self._registry, self._recorder, self._clock = registry, recorder, clock
        self._folder = models
        self._place = place
        self._on_change = on_change
        self._models: dict[str, _Model] = {}
        self._rulings: dict[str, Ruling] = {}
        self._revisions: dict[Key, int] = {}
        self._kept: dict[Key, Ruling] = {}
        self._tasks = Tasks(clock)

    async def recall(self) -> None:
        """Takes over the rulings that the store has; where it cannot be read every version is looked at anew."""
        try:
            stored = await self._recorder.gates()
        except StoreError as error:
            log.warning("what gates found cannot be read, and is looked at anew: %s", error)
            return
        for key, versioned in stored.items():
            self._revisions[key] = versioned.revision
            try:
                ruling = msgspec.json.decode(versioned.value, type=Ruling)
            except msgspec.MsgspecError:
                log.warning("what the store has of the gates of %s %s is none of this release", *key)
                continue
            self._kept[key] = ruling

    def judged(
        self,
        config: ModelConfig,
        needs: Mapping[Place, Need],
        known: Mapping[Place, Fact],
        standing: Mapping[str, tuple[Target, Origin]],
    ) -> dict[Place, VersionFacts]:
        """What is known of a model's versions, with whoever has to be held back as `gated` (rules 1 and 2)."""
        facts = {place: fact.for_route() for place, fact in known.items()}
        model = self._models.setdefault(config.model, _Model())
        before, model.cases = model.cases, cases_of(config, needs, known, standing)
        self._follow(before.values(), model.cases.values())
        let_in = set()
        for place, fact in facts.items():
            case = model.cases.get(place)
            if case is not None and not self._lets_in(case, model):
                facts[place] = msgspec.structs.replace(fact, state="gated")
            elif fact.state == "ready" and comes_in(config, *place):
                let_in.add((place[0], fact.digest))
        model.let_in = let_in
        return facts

    def _lets_in(self, case: Case, model: _Model) -> bool:
        ruling = self._rulings.get(case.key)
        if ruling is not None:
            return ruling.passed
        kept = self._kept.get((case.model, case.version))
        had = kept is not None and kept.passed and kept.digest == case.digest
        return had or (case.version, case.digest) in model.let_in

    def _follow(self, before: Iterable[Case], now: Iterable[Case]) -> None:
        wanted = {case.key: case for case in now}
        for key in {case.key for case in before} - set(wanted):
            self._tasks.stop(key)
            self._rulings.pop(key, None)
        for key in set(wanted) - {case.key for case in before}:
            case = wanted[key]
            kept = self._kept.get((case.model, case.version))
            if kept is not None and kept.case == key:
                self._rulings[key] = kept
            if kept is None or kept.case != key or not kept.passed:
                self._start(case)

    def _start(self, case: Case) -> None:
        self._tasks.start(case.key, lambda: self._look(case))

    def rulings(self, model: str, version: str) -> list[Ruling | None]:
        """The rulings on `version`, each once; None for one that is still to come."""
        known = self._models.get(model)
        keys = dict.fromkeys(case.key for place, case in known.cases.items() if place[0] == version) if known else {}
        return [self._rulings.get(key) for key in keys]

    def forget(self, model: str) -> None:
        """The model is gone."""
        if (known := self._models.pop(model, None)) is not None:
            self._follow(known.cases.values(), ())

    async def _look(self, case: Case) -> None:
        backoff = Backoff(2.0, 60.0)
        anew = False
        while True:
            ruling = await self._rule(case, anew=anew)
            if await self._keep(case, ruling):
                self._rulings[case.key] = ruling
                self._on_change(case.model)
                if ruling.passed:
                    return
            anew = True
            backoff.fail()
            await self._clock.sleep(backoff.pause)

    async def _rule(self, case: Case, *, anew: bool) -> Ruling:
        now = self._clock.wall()
        try:
            seen = await self._see(case.origin, anew=anew) if case.origin.uri else Seen(uri=_nowhere(case))
            stable = await self._see(case.stable, anew=anew) if case.stable is not None and case.stable.uri else None
            smoke = await self._predict(case, seen) if case.gates.smoke else None
        except (RouterError, OSError) as error:
            why = error.in_a_line if isinstance(error, RouterError) else str(error)
            return Ruling(case=case.key, digest=case.digest, passed=False, at=now, problem=why)
        findings = evaluate(case.gates, seen, stable=stable, smoke=smoke, now=now)
        return Ruling(
            case=case.key,
            digest=case.digest,
            passed=not failed(findings),
            at=now,
            findings=list(findings),
            seen=seen,
            stable=stable,
            smoke=smoke,
        )

    async def _see(self, origin: Origin, *, anew: bool) -> Seen:
        if origin.fetched and origin.resolved and not anew:
            return seen_of(origin.resolved)
        resolved = dict(await self._registry.resolve(origin.uri))
        sha256 = origin.resolved.get("sha256")
        if not sha256:
            uri = str(resolved.get("resolved", ""))
            sha256 = await self._registry.fetch(uri, await self._directory(uri), "")
        return seen_of(resolved | {"sha256": sha256})

    async def _directory(self, uri: str) -> Path:
        return self._folder / await asyncio.to_thread(key_of, uri)

    async def _predict(self, case: Case, seen: Seen) -> Smoke:
        if case.endpoint is None or not seen.resolved:
            return Smoke(passed=False, where=case.version, answered="not tried: nothing is known of its input example")
        return await predict(await self._directory(seen.resolved), case.endpoint, case.headers)

    async def _keep(self, case: Case, ruling: Ruling) -> bool:
        """Writes what is new (rule 3); whether the ruling may take effect."""
        before = self._rulings.get(case.key)
        if ruling.problem or (before is not None and _same(before, ruling)):
            return True
        key = (case.model, case.version)
        put = Put(Kind.GATE, *key, msgspec.json.encode(ruling), self._revisions.get(key, 0))
        try:
            intent = await self._recorder.note(self._entry(case, ruling), [put])
        except StoreConflict:
            stored = (await self._recorder.gates()).get(key)
            self._revisions[key] = stored.revision if stored is not None else 0
            return not ruling.passed
        except StoreError as error:
            log.warning("the gates of %s %s cannot be written: %s", *key, error)
            return not ruling.passed
        self._revisions[key] = intent.revisions[0]
        self._kept[key] = ruling
        log.info("model %s: %s %s", *key, "passed its gates" if ruling.passed else f"is held back: {ruling.reason}")
        return True

    def _entry(self, case: Case, ruling: Ruling) -> AuditEntry:
        place = self._place(case.model)
        evidence = {"findings": ruling.findings, "seen": ruling.seen, "stable": ruling.stable, "smoke": ruling.smoke}
        return AuditEntry(
            time=ruling.at,
            actor="gates",
            action="gate",
            model=case.model,
            version=case.version,
            after={"passed": ruling.passed, "artifacts": ruling.seen.sha256},
            reason="it passed its gates" if ruling.passed else f"it is held back: {ruling.reason}",
            evidence=msgspec.to_builtins(evidence),
            revision=place.revision,
            digest=place.digest,
        )

    async def close(self) -> None:
        """Ends all looking."""
        await self._tasks.close()


def _nowhere(case: Case) -> str:
    return f"{case.version}, whose config names no registered model"


def _same(one: Ruling, other: Ruling) -> bool:
    return (one.passed, one.problem, one.findings) == (other.passed, other.problem, other.findings)
