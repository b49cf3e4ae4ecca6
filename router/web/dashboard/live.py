"""What changes, to every open tab: one broadcaster for all of them.

Rules:
1. A view is made once for all tabs that show it, and only while somebody does; a part that is as it was is not sent.
2. A tab has room for the newest state of each part and for nothing more: one that does not read costs no memory.
3. Making views may take `SHARE` of a core: where there are many, they come less often. What was decided since is
   looked for every `LOOK_SECONDS` and then sent at once, whatever that costs.
4. More than `MOST` tabs are refused, politely.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping

from router.clock import Clock

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
EVERY_SECONDS = 1.0
BEAT_SECONDS = 15.0
SHARE = 0.03
MOST = 300

EMPTY = "data:\n"

Parts = Mapping[str, str]
"""HTML by the name of the part."""


class Tab:
    """What one tab has not been told yet."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.woken = asyncio.Event()

    def put(self, parts: Parts) -> None:
        """Rule 2."""
        self.parts.update(parts)
        self.woken.set()

    def take(self) -> bytes:
        """What there is to send."""
        parts, self.parts = self.parts, {}
        self.woken.clear()
        return b"".join(_event(name, html) for name, html in parts.items())


class _View:
    def __init__(self, make: Callable[[], Parts]) -> None:
        self.make = make
        self.sent: Parts = {}
        self.tabs: set[Tab] = set()


class Live:
    """The broadcaster. `decided` is a value that is another one whenever something was decided."""

    def __init__(self, clock: Clock, decided: Callable[[], object]) -> None:
        self._clock = clock
        self._decided = decided
        self._views: dict[str, _View] = {}
        self._closed = False
        self._woken = asyncio.Event()

    @property
    def tabs(self) -> int:
        """How many are open."""
        return sum(len(view.tabs) for view in self._views.values())

    @property
    def full(self) -> bool:
        """Rule 4."""
        return self._closed or self.tabs >= MOST

    def watches(self, key: str) -> bool:
        """Whether somebody looks at the view `key`."""
        return key in self._views

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        for view in self._views.values():
            for tab in view.tabs:
                tab.woken.set()

    async def follow(self, key: str, make: Callable[[], Parts]) -> AsyncIterator[bytes]:
        """What a tab that shows the view `key`, made by `make`, is sent until it goes."""
        view = self._views.setdefault(key, _View(make))
        tab = Tab()
        # Who was there before is told first: what is sent next is the difference to what this tab begins with.
        self._tell(key, view)
        tab.put(view.sent)
        view.tabs.add(tab)
        self._woken.set()
        try:
            yield b"retry: 2000\n\n"
            while not self._closed:
                yield tab.take() or b": still here\n\n"
                await self._wait(tab)
        finally:
            view.tabs.discard(tab)
            if not view.tabs:
                self._views.pop(key, None)

    async def _wait(self, tab: Tab) -> None:
        try:
            async with asyncio.timeout(BEAT_SECONDS):
                await tab.woken.wait()
        except TimeoutError:
            return

    async def work(self) -> None:
        """Tells the tabs, for ever."""
        told: object = None
        due = 0.0
        while True:
            if not self._views:
                self._woken.clear()
                await self._woken.wait()
            now = self._clock.monotonic()
            decided = self._decided()
            if decided != told or now >= due:
                told = decided
                for key, view in list(self._views.items()):
                    self._tell(key, view)
                    await asyncio.sleep(0)
                took = self._clock.monotonic() - now
                due = now + max(EVERY_SECONDS - LOOK_SECONDS / 2, took / SHARE)
            await self._clock.sleep(LOOK_SECONDS)

    def _tell(self, key: str, view: _View) -> None:
        try:
            parts = view.make()
        except Exception:
            log.exception("the view %s could not be made", key)
            return
        news = {name: html for name, html in parts.items() if view.sent.get(name) != html}
        view.sent = parts
        for tab in view.tabs if news else ():
            tab.put(news)


def _event(name: str, html: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())
    return f"event: {name}\n{lines or EMPTY}\n".encode()
