"""What a gate looks at: one version as a registry tells of it, and how its smoke prediction went.

Rules:
1. Complete or empty: what the registry does not know is empty here, and fails a gate that asks for it.
2. Plain values that can be kept as JSON: what a gate saw is kept, since a registry can be changed afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Dataset(msgspec.Struct, frozen=True):
    """A data set that the run logged; `digest` is MLflow's short label of it."""

    name: str = ""
    digest: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One version as a registry told of it. `created_at` is wall-clock seconds, 0 where nobody knows; `run_status` is
    empty where there is no such run (any more); `sha256` is one hash over all of its artifacts."""

    uri: str = ""
    resolved: str = ""
    source: str = ""
    name: str = ""
    version: str = ""
    run_id: str = ""
    run_status: str = ""
    model_id: str = ""
    tags: dict[str, str] = {}
    metrics: dict[str, float | None] = {}
    git_commit: str = ""
    datasets: list[Dataset] = []
    signature: bool = False
    flavor: str = ""
    created_at: float = 0.0
    sha256: str = ""

    @property
    def place(self) -> str:
        """Where to look at it: the pinned URI, and the run."""
        return (self.resolved or self.uri) + (f", run {self.run_id}" if self.run_id else "")


class Smoke(msgspec.Struct, frozen=True):
    """A prediction of the model's own input example. `where` was asked, `answered` is what came of it."""

    passed: bool
    where: str
    answered: str


def seen_of(resolved: Mapping[str, object]) -> Seen:
    """The version that a registry described as `resolved`; what it says in no known form is taken as not said."""
    try:
        return msgspec.convert(dict(resolved), Seen)
    except msgspec.ValidationError:
        return Seen(uri=str(resolved.get("uri", "")), resolved=str(resolved.get("resolved", "")))
