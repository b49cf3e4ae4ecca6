"""One canary of one model: its plan, where it stands, the evidence about it, and what is decided on that.

Rules:
1. Decides synchronously and does nothing: what has to be written and put in force leaves as a `Step`.
2. A rollback is taken at once. Every other step is taken when it was written (`take`), and is lost where a rollback or
   another config came first.
3. One step is under way at a time: whoever comes meanwhile is refused, but a rollback, which comes in any case.
4. Without a state for the present plan there is no weight.
5. Evidence is about one canary beside one stable: another of either starts it anew.
6. Evidence that nothing was added to is assessed again only for the pace in its words: thousands of idle canaries must
   not keep control busy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from router.control.recorder import Revisions
from router.core.analysis import Verdict, assess
from router.core.guards import CanaryEvidence, EvidenceState, GuardLimits, Subject
from router.core.outcome import Arm, ArmBatch, BadEvent
from router.core.plan import Plan
from router.core.rollout import begin, decide, declared_weight, weight_in_force
from router.core.rollout_state import Command, ConfigChanged, Decision, Event, Refused, RolloutState, Tick

REASSESSED_SECONDS = 10.0
"""So old the words of a verdict may be."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a canary and the stable beside it are: digests by region."""

    canary: Mapping[str, str]
    stable: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a canary is judged by. `tolerance` and `confidence` are those of a promotion."""

    limits: GuardLimits
    sticky: bool = False
    tolerance: float = 0.005
    confidence: float = 0.95

    def evidence_about(self, subject: Subject) -> CanaryEvidence:
        """Evidence about `subject`, with nothing gathered yet."""
        return CanaryEvidence(self.limits, self.sticky, subject, tolerance=self.tolerance, confidence=self.confidence)


class KeptEvidence(msgspec.Struct, frozen=True):
    """Evidence in the store, and which stable it was gathered beside."""

    stable: dict[str, str]
    state: EvidenceState


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A decision to be written and put in force. `before` is None for the first one of a canary.

    `actor` is an operator's name, or `router`; `asked` the command behind it, where there is one.
    """

    canary: Canary
    before: RolloutState | None
    decision: Decision
    verdict: Verdict | None
    actor: str = "router"
    asked: str = ""
    said: str = ""

    @property
    def at_once(self) -> bool:
        """Whether it takes effect whatever the store says."""
        return self.decision.move == "rollback"

    @property
    def cause(self) -> str:
        """In one word: the guard that fired, or `operator`."""
        return "operator" if self.asked or self.verdict is None else self.verdict.guard or "operator"


