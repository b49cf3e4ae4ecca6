"""What a registry child tells its caller, as JSON on its standard output.

Rules:
1. Complete or an error: a field that the registry does not know is empty, never missing.
2. Nothing in here is a secret: URLs carry no credentials.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from router.errors import OperatorError, RouterError, UpstreamError


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A data set that the run logged. `digest` is MLflow's short label, not an integrity check."""

    name: str
    digest: str


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A model URI, pinned, with its lineage as the registry had it at that moment.

    `resolved` is the pinned form: `models:/name/3`, `models:/m-id`, `runs:/id/path` or an absolute path. `source` is
    where its files are: `models:/m-id`, or whatever URI the registry holds. `name`, `version`, `run_id`, `model_id`
    and `git_commit` are empty where there is none; `flavor` is the most specific flavor, such as `sklearn`.
    `created_at` is wall-clock seconds, the earliest that is known of the model and its run, 0 where nothing is;
    `run_status` is empty where there is no such run (any more).
    """

    uri: str
    resolved: str
    source: str
    name: str = ""
    version: str = ""
    run_id: str = ""
    model_id: str = ""
    tags: dict[str, str] = {}
    metrics: dict[str, float] = {}
    git_commit: str = ""
    datasets: list[Dataset] = []
    signature: bool = False
    flavor: str = ""
    created_at: float = 0.0
    run_status: str = ""


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A model's files on this machine: relative path → hex SHA-256, and one `digest` over them all."""

    path: str
    sha256: dict[str, str]
    digest: str


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was registered: its name and new version, the run with its lineage, one digest over its files."""

    name: str
    version: str
    run_id: str
    digest: str


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """An environment: its interpreter, and one digest over what it was built from."""

    python: str
    digest: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a child could not do it; `fault` says whose part it is to mend it."""

    error: str
    hint: str = ""
    fault: Literal["operator", "upstream"] = "upstream"

    def as_error(self) -> RouterError:
        """The failure as an exception of the caller's process."""
        kind = OperatorError if self.fault == "operator" else UpstreamError
        return kind(self.error, hint=self.hint)


def failure_of(error: RouterError) -> Failure:
    """The failure that carries `error` across the process boundary."""
    fault: Literal["operator", "upstream"] = "operator" if isinstance(error, OperatorError) else "upstream"
    return Failure(error=error.message, hint=error.hint, fault=fault)
