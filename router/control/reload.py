"""Notices what changed in the directory of configs.

Rules:
1. The directory is watched, never a file: an atomic rename and a ConfigMap's symlink swap are both changes of a
   directory. It is polled as well, because network file systems and bind mounts tell nobody.
2. Only a file whose bytes changed is parsed, in a thread; another regions.yaml makes all files be judged again.
3. A broken file changes nothing but the model's problems. At the start its last good text takes its place.
4. One file that is gone at two looks in a row, at least `VANISH_SECONDS` apart, takes its model out of service.
   Editors rename a file away and back, so that one look proves nothing.
5. All files gone, or `models/` missing or unreadable, is a problem and takes nothing out of service: it looks the
   same as a volume that is not mounted or half swapped.
6. Problems name files as they are called in the repository, which lies elsewhere for whoever wrote them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from watchfiles import awatch

from router.clock import Clock
from router.config.load import digest_of, load_model, load_regions, not_read, read_file, unknown_regions
from router.config.problems import Problem
from router.config.schema import ModelConfig

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
VANISH_SECONDS = 0.4
DEBOUNCE_MS = 40
STEP_MS = 10
TRUST_STAT_AFTER_NS = 3_000_000_000
"""A file that changed less than this before it was read may change again without its times showing it."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is new about one model.

    `config` is None where the file is broken (the config in force goes on) or the model was `removed`.
    `restored`: the config is the last good one, not the file's; `problems` say what is wrong with the file.
    """

    model: str
    config: ModelConfig | None = None
    text: str = ""
    digest: str = ""
    problems: tuple[Problem, ...] = ()
    removed: bool = False
    restored: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the directory. `problems` are those of the directory and of regions.yaml; `revision` is a digest
    over all files' contents."""

    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]
    revision: str


@dataclass(slots=True)
class _File:
    stamp: tuple[int, ...]
    read_at: int
    digest: str


class Reader:
    """Compares the directory with what it held at the last look. Blocking: call it in a thread, one at a time.

    `served` are the regions that this router has a listener for.
    """

    def __init__(self, root: Path, clock: Clock, last_good: Mapping[str, str], served: Sequence[str] = ()) -> None:
        self._root = root
        self._served = served
        self._clock = clock
        self._last_good = dict(last_good)
        self._files: dict[str, _File] = {}
        self._missing_since: dict[str, float] = {}
        self._regions: tuple[str, ...] | None = None
        self._regions_text: bytes | None = None
        self._regions_problems: tuple[Problem, ...] = ()
        self._misnamed: tuple[Problem, ...] = ()
        self._first = True

    def look(self, *, thorough: bool = False) -> Look:
        """What changed since the last look. `thorough` reads every file, whatever its times say."""
        all_again = self._look_at_regions() or self._first
        try:
            names = self._names()
        except OSError as error:
            return self._nothing_there(f"cannot be read: {error.strerror}")
        if not names:
            return self._nothing_there("holds no <model>.yaml")
        changes = [
            change
            for name in names
            if (change := self._look_at(name, thorough=thorough, parse_anyway=all_again)) is not None
        ]
        changes += self._vanished(names)
        self._first = False
        return Look(tuple(changes), (*self._regions_problems, *self._misnamed), self._revision())

    def _names(self) -> list[str]:
        self._misnamed = ()
        with os.scandir(self._root / "models") as entries:
            files = [entry.name for entry in entries if not entry.name.startswith(".")]
        self._misnamed = tuple(
            replace(problem, file=self._called(Path(problem.file))) for problem in not_read(self._root)
        )
        return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))

    def _called(self, path: Path) -> str:
        """Rule 6."""
        return str(path.relative_to(self._root))

    def _look_at_regions(self) -> bool:
        path = self._root / "regions.yaml"
        try:
            text: bytes | None = read_file(path)
        except FileNotFoundError:
            text = None
        except OSError as error:
            self._regions_problems = (_problem(self._called(path), f"cannot be read: {error.strerror}"),)
            return False
        if text == self._regions_text:
            return False
        self._regions_text = text
        if text is None:
            before, self._regions, self._regions_problems = self._regions, None, ()
            return before is not None
        regions, self._regions_problems = load_regions(text, file=self._called(path))
        if regions is not None and (unknown := unknown_regions(self._served, regions)):
            what = f"this router serves {', '.join(unknown)}, which is not in this list; its listeners stay as they are"
            self._regions_problems = (_problem(self._called(path), what),)
        if regions is None or regions == self._regions:
            return False
        self._regions = regions
        return True

    def _look_at(self, name: str, *, thorough: bool, parse_anyway: bool) -> Change | None:
        path = self._root / "models" / f"{name}.yaml"
        known = self._files.get(name)
        self._missing_since.pop(name, None)
        try:
            stamp = _stamp(path)
            if known and known.stamp == stamp and not (thorough or parse_anyway) and _settled(known):
                return None
            text = read_file(path)
        except OSError as error:
            return self._unreadable(name, path, error, known)
        digest = hashlib.sha256(text).hexdigest()
        self._files[name] = _File(stamp, int(self._clock.wall() * 1e9), digest)
        if known and known.digest == digest and not parse_anyway:
            return None
        config, problems = load_model(name, text, file=self._called(path), regions=self._regions, root=self._root)
        if config is None:
            return self._broken(name, problems)
        self._last_good.pop(name, None)
        return Change(name, config, text.decode(), digest_of(config), problems)

    def _unreadable(self, name: str, path: Path, error: OSError, known: _File | None) -> Change | None:
        digest = f"unreadable: {error.strerror}"
        if known and known.digest == digest:
            return None
        self._files[name] = _File((), 0, digest)
        return self._broken(name, (_problem(self._called(path), f"cannot be read: {error.strerror}", model=name),))

    def _broken(self, name: str, problems: tuple[Problem, ...]) -> Change:
        text = self._last_good.pop(name, None)
        if text is None:
            return Change(name, problems=problems)
        return _restore(name, text, problems, self._root)

    def _vanished(self, names: list[str]) -> list[Change]:
        if self._first:
            gone = [name for name in self._last_good if name not in names]
            for name in gone:
                del self._last_good[name]
            return [Change(name, removed=True) for name in gone]
        now = self._clock.monotonic()
        present = set(names)
        changes = []
        for name in [name for name in self._files if name not in present]:
            if now - self._missing_since.setdefault(name, now) >= VANISH_SECONDS:
                del self._files[name], self._missing_since[name]
                changes.append(Change(name, removed=True))
        return changes

    def _nothing_there(self, what: str) -> Look:
        problem = _problem("models", f"{what}; what was in force goes on (to remove a model, delete its file alone)")
        self._missing_since.clear()
        changes = tuple(_restore(name, text, (problem,), self._root) for name, text in self._last_good.items())
        self._files.update({name: _File((), 0, "last good") for name in self._last_good})
        self._last_good.clear()
        return Look(changes, (*self._regions_problems, *self._misnamed, problem), self._revision())

    def _revision(self) -> str:
        digest = hashlib.sha256(self._regions_text or b"")
        for name, file in sorted(self._files.items()):
            digest.update(f"{name}\0{file.digest}\0".encode())
        return digest.hexdigest()[:12]


