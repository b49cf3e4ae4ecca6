"""Looks at a branch in git, in the form in which `reload` looks at a folder: the one takes the other's place.

Rules:
1. A look is of one commit. Everything in it was read before anything is told: half of a commit is nobody's config.
2. Only files whose object changed are read and parsed; another regions.yaml makes all files be judged again.
3. A broken file changes nothing but its model's problems; so does a file that turned into something else, as a link.
   At the start its last good text takes its place.
4. A file that is gone takes its model out of service at once: a commit is no half-finished copy. All files gone is a
   problem and takes nothing out of service: the path is wrong, or somebody made a mistake.
5. Whatever the remote does, what was taken last goes on, also across a restart; how long it has been stale is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

from router.clock import Clock
from router.config.load import MODELS, REGIONS, SUFFIX, digest_of, load_model, load_regions
from router.config.problems import Problem
from router.control.reload import Change, Look
from router.errors import OperatorError, RouterError
from router.gitops.revision import Revision
from router.gitops.source import Checkout, Source

log = logging.getLogger(__name__)

POLL_SECONDS = 10.0
NO_COMMIT = "none"
"""The revision of a look while no commit could be read yet."""


class GitReader:
    """Compares the branch with what it held at the last look. Blocking: call it in a thread, one at a time.

    Args:
        source: the branch.
        root: the folder at which relative paths in configs start; configs themselves are never written there.
        clock: the time.
        last_good: the last good text of each model.
    """

    def __init__(self, source: Source, root: Path, clock: Clock, last_good: Mapping[str, str]) -> None:
        self._source = source
        self._root = root
        self._clock = clock
        self._last_good = dict(last_good)
        self._seen: dict[str, str] = {}
        self._commit = ""
        self._regions: tuple[str, ...] | None = None
        self._problems: tuple[Problem, ...] = ()
        self._first = True
        self.revision: Revision | None = None
        self.fresh_at: float = 0.0

    @property
    def stale(self) -> float:
        """Seconds since the remote was last read as it should be; since the Unix epoch where it never was."""
        return max(0.0, self._clock.wall() - self.fresh_at)

    def look(self, *, thorough: bool = False) -> Look:
        """What changed since the last look. `thorough` reads every file again."""
        checkout, trouble = self._poll()
        if checkout is None:
            return self._nothing_there(trouble)
        try:
            changes = self._compare(checkout, thorough=thorough)
        except RouterError as error:
            log.warning("%s", error)
            return self._nothing_there(self._problem(str(error.message)))
        self._first = False
        found = (*self._problems, *([trouble] if trouble is not None else []))
        return Look(tuple(changes), found, checkout.revision.short)

    def _poll(self) -> tuple[Checkout | None, Problem | None]:
        """The commit to look at, and what is wrong with the remote."""
        try:
            checkout = self._source.poll()
        except RouterError as error:
            return (self._source.last() if self._first else None), self._problem(error.message)
        self.fresh_at = self._clock.wall()
        return checkout, None

    def _compare(self, checkout: Checkout, *, thorough: bool) -> list[Change]:
        listing = checkout.listing
        if listing.commit == self._commit and not thorough:
            return []
        models = {path: found for path, found in listing.files.items() if path != REGIONS}
        if not models:
            raise OperatorError(
                f"commit {checkout.revision.short} holds no {self._path(MODELS)}/<model>.yaml; what was in force goes "
                "on (to remove a model, delete its file alone)"
            )
        all_again = thorough or self._first or listing.files.get(REGIONS) != self._seen.get(REGIONS)
        wanted = [path for path, found in models.items() if all_again or self._seen.get(path) != found]
        regions = [REGIONS] if all_again and REGIONS in listing.files else []
        texts = self._source.read(checkout, (*regions, *wanted))
        if all_again:
            self._read_regions(texts.pop(REGIONS, None), checkout)
        refused = self._refused(checkout)
        changes = [self._change(path, text, checkout) for path, text in texts.items()]
        changes += [self._or_last_good(change) for change in refused.values()]
        changes += self._gone({_model_of(path) for path in (*models, *refused)})
        self._seen = dict(listing.files) | dict.fromkeys(refused, "refused")
        self._commit, self.revision = listing.commit, checkout.revision
        self._source.take(checkout)
        return changes

    def _refused(self, checkout: Checkout) -> dict[str, Change]:
        """Models whose files are none, by path."""
        return {
            each.path: Change(_model_of(each.path), problems=(self._problem_at(checkout, each.path, each.message),))
            for each in checkout.listing.refused
            if each.path.startswith(f"{MODELS}/") and each.path.endswith(SUFFIX)
        }

    def _read_regions(self, text: bytes | None, checkout: Checkout) -> None:
        if text is None:
            self._regions, self._problems = None, ()
            return
        regions, self._problems = load_regions(text, file=self._name(checkout, REGIONS))
        self._regions = regions if not self._problems else self._regions

    def _change(self, path: str, text: bytes, checkout: Checkout) -> Change:
        name = _model_of(path)
        file = self._name(checkout, path)
        config, problems = load_model(name, text, file=file, regions=self._regions, root=self._root)
        if config is None:
            return self._or_last_good(Change(name, problems=problems))
        self._last_good.pop(name, None)
        return Change(name, config, text.decode(), digest_of(config), problems)

    def _or_last_good(self, broken: Change) -> Change:
        """`broken`, with the last good text in its place where this is the first that is heard of the model."""
        text = self._last_good.pop(broken.model, None)
        if text is None:
            return broken
        file = f"last good config of {broken.model}"
        config, more = load_model(broken.model, text.encode(), file=file, regions=None, root=self._root)
        if config is None:
            return Change(broken.model, problems=(*broken.problems, *more))
        return Change(broken.model, config, text, digest_of(config), broken.problems, restored=True)

    def _gone(self, present: set[str]) -> list[Change]:
        before = {_model_of(path) for path in self._seen if path != REGIONS} | set(self._last_good)
        self._last_good = {name: text for name, text in self._last_good.items() if name in present}
        return [Change(name, removed=True) for name in sorted(before - present)]

    def _nothing_there(self, trouble: Problem | None) -> Look:
        """Rule 5. At the start there may be neither remote nor mirror: then the last good texts are all there is."""
        problems = (trouble,) if trouble is not None else ()
        changes: tuple[Change, ...] = ()
        if self._first:
            changes = tuple(self._or_last_good(Change(name, problems=problems)) for name in tuple(self._last_good))
            self._seen = {f"{MODELS}/{change.model}{SUFFIX}": "last good" for change in changes}
            self._first = False
        return Look(changes, (*self._problems, *problems), self._commit[:12] or NO_COMMIT)

    def _problem(self, message: str) -> Problem:
        return Problem(f"git {self._source.remote.branch}", 1, 1, "", message)

    def _problem_at(self, checkout: Checkout, path: str, message: str) -> Problem:
        return Problem(self._name(checkout, path), 1, 1, "", message, _model_of(path))

    def _name(self, checkout: Checkout, path: str) -> str:
        return f"{checkout.revision.short}:{self._path(path)}"

    def _path(self, path: str) -> str:
        return f"{self._source.remote.prefix}{path}"


class GitWatch:
    """Says when to look again: every `poll` seconds, and at once when `wake` is called, as a webhook does."""

    def __init__(self, clock: Clock, *, poll: float = POLL_SECONDS) -> None:
        self._clock = clock
        self._poll = poll
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Somebody pushed."""
        self._woken.set()

    async def looks(self, reader: GitReader) -> AsyncGenerator[Look, None]:
        """Looks for ever; the first look comes at once."""
        while True:
            self._woken.clear()
            yield await asyncio.to_thread(reader.look)
            woken = asyncio.ensure_future(self._woken.wait())
            poll = asyncio.ensure_future(self._clock.sleep(self._poll))
            try:
                await asyncio.wait((woken, poll), return_when=asyncio.FIRST_COMPLETED)
            finally:
                woken.cancel()
                poll.cancel()


def _model_of(path: str) -> str:
    return path.removeprefix(f"{MODELS}/").removesuffix(SUFFIX)
