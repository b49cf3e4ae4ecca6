"""What control may ask of durable storage.

Rules:
1. Every call is synchronous and may block; on an event loop it belongs into a thread.
2. A call that returns has made its change durable; one that raises `StoreError` has changed nothing.
3. A store that fails now may work later: callers go on with what they know and try again.
4. Times are wall-clock seconds since the Unix epoch.
5. Every change of a state names the revision that it was made from, and is refused if that is not the newest: of two
   that change the same thing, one wins and the other learns of it. Revisions are never used twice, not even after a
   deletion.
6. An intent is one change: its audit record is there with all of its states, or nothing is.
7. A store that was damaged stays refused until an operator mends it: beginning anew would undo rollbacks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from router.errors import UpstreamError
from router.store.audit import AuditEntry, AuditRecord, Finding, Head


class StoreError(UpstreamError):
    """The store could not be read or written; nothing was changed."""


class StoreConflict(StoreError):  # noqa: N818 - says what happened, as its siblings do
    """Somebody else changed the same thing first: read it again, and decide anew."""


class StoreFull(StoreError):  # noqa: N818 - says what happened, as its siblings do
    """There is no room to write, or no leave to: the store can be read, and takes changes again once it is mended."""


class StoreDamaged(StoreError):  # noqa: N818 - says what happened, as its siblings do
    """What the store holds cannot be trusted; it refuses everything until an operator restores or replaces it."""


@dataclass(frozen=True, slots=True)
class LastGood:
    """The last config of a model that was found right: its raw `text`, the config's `digest`, when it was applied."""

    text: str
    digest: str
    applied_at: float


class Store(Protocol):
    """Facts that outlive the process. Any method may raise `StoreError`."""

    def last_good(self, model: str) -> LastGood | None:
        """The last good config of `model`, where there is one."""
        ...

    def last_goods(self) -> Mapping[str, LastGood]:
        """The last good configs, by model."""
        ...

    def save_last_good(self, model: str, text: str, digest: str, at: float) -> None:
        """Keeps `text` as the last good config of `model`, in place of the one before."""
        ...

    def forget(self, model: str) -> None:
        """Drops the last good config of `model`; nothing happens where there is none."""
        ...

    def pins(self) -> Mapping[str, str]:
        """What each URI was resolved to, as JSON, by URI."""
        ...

    def save_pin(self, uri: str, resolved: str) -> None:
        """Keeps `resolved` (JSON) for `uri`, in place of what was there before."""
        ...

    def admitted(self) -> set[str]:
        """The digests of all versions that were ever admitted."""
        ...

    def admit(self, digest: str, model: str, version: str, at: float) -> None:
        """Records that the version with `digest` was admitted; the first time is kept."""
        ...

    def keep_named(self, pins: Collection[str], admitted: Collection[str], at: float, unnamed_for: float) -> int:
        """Notes that configs name these pins and admitted digests at `at`; drops what none has named for `unnamed_for`
        seconds before that. Returns how many were dropped."""
        ...

    def close(self) -> None:
        """Lets go of the store; a later call opens it again."""
        ...


Key = tuple[str, str]
"""A model and one of its versions."""


class Kind(StrEnum):
    """What a state is about."""

    ROLLOUT = "rollout"
    EVIDENCE = "evidence"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class Versioned:
    """A state as it was put, and the revision to name when it is changed."""

    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """A state to be kept, in place of the one with revision `expect` (0: there is none). Without a `value` that one is
    deleted."""

    kind: Kind
    model: str
    version: str
    value: bytes | None
    expect: int


@dataclass(frozen=True, slots=True)
class Intent:
    """What `Ledger.commit_intent` wrote; `revisions` are those of the puts, in their order, 0 for a deletion."""

    record: AuditRecord
    revisions: tuple[int, ...]


class Ledger(Protocol):
    """Decisions that outlive the process: their states, and the audit trail.

    Any method may raise `StoreError`; those that take a revision raise `StoreConflict`, those that write `StoreFull`.
    """

    def rollouts(self) -> Mapping[Key, Versioned]:
        """The states of all rollouts."""
        ...

    def put_rollout(self, model: str, version: str, state: bytes, expect: int) -> int:
        """Keeps a rollout's state in place of revision `expect` (0: there is none); returns the new revision."""
        ...

    def delete_rollout(self, model: str, version: str, expect: int) -> None:
        """Drops a rollout's state of revision `expect`."""
        ...

    def evidences(self) -> Mapping[Key, Versioned]:
        """The evidence about all canaries."""
        ...

    def put_evidence(self, model: str, version: str, state: bytes, expect: int) -> int:
        """Keeps the evidence about a canary in place of revision `expect` (0: there is none); returns the new one."""
        ...

    def delete_evidence(self, model: str, version: str, expect: int) -> None:
        """Drops the evidence of revision `expect`."""
        ...

    def gates(self) -> Mapping[Key, Versioned]:
        """What the gates found of each version, with everything that they saw."""
        ...

    def put_all(self, puts: Sequence[Put]) -> tuple[int, ...]:
        """All of `puts` in one change, or none; returns the new revisions, 0 for a deletion."""
        ...

    def commit_intent(self, entry: AuditEntry, puts: Sequence[Put]) -> Intent:
        """Appends `entry` to the audit trail and does all of `puts`, in one change, or nothing."""
        ...

    def append_audit(self, entry: AuditEntry) -> AuditRecord:
        """Appends `entry` to the audit trail."""
        ...

    def audit(self, model: str | None = None, after: int = 0, limit: int = 1000) -> Sequence[AuditRecord]:
        """The first `limit` records with a sequence above `after`, oldest first; of `model` alone if one is named."""
        ...

    def audit_head(self) -> Head:
        """The newest record's place and hash."""
        ...

    def verify(self, head: Head | None = None) -> Sequence[Finding]:
        """What is wrong with the audit trail, also against a `head` noted elsewhere; empty where it is whole."""
        ...