def _restore(name: str, text: str, problems: tuple[Problem, ...], root: Path) -> Change:
    config, more = load_model(name, text.encode(), file=f"last good config of {name}", regions=None, root=root)
    if config is None:
        return Change(name, problems=(*problems, *more))
    return Change(name, config, text, digest_of(config), problems, restored=True)


def _problem(file: str, message: str, *, model: str = "") -> Problem:
    return Problem(file=file, line=1, column=1, path="", message=message, model=model)


def _stamp(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _settled(file: _File) -> bool:
    return bool(file.stamp) and file.read_at - file.stamp[4] > TRUST_STAT_AFTER_NS


class Watch:
    """Says when to look again: at once after a change that the system tells of, and at every poll."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._woken = asyncio.Event()

    async def looks(self, reader: Reader) -> AsyncGenerator[Look, None]:
        """Looks for ever; the first look comes at once. Every tenth poll is thorough."""
        watching: asyncio.Task[None] | None = None
        identity: tuple[object, ...] = ()
        polls = 0
        try:
            while True:
                now = await asyncio.to_thread(self._identity)
                if watching is None or watching.done() or now != identity:
                    await _end(watching)
                    identity = now
                    watching = asyncio.create_task(self._watch(), name="watch configs")
                self._woken.clear()
                yield await asyncio.to_thread(reader.look, thorough=polls % 10 == 9)
                polls += await self._next()
        finally:
            await _end(watching)

    async def _next(self) -> int:
        """Waits for a change or the next poll; returns how many polls that was."""
        woken = asyncio.ensure_future(self._woken.wait())
        poll = asyncio.ensure_future(self._clock.sleep(POLL_SECONDS))
        try:
            await asyncio.wait((woken, poll), return_when=asyncio.FIRST_COMPLETED)
            return int(poll.done())
        finally:
            woken.cancel()
            poll.cancel()

    async def _watch(self) -> None:
        paths = [path for path in (self._root, self._root / "models") if await asyncio.to_thread(path.is_dir)]
        if not paths:
            await asyncio.Event().wait()
        try:
            changes = awatch(*paths, debounce=DEBOUNCE_MS, step=STEP_MS, recursive=False, watch_filter=None)
            async with aclosing(changes):
                async for _ in changes:
                    self._woken.set()
        except (OSError, RuntimeError) as error:
            log.warning("cannot watch %s (%s); it is polled every second instead", self._root, error)
            await asyncio.Event().wait()

    def _identity(self) -> tuple[object, ...]:
        return tuple(_identity_of(path) for path in (self._root, self._root / "models"))


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino)


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
