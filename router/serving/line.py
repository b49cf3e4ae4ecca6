"""The line of requests before one model: who is predicted next, and with whom.

Rules:
1. First come, first served. Nobody waits for company: when the model is free, it takes what is there.
2. Pieces with the same key are predicted together, up to `most_rows`, while batching is on. A batch that fails is run
   again request by request, outside the handling of that failure, so that a bad row harms nobody else.
3. A prediction whose rows are not those of its input ends batching for good.
4. What is quick runs on the loop; what is not, and whatever MLflow reads, runs beside it, so that probes are answered.
   One prediction at a time in either case.
5. Who went away is not worked for.
6. A prediction that takes longer than any before holds nobody up: who waits is handed over to another process
   (`minding`). A group that does is handed over request by request.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from router.serving import answers
from router.serving.answers import Answer
from router.serving.minding import QUICK_LIMIT, Minder, Overdue
from router.serving.pieces import Piece, Reader
from router.serving.request import Request
from router.serving.scoring import Scorer
from router.serving.writing import Writer

_log = logging.getLogger(__name__)
QUICK_SECONDS = 0.005
SINGLE = b"x-canary-router-single"
"""The header of a request that another process hands over because it may have been what held it up."""
_PATIENCE = 60.0
_QUICK_ROWS = 256
_FORGET = 0.9


@dataclass(slots=True, eq=False)
class Job:
    """One request in the line: a piece that was read, with how its prediction is written; or work to be done whole."""

    deliver: Callable[[Answer], None]
    piece: Piece | None = None
    write: Callable[[Any], Answer] | None = None
    whole: Callable[[], Answer] | None = None
    gone: bool = False
    # What follows is for the case that another process has to do it.
    request: Request | None = None
    deadline: float = math.inf
    single: bool = False


class Line:
    """See the module. `batching` is whether requests are predicted together."""

    def __init__(
        self,
        scorer: Scorer,
        reader: Reader | None,
        executor: Executor,
        *,
        most_rows: int,
        batching: bool,
        delay: float = 0.0,
        minder: Minder | None = None,
    ) -> None:
        self.batching = batching and most_rows > 1
        self._scorer = scorer
        self._reader = reader
        self._executor = executor
        self._most_rows = most_rows
        self._writer = Writer()
        self._waiting: deque[Job] = deque()
        self._busy = False
        self._delay = delay if self.batching else 0.0
        self._minder = minder or Minder()
        self._delayed: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._unusual = self._leaving = False
        self._handing: set[asyncio.Task[None]] = set()
        # What the model takes is learnt beside the loop.
        self._seconds = QUICK_SECONDS

    def put(self, job: Job) -> None:
        """The last in the line."""
        self._waiting.append(job)
        if self._delayed is not None and len(self._waiting) >= self._most_rows:
            self._delayed.cancel()
            self._next()
        elif self._unusual or self._leaving:
            # Whose request it is, the job is told right after this.
            asyncio.get_running_loop().call_soon(self._leave)
        else:
            self._turn()

    def _turn(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        loop = asyncio.get_running_loop()
        if self._delay and len(self._waiting) < self._most_rows:
            self._delayed = loop.call_later(self._delay, self._next)
        else:
            # What arrived in the same round of the loop is put in line before the model takes its first.
            loop.call_soon(self._next)

    def _next(self) -> None:
        self._delayed = None
        group = self._take()
        if not group:
            self._done()
            return
        now = asyncio.get_running_loop().time()
        # A client that is in a hurry is no sign of a prediction that hangs.
        patience = max(self._minder.unusual, min(_PATIENCE, max(job.deadline for job in group) - now))
        self._minder.expect(patience)
        if not self._quick(group):
            self._beside(group, patience)
            return
        try:
            given = self._minder.cut_off(lambda: self.work(group))
        except Overdue:
            self._again(group)
            return
        self._deliver(group, given)
        self._done()

    def _again(self, group: list[Job]) -> None:
        """What was cut off on the loop is done once more beside it, each request by itself."""
        _log.warning("a prediction took unusually long, and is begun again where others do not wait for it")
        self._seconds = max(self._seconds, QUICK_LIMIT)
        for job in group:
            job.single = True
        self._waiting.extendleft(reversed(group))
        self._done()

    def _beside(self, group: list[Job], patience: float) -> None:
        loop = asyncio.get_running_loop()
        begun = perf_counter()
        work = loop.run_in_executor(self._executor, self.work, group)
        work.add_done_callback(lambda done: self._finished(group, done, begun))
        self._timers = [
            loop.call_later(self._minder.unusual, self._wonder, group),
            loop.call_later(patience, self._leave),
        ]

    def _finished(self, group: list[Job], done: asyncio.Future[list[Answer]], begun: float) -> None:
        for timer in self._timers:
            timer.cancel()
        self._minder.took(perf_counter() - begun)
        self._unusual = False
        self._deliver(group, done.result())
        self._done()

    def _wonder(self, group: list[Job]) -> None:
        """A prediction takes unusually long: whoever waits, or was put together with others, need not wait for it."""
        self._unusual = True
        if self._waiting or len(group) > 1:
            self._leave(group if len(group) > 1 else ())

    def _leave(self, group: Sequence[Job] = ()) -> None:
        """Hands over who waits, and `group`, if this process may leave."""
        if not self._leaving:
            self._leaving = self._minder.leave()
            if not self._leaving:
                self._turn()
                return
            _log.warning("a prediction takes unusually long; another process takes over from this one")
        for job in group:
            job.single = True
        jobs, self._waiting = [*group, *self._waiting], deque()
        for job in jobs:
            if not job.gone and job.request is not None:
                task = asyncio.get_running_loop().create_task(self._hand_over(job, job.request))
                self._handing.add(task)
                task.add_done_callback(self._handing.discard)

    async def _hand_over(self, job: Job, request: Request) -> None:
        marked = request._replace(headers={**request.headers, SINGLE: b"1"}) if job.single else request
        answer = await self._minder.hand_over(marked)
        if not job.gone:
            job.deliver(answer)

    def _done(self) -> None:
        self._minder.expect(0)
        self._busy = False
        self._turn()

    def _deliver(self, group: Sequence[Job], given: Sequence[Answer]) -> None:
        for job, answer in zip(group, given, strict=True):
            if not job.gone:
                job.deliver(answer)

    def _take(self) -> list[Job]:
        while self._waiting and self._waiting[0].gone:
            self._waiting.popleft()
        if not self._waiting:
            return []
        first = self._waiting.popleft()
        if first.piece is None or first.single or not self.batching or not self._waiting:
            return [first]
        return [first, *self._company(first.piece)]

    def _company(self, piece: Piece) -> list[Job]:
        """Takes out who may be predicted with `piece`; the others keep their places."""
        key, room, company, others = piece.key, self._most_rows - piece.rows, [], []
        while self._waiting and room > 0:
            job = self._waiting.popleft()
            if job.piece is not None and not job.single and job.piece.key == key and job.piece.rows <= room:
                company.append(job)
                room -= job.piece.rows
            else:
                others.append(job)
        self._waiting.extendleft(reversed(others))
        return [job for job in company if not job.gone]

    def _quick(self, group: Sequence[Job]) -> bool:
        if self._seconds >= QUICK_SECONDS:
            return False
        return sum(job.piece.rows if job.piece else _QUICK_ROWS + 1 for job in group) <= _QUICK_ROWS

    def work(self, group: Sequence[Job]) -> list[Answer]:
        """The answers for a group. Raises nothing that a model can raise."""
        whole = group[0].whole
        if whole is not None:
            return [whole()]
        begun = perf_counter()
        given = self._together(group) if len(group) > 1 else None
        if given is None:
            given = [self.alone(job) for job in group]
        self._seconds = max(perf_counter() - begun, _FORGET * self._seconds)
        return given

    def _together(self, group: Sequence[Job]) -> list[Answer] | None:
        """The answers of one joint prediction, or None where there is none."""
        pieces = [job.piece for job in group if job.piece is not None]
        reader = self._reader
        if reader is None:
            return None
        try:
            raw = self._scorer.predict_ready(reader.join(pieces))
        except Exception as fault:  # noqa: BLE001 - a model may raise anything
            _log.debug("a batch raised %s", type(fault).__name__)
            return None
        if self._writer.rows(raw) != sum(piece.rows for piece in pieces):
            self.batching = False
            _log.warning(
                "the model's output has other rows than its input: requests are predicted one by one from now on"
            )
            return None
        given, start = [], 0
        for job, piece in zip(group, pieces, strict=True):
            given.append(self._written(job, self._writer.part(raw, start, start + piece.rows)))
            start += piece.rows
        return given

    def alone(self, job: Job) -> Answer:
        """The answer for a piece by itself. Raises nothing that a model can raise."""
        reader, piece = self._reader, job.piece
        if reader is None or piece is None:
            return answers.UNREADABLE
        try:
            raw = self._scorer.predict_ready(reader.join([piece]))
        except Exception as fault:  # noqa: BLE001 - a model may raise anything
            return self._scorer.failed(fault)
        return self._written(job, raw)

    def _written(self, job: Job, raw: Any) -> Answer:
        try:
            if job.write is not None:
                return job.write(raw)
            return Answer(200, self._writer.body(raw), answers.JSON)
        except Exception as fault:  # noqa: BLE001 - a model may return anything
            return self._scorer.failed(fault, returned=True)
