"""When a server cannot answer one more request in time."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from router.core.congestion import BUSY, Congestion


@dataclass
class Server:
    """A simulated server of `slots` that each take `service` seconds, first come first served, in steps of 10 ms."""

    slots: int
    service: float
    left: float = 1.0
    now: float = 1000.0
    answers: int = 0
    took: float = 0.0
    refused: int = 0
    late: int = 0
    congestion: Congestion = field(default_factory=Congestion)
    waiting: list[float] = field(default_factory=list)
    computing: list[tuple[float, float]] = field(default_factory=list)
    noted: float = 0.0

    def offer(self, per_second: float, seconds: float) -> Server:
        """Offers requests evenly; returns itself."""
        due, step = 0.0, 0.01
        for _ in range(round(seconds / step)):
            self.now += step
            self._finish()
            due += per_second * step
            while due >= 1.0:
                due -= 1.0
                self._arrive()
            if self.now - self.noted >= 1.0:
                self.noted = self.now
                self.congestion.note(self.now, self.answers, self.took)
        return self

    @property
    def in_flight(self) -> int:
        return len(self.waiting) + len(self.computing)

    def _arrive(self) -> None:
        if self.in_flight >= BUSY and not self.congestion.has_room(
            self.now, self.in_flight, self.answers, self.took, self.left
        ):
            self.refused += 1
            return
        self.waiting.append(self.now)
        self._begin()

    def _begin(self) -> None:
        while self.waiting and len(self.computing) < self.slots:
            self.computing.append((self.waiting.pop(0), self.now + self.service))

    def _finish(self) -> None:
        for arrived, done in [pair for pair in self.computing if pair[1] <= self.now]:
            self.computing.remove((arrived, done))
            self.answers += 1
            self.took += self.now - arrived
            self.late += self.now - arrived > self.left
            self._begin()


def test_an_overloaded_server_answers_all_it_takes_in_time() -> None:
    server = Server(slots=8, service=0.02).offer(100, 3).offer(1200, 10)

    assert server.late == 0
    assert server.answers >= 0.95 * (300 + 10 * 8 / 0.02), "as busy as it can be"
    assert server.refused == pytest.approx(12_000 - server.answers + 300, rel=0.1)


def test_so_does_one_that_is_overloaded_from_its_first_request_on() -> None:
    server = Server(slots=8, service=0.02).offer(1200, 10)

    assert server.late == 0
    assert server.answers >= 0.95 * 10 * 8 / 0.02


@pytest.mark.parametrize("service", [0.02, 0.4, 0.9, 5.0])
def test_a_slow_server_that_keeps_its_pace_is_never_refused_a_request(service: float) -> None:
    server = Server(slots=10_000, service=service, left=max(1.0, 3 * service)).offer(5, 20).offer(300, 20)

    assert server.refused == 0


def test_a_queue_that_can_be_worked_off_in_time_is_no_reason_either() -> None:
    server = Server(slots=1, service=0.01, left=15.0).offer(20, 3)
    for _ in range(10):
        server.offer(20_000, 0.01).offer(0, 3)

    assert server.refused == 0
    assert server.late == 0


def test_a_slow_server_with_few_requests_is_left_alone_even_late() -> None:
    server = Server(slots=1, service=2.0).offer(0.4, 5)
    server.offer(200, 0.07)

    assert server.refused == 0
    assert server.in_flight < BUSY + 2


def test_a_server_that_answers_nothing_more_gets_no_more_once_that_is_known() -> None:
    server = Server(slots=100, service=0.02).offer(100, 3)
    server.service = 1e9
    server.offer(100, 1.0)
    known = server.in_flight
    server.offer(100, 5.0)

    assert server.in_flight <= known + 40
    assert server.refused > 400


def test_a_moments_standstill_is_not_taken_for_its_pace() -> None:
    server = Server(slots=100, service=0.02).offer(500, 3)
    slots, server.slots = server.slots, 0
    server.offer(500, 0.12)
    server.slots = slots
    server.offer(500, 3)

    assert server.refused == 0


def test_what_was_measured_under_load_is_void_after_a_pause() -> None:
    server = Server(slots=8, service=0.02).offer(100, 3).offer(2000, 3)
    assert server.refused
    server.offer(0, 3)
    refused = server.refused
    server.offer(3000, 0.05)

    assert server.refused == refused


def test_it_learns_a_new_pace_while_there_is_little_to_do() -> None:
    server = Server(slots=10_000, service=0.02).offer(5, 5)
    assert server.congestion.unhurried == pytest.approx(0.02, abs=0.011)
    server.service = 0.5
    server.offer(5, 30)

    assert server.congestion.unhurried == pytest.approx(0.5, rel=0.05)
