"""Tests of router.serving.line: who is predicted with whom, with a model that is only a function."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from router.serving import answers
from router.serving.answers import Answer
from router.serving.line import SINGLE, Job, Line
from router.serving.minding import Minder, Overdue
from router.serving.pieces import Piece, Reader
from router.serving.request import Request
from router.serving.scoring import Scorer

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("mlflow_imported")]


class Rows:
    """A reader whose pieces are lists of numbers, and a model that doubles them; -1 in a batch is an exception."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.output: Callable[[list[int]], list[int]] = lambda rows: [2 * row for row in rows]

    def join(self, pieces: Sequence[Piece]) -> list[int]:
        return [row for piece in pieces for row in piece.data]

    def predict_ready(self, rows: list[int]) -> list[int]:
        self.batches.append(rows)
        if -1 in rows:
            raise ValueError
        return self.output(rows)

    def failed(self, _fault: BaseException, *, returned: bool = False) -> Answer:
        return answers.UNREADABLE if returned else answers.RAISED


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Crowd:
    """Requests put in line in one round of the loop, and what they are answered."""

    def __init__(
        self,
        executor: ThreadPoolExecutor,
        *,
        most_rows: int = 64,
        batching: bool = True,
        delay: float = 0.0,
        minder: Minder | None = None,
    ) -> None:
        self.model = Rows()
        model, reader = cast("Scorer", self.model), cast("Reader", self.model)
        self.line = Line(model, reader, executor, most_rows=most_rows, batching=batching, delay=delay, minder=minder)
        self.given: dict[int, bytes] = {}
        self.order: list[int] = []
        self._all = asyncio.Event()

    async def ask(self, *pieces: list[int], keys: str = "", gone: Sequence[int] = ()) -> list[bytes]:
        """The bodies of the answers, in the order of the requests; nothing for those that are gone."""
        self.given, self.order = {}, []
        for number, rows in enumerate(pieces):
            key = keys[number] if keys else "same"
            job = Job(lambda answer, number=number: self._take(number, answer, len(pieces) - len(gone)))  # type: ignore[misc] # a default
            job.piece = Piece(key, len(rows), rows)
            job.gone = number in gone
            self.line.put(job)
        await asyncio.wait_for(self._all.wait(), 30)
        self._all.clear()
        return [self.given.get(number, b"") for number in range(len(pieces))]

    def _take(self, number: int, answer: Answer, expected: int) -> None:
        self.given[number] = answer.body
        self.order.append(number)
        if len(self.given) == expected:
            self._all.set()


def body(*numbers: int) -> bytes:
    return f'{{"predictions": {list(numbers)}}}'.encode()


async def test_those_who_wait_are_predicted_together(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor)
    assert await crowd.ask([1], [2, 3], [4]) == [body(2), body(4, 6), body(8)]
    assert crowd.model.batches == [[1, 2, 3, 4]]


async def test_a_batch_has_a_limit_of_rows(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor, most_rows=3)
    assert await crowd.ask([1], [2], [3, 4], [5]) == [body(2), body(4), body(6, 8), body(10)]
    assert crowd.model.batches == [[1, 2, 5], [3, 4]]


async def test_other_shapes_keep_their_places_and_are_predicted_apart(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor)
    await crowd.ask([1], [2], [3], [4], keys="abac")
    assert crowd.model.batches == [[1, 3], [2], [4]]
    assert crowd.order == [0, 2, 1, 3]


@pytest.mark.parametrize(("most_rows", "batching"), [(1, True), (64, False)])
async def test_without_batching_first_come_first_served(
    executor: ThreadPoolExecutor, most_rows: int, batching: bool
) -> None:
    crowd = Crowd(executor, most_rows=most_rows, batching=batching)
    await crowd.ask([1], [2], [3])
    assert (crowd.model.batches, crowd.order) == ([[1], [2], [3]], [0, 1, 2])


async def test_a_bad_row_harms_nobody_else(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor)
    assert await crowd.ask([1], [-1], [3]) == [body(2), answers.RAISED.body, body(6)]
    assert crowd.model.batches == [[1, -1, 3], [1], [-1], [3]]
    assert crowd.line.batching


