"""Writes what must survive a restart, without anybody waiting for the disk.

Rules:
1. Writes happen one after another in a thread, in the order they were asked for; a newer one for the same key
   replaces an older one that waits.
2. A store that refuses is tried again every few seconds; nothing is lost meanwhile but by a crash, and `problem`
   says so.
3. Pins and admissions that no config has named for 30 days are dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from router.clock import Clock
from router.control.backoff import Backoff
from router.control.controller import Saved
from router.control.needs import LoadNeed
from router.control.pins import Pin, pin_from_text, pin_to_text
from router.errors import RouterError
from router.store.base import Store

log = logging.getLogger(__name__)

UNNAMED_SECONDS = 30 * 86_400.0
"""Long enough that a version which a revert brings back is what it was."""

READING = ("read", "")
UNREADABLE = "the store cannot be read, and no canary gets weight until it can"
UNWRITABLE = "the store cannot write, a restart would forget what changed"


@dataclass(frozen=True, slots=True)
class Remembered:
    """`last_good` maps a model to its config's text and digest, `pins` a pin's key to its text."""

    last_good: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    pins: Mapping[str, str] = field(default_factory=dict)
    admitted: frozenset[str] = frozenset()

    def pin_of(self, need: LoadNeed) -> Pin | None:
        """The pin of `need`, where it was wanted until now: its URI is in the model's last good config."""
        text = self.pins.get(pin_key(need))
        if text is None or need.uri not in self.last_good.get(need.model, ("", ""))[0]:
            return None
        return pin_from_text(text)


class Keeper:
    """The queue in front of the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[tuple[str, str], Callable[[], object]] = {}
        self._woken = asyncio.Event()
        self.problem = ""

    async def recall(self) -> Remembered:
        """What was kept in an earlier life; nothing, and a `problem`, where the store cannot be read."""
        try:
            return await asyncio.to_thread(self._recall)
        except RouterError as error:
            log.warning("the store cannot be read: %s", error)
            self.problem = f"{UNREADABLE}: {error}"
            # Asked again like a write that waits, so that the problem goes when it is none any more.
            self._put(READING, self._recall)
            return Remembered()

    def _recall(self) -> Remembered:
        return Remembered(
            {model: (good.text, good.digest) for model, good in self._store.last_goods().items()},
            dict(self._store.pins()),
            frozenset(self._store.admitted()),
        )

    def save(self, saved: Saved) -> None:
        """Keeps a model's last good config."""
        at = self._clock.wall()
        self._put(
            ("config", saved.model),
            lambda: self._store.save_last_good(saved.model, saved.text, saved.digest, at),
        )

    def forget(self, model: str) -> None:
        """Forgets a model's last good config."""
        self._put(("config", model), lambda: self._store.forget(model))

    def pin(self, need: LoadNeed, pin: Pin) -> None:
        """Keeps what a model's URI was resolved to."""
        text = pin_to_text(pin)
        self._put(("pin", pin_key(need)), lambda: self._store.save_pin(pin_key(need), text))

    def admit(self, digest: str, model: str, version: str) -> None:
        """Keeps that a version was admitted."""
        at = self._clock.wall()
        self._put(("admission", digest), lambda: self._store.admit(digest, model, version, at))

    def tidy(self, needs: Iterable[LoadNeed], admitted: Iterable[str]) -> None:
        """Keeps rule 3, given what the configs name now: `needs`, and the digests of `admitted` versions."""
        pins, digests, at = [pin_key(need) for need in needs], list(admitted), self._clock.wall()
        self._put(("tidy", ""), lambda: self._drop_unnamed(pins, digests, at))

    def _drop_unnamed(self, pins: Collection[str], digests: Collection[str], at: float) -> None:
        dropped = self._store.keep_named(pins, digests, at, UNNAMED_SECONDS)
        if dropped:
            log.info("forgot %d pins and admissions that no config has named for 30 days", dropped)

    def _put(self, key: tuple[str, str], write: Callable[[], object]) -> None:
        self._waiting.pop(key, None)
        self._waiting[key] = write
        self._woken.set()

    async def work(self) -> None:
        """Writes what waits, for ever."""
        backoff = Backoff(1.0, 10.0)
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                if await self._write_next():
                    backoff.succeed()
                else:
                    backoff.fail()
                    await self._clock.sleep(backoff.pause)

    async def flush(self) -> None:
        """Writes what waits, and closes the store; stops at the first refusal."""
        while self._waiting and await self._write_next():
            continue
        await asyncio.to_thread(self._store.close)

    async def _write_next(self) -> bool:
        key = next(iter(self._waiting))
        write = self._waiting.pop(key)
        try:
            await asyncio.to_thread(write)
        except RouterError as error:
            self._waiting = {key: write, **self._waiting}
            if not self.problem:
                log.warning("the store refuses: %s", error)
            self.problem = f"{UNREADABLE if key == READING else UNWRITABLE}: {error}"
            return False
        self.problem = ""
        return True


def pin_key(need: LoadNeed) -> str:
    """The key of a need's pin in the store."""
    return f"{need.model} {need.uri}"
