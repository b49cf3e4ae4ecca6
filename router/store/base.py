"""What control may ask of durable storage.

Rules:
1. Every call is synchronous and may block; on an event loop it belongs into a thread.
2. A call that returns has made its change durable; one that raises `StoreError` has changed nothing.
3. A store that fails now may work later: callers go on with what they know and try again.
4. Times are wall-clock seconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from router.errors import UpstreamError


class StoreError(UpstreamError):
    """The store could not be read or written; nothing was changed."""


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

    def close(self) -> None:
        """Lets go of the store; a later call opens it again."""
        ...