async def test_other_rows_than_the_inputs_end_batching(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor)
    crowd.model.output = lambda rows: [sum(rows)]
    assert await crowd.ask([1], [2]) == [body(1), body(2)]
    assert not crowd.line.batching
    assert await crowd.ask([1], [2]) == [body(1), body(2)]
    assert crowd.model.batches == [[1, 2], [1], [2], [1], [2]]


async def test_who_went_away_is_not_worked_for(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor)
    assert await crowd.ask([1], [2], [3], gone=[0, 1]) == [b"", b"", body(6)]
    assert crowd.model.batches == [[3]]


async def test_what_cannot_be_written_is_said_of_the_one_request(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor)
    crowd.model.output = lambda rows: [cast("int", object()) if row == 2 else row for row in rows]
    assert await crowd.ask([1], [2]) == [body(1), answers.UNREADABLE.body]


async def test_work_that_is_whole_takes_its_turn_beside_the_loop(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor)
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    crowd.line.put(Job(done.set_result, whole=lambda: Answer(200, b"whole", "text/plain")))
    assert await crowd.ask([1]) == [body(2)]
    assert (await done).body == b"whole"


async def test_the_first_waits_for_company_but_not_once_a_batch_is_full(executor: ThreadPoolExecutor) -> None:
    crowd = Crowd(executor, most_rows=2, delay=30.0)
    await crowd.ask([1], [2])
    assert crowd.model.batches == [[1, 2]]
    crowd = Crowd(executor, delay=0.01)
    await crowd.ask([1])
    assert crowd.model.batches == [[1]]


class Minding(Minder):
    """One whose process may leave; what it hands over is answered elsewhere."""

    def __init__(self, *, quick: bool = False) -> None:
        super().__init__()
        self.quick = quick
        self.left = 0
        self.handed: list[Request] = []

    @property
    def unusual(self) -> float:
        return 0.02

    def cut_off(self, work: Callable[[], Any]) -> Any:
        if self.quick:
            raise Overdue
        return work()

    def leave(self) -> bool:
        self.left += 1
        return True

    async def hand_over(self, request: Request) -> Answer:
        self.handed.append(request)
        return Answer(200, b"elsewhere", answers.JSON)


def asking(rows: list[int], given: asyncio.Future[Answer]) -> Job:
    """A job that knows its request, as those of a connection do."""
    job = Job(lambda answer: None if given.done() else given.set_result(answer), Piece("same", len(rows), rows))
    job.request = Request(b"POST", f"/{rows[0]}", {}, b"")
    return job


@pytest.mark.parametrize("batching", [False, True])
async def test_who_waits_behind_a_prediction_that_hangs_is_answered_elsewhere(
    executor: ThreadPoolExecutor, batching: bool
) -> None:
    minder, over = Minding(), threading.Event()
    crowd = Crowd(executor, batching=batching, minder=minder)
    crowd.model.output = lambda rows: [over.wait(30), *rows][1:] if 7 in rows else rows
    loop = asyncio.get_running_loop()
    stuck, waiting, late = (loop.create_future() for _ in range(3))
    crowd.line.put(asking([7], stuck))
    crowd.line.put(asking([1], waiting))
    assert (await waiting).body == b"elsewhere"
    crowd.line.put(asking([2], late))
    assert (await late).body == b"elsewhere"
    over.set()
    # Together, nobody knows who it was: each is asked for by itself.
    expected = b"elsewhere" if batching else body(7)
    assert (await stuck).body == expected
    assert minder.left == 1
    singles = {request.path for request in minder.handed if SINGLE in request.headers}
    assert singles == ({"/7", "/1"} if batching else set())


async def test_what_is_cut_off_on_the_loop_is_begun_again_beside_it(executor: ThreadPoolExecutor) -> None:
    minder = Minding()
    crowd = Crowd(executor, minder=minder)
    for _ in range(60):
        await crowd.ask([1])
    minder.quick = True
    crowd.model.batches.clear()
    assert await crowd.ask([1], [2]) == [body(2), body(4)]
    assert crowd.model.batches == [[1], [2]]