@dataclass(slots=True, eq=False)
class Canary:
    """See the module. `plan` is None while the config does not name it."""

    model: str
    version: str
    revisions: Revisions = field(default_factory=Revisions)
    plan: Plan | None = None
    state: RolloutState | None = None
    evidence: CanaryEvidence | None = None
    terms: Terms = field(default_factory=lambda: Terms(GuardLimits()))
    verdict: Verdict | None = None
    identity: Identity = field(default_factory=lambda: Identity({}, {}))
    under_way: Step | None = None
    in_force: bool = False
    dirty: bool = False
    kept: KeptEvidence | None = None
    alarmed: bool = False
    _beside: dict[str, str] = field(default_factory=dict)
    _ticked: float | None = None
    _requests: int = 0
    _news: bool = True
    _assessed: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether it has a state for its plan."""
        return self.plan is not None and self.state is not None and self.state.digest == self.plan.digest

    def weight(self, region: str) -> int:
        """The weight that it may have in `region`, in hundredths of a percent (rule 4)."""
        if self.plan is None or self.state is None or not self.settled:
            return 0
        return weight_in_force(self.plan, self.state, region)

    def declared(self, region: str) -> int:
        """The weight that its rollout declares for `region`, a latch aside, in hundredths of a percent."""
        if self.plan is None or self.state is None or not self.settled:
            return 0
        return declared_weight(self.plan, self.state, region)

    @property
    def rolled_back(self) -> bool:
        """Whether a latch holds."""
        return self.settled and self.state is not None and self.state.rolled_back

    @property
    def split_is_wrong(self) -> bool:
        """Whether the canary's share is not the declared one."""
        readings = self.verdict.readings if self.verdict is not None else ()
        return any(reading.guard == "sample_ratio" and reading.fired for reading in readings)

    def follow(self, plan: Plan | None, identity: Identity, terms: Terms) -> None:
        """The config, or what is known of the versions, may have changed."""
        self.plan = plan
        if plan is None:
            return
        stable = {**self.identity.stable, **{region: digest for region, digest in identity.stable.items() if digest}}
        self.identity = Identity(dict(identity.canary), stable)
        subject = Subject(self.model, self.version, self._digest)
        known = self.evidence
        if known is None or known.subject != subject or terms != self.terms or self._stable_changed:
            self._renew_evidence(subject, terms)

    def _renew_evidence(self, subject: Subject, terms: Terms) -> None:
        state = self._to_restore(subject)
        self.terms = terms
        self.evidence = terms.evidence_about(subject)
        self._beside = dict(self.identity.stable)
        self.verdict = None
        self.dirty = True
        if state is not None:
            self.evidence.restore(state)

    def _to_restore(self, subject: Subject) -> EvidenceState | None:
        """What goes on counting although the evidence is set up anew (rule 5)."""
        kept = KeptEvidence(self._beside, self.evidence.state()) if self.evidence is not None else self.kept
        self.kept = None
        same = kept is not None and kept.state.subject == subject and not _differs(kept.stable, self.identity.stable)
        return kept.state if kept is not None and same else None

    @property
    def stage(self) -> tuple[str, ...]:
        """The regions in which its present step is; none where weights are set by hand."""
        if self.plan is None or self.state is None or self.state.region_index >= len(self.plan.stages):
            return ()
        return self.plan.stages[self.state.region_index]

    def beside(self, stables: Mapping[str, str]) -> None:
        """The stables in force, digests by region."""
        known = {region: digest for region, digest in stables.items() if digest}
        self.identity = Identity(self.identity.canary, {**self.identity.stable, **known})
        if self.evidence is not None and self._stable_changed:
            self._renew_evidence(self.evidence.subject, self.terms)
        self._beside = {**self.identity.stable, **self._beside}

    @property
    def _stable_changed(self) -> bool:
        return _differs(self._beside, self.identity.stable)

    @property
    def _digest(self) -> str:
        """One digest for the canary in all regions."""
        return "+".join(sorted({digest for digest in self.identity.canary.values() if digest}))

    def observe(self, arms: Iterable[ArmBatch], bad: Iterable[BadEvent], now: float) -> None:
        """Takes one worker's batch, whole."""
        if self.evidence is None or not self.settled:
            return
        ours = [msgspec.structs.replace(batch, arm=arm) for batch in arms if (arm := self._ours(batch.arm))]
        events = [msgspec.structs.replace(event, arm=arm) for event in bad if (arm := self._ours(event.arm))]
        if ours or events:
            self.evidence.observe(ours, events, now)
            self._count(ours)
            self.dirty = self._news = True

    def _ours(self, arm: Arm) -> Arm | None:
        """`arm` with the canary's one digest; None where another canary or another stable is meant (rule 5)."""
        if arm.model != self.model:
            return None
        here = self.identity.canary.get(arm.region, "")
        if arm.canary:
            if arm.version != self.version or arm.digest != here:
                return None
            return arm if here == self._digest else msgspec.structs.replace(arm, digest=self._digest)
        if arm.digest != self.identity.stable.get(arm.region):
            return None
        weight = next((weight for name, of, weight in arm.rivals if name == self.version and of == here), None)
        if weight is None or here == self._digest:
            return None if weight is None else arm
        return msgspec.structs.replace(arm, rivals=((self.version, self._digest, weight),))

    def _count(self, batches: Iterable[ArmBatch]) -> None:
        if self.plan is None or self.state is None or not self.in_force:
            return
        for batch in batches:
            if batch.arm.canary and batch.arm.region in self.stage:
                self._requests += sum(n for _, _, observed, n in batch.counts if observed)

    def judge(self, now: float) -> Step | None:
        """What the evidence says by now, and what comes of it."""
        if self.plan is None or self.state is None or not self.settled or self.evidence is None:
            return None
        if self._news or self.verdict is None or now - self._assessed >= REASSESSED_SECONDS:
            self.verdict, self._news, self._assessed = assess(self.evidence, now=now), False, now
        elif not self.plan.automatic:
            # Where weights are set by hand, time alone decides nothing.
            return None
        seconds = now - self._ticked if self._ticked is not None and self.in_force else 0.0
        tick = Tick(self.verdict.kind, seconds, self._requests, self.verdict.quiet, self.verdict.reason)
        self._ticked, self._requests = now, 0
        return self._step(tick, self.plan, self.state)

    def begin(self, latched_as: str = "") -> Step | None:
        """The step that gives it a state for its plan, where it has none.

        Args:
            latched_as: the version as which this very canary was rolled back; it still is.
        """
        if self.plan is None or self.settled or self.under_way is not None:
            return None
        if self.state is not None and not latched_as:
            return self._step(ConfigChanged("it is another canary now"), self.plan, self.state)
        revision = self.state.revision + 1 if self.state is not None else 1
        first = begin(self.plan, revision=revision, reason=f"{self.version} is new here")
        if latched_as:
            told = decide(first, Command("rollback", f"this canary was rolled back as {latched_as}"), self.plan)
            if isinstance(told, Decision):
                first = msgspec.structs.replace(told.state, revision=revision)
        return self._under_way(Step(self, self.state, Decision(first, "start", first.reason), None))

    def command(self, command: Command, actor: str) -> Step | Refused:
        """An operator's wish."""
        if self.plan is None or self.state is None or not self.settled:
            raise LookupError(self.version)
        if self.under_way is not None and command.name != "rollback":
            return Refused(self.state, f"`{command.name}` came second: another change of it is being written")
        base = self._base(self.state)
        told = decide(base, command, self.plan)
        if isinstance(told, Refused):
            return told
        return self._under_way(Step(self, base, told, self.verdict, actor, command.name, command.reason))

    def _base(self, state: RolloutState) -> RolloutState:
        """The state that a decision starts from: what is being written counts as done."""
        return self.under_way.decision.state if self.under_way is not None else state

    def _step(self, event: Event, plan: Plan, state: RolloutState) -> Step | None:
        base = self._base(state)
        told = decide(base, event, plan)
        if isinstance(told, Refused):
            return None
        if self.under_way is not None and told.move != "rollback":
            return None
        if told.effect:
            return self._under_way(Step(self, base, told, self.verdict))
        if told.state != state:
            self.state, self.dirty = told.state, True
        return None

    def _under_way(self, step: Step) -> Step:
        if step.at_once:
            self.state, self.under_way = step.decision.state, None
        else:
            self.under_way = step
        return step

    def take(self, step: Step) -> bool:
        """Puts `step`, which was written, in force; false where something else came first (rule 2)."""
        if self.under_way is not step:
            return False
        self.under_way = None
        self.state = step.decision.state
        if step.decision.forgets_evidence and self.evidence is not None:
            self.evidence = self.terms.evidence_about(self.evidence.subject)
            self.verdict = None
        self._ticked, self._requests = None, 0
        return True

    def drop(self, step: Step) -> None:
        """`step` could not be written."""
        if self.under_way is step:
            self.under_way = None

    def keeps(self) -> KeptEvidence | None:
        """The evidence, for the store."""
        if self.evidence is None:
            return self.kept
        return KeptEvidence(dict(self._beside), self.evidence.state())


def _differs(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether a region has another digest than before; one that is not known, or new, is none."""
    return any(digest != now.get(region, digest) for region, digest in before.items() if now.get(region))
