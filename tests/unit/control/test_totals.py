from __future__ import annotations

from router.control.totals import WINDOW_BUCKETS, Totals
from router.core.outcome import Arm, ArmBatch, InFlight, OutcomeBatch, histogram_of
from tests.unit.control.fakes import FakeClock

V3 = Arm("fraud", "default", "v3", "d3", 9000, 9000, canary=False)
V4 = Arm("fraud", "default", "v4", "d4", 1000, 9000, canary=True)


def arm_batch(arm: Arm, n: int, *, code: int = 200, result: str = "ok", observed: bool = True) -> ArmBatch:
    return ArmBatch(arm, ((code, result, observed, n),), histogram_of([0.01] * n))


def batch(
    number: int, *arms: ArmBatch, worker: int = 0, pid: int = 10, in_flight: tuple[InFlight, ...] = ()
) -> OutcomeBatch:
    return OutcomeBatch(worker, pid, number, arms, in_flight)


def test_a_batch_counts_once_however_often_it_arrives() -> None:
    totals = Totals(FakeClock())
    assert totals.add(batch(1, arm_batch(V3, 5)))
    assert not totals.add(batch(1, arm_batch(V3, 5)))
    assert totals.add(batch(2, arm_batch(V3, 1, code=502, result="failure")))
    assert totals.tallies["fraud", "v3", "default"].results() == {"ok": 5, "failure": 1}
    assert totals.tallies["fraud", "v3", "default"].duration.count == 6


def test_another_process_numbers_from_the_start() -> None:
    totals = Totals(FakeClock())
    totals.add(batch(7, arm_batch(V3, 1)))
    assert totals.add(batch(0, arm_batch(V3, 1), pid=11))
    assert totals.add(batch(7, arm_batch(V3, 1), worker=1))
    assert totals.observed("fraud", "default") == {"v3": 3}


def test_observed_share_is_of_the_last_five_minutes_and_of_observations() -> None:
    clock = FakeClock()
    totals = Totals(clock)
    totals.add(batch(1, arm_batch(V3, 90), arm_batch(V4, 10)))
    totals.add(batch(2, arm_batch(V4, 50, observed=False)))
    assert totals.observed("fraud", "default") == {"v3": 90, "v4": 10}
    clock.advance(200)
    totals.add(batch(3, arm_batch(V4, 30)))
    assert totals.observed("fraud", "default") == {"v3": 90, "v4": 40}
    clock.advance(101)
    assert totals.observed("fraud", "default") == {"v4": 30}
    clock.advance(300)
    assert totals.observed("fraud", "default") == {}
    assert totals.observed("nobody", "default") == {}


def test_memory_of_the_window_is_bounded() -> None:
    clock = FakeClock()
    totals = Totals(clock)
    for number in range(1000):
        totals.add(batch(number, arm_batch(V3, 1)))
        clock.advance(5)
    assert len(totals._windows["fraud", "default"]) == WINDOW_BUCKETS


def test_in_flight_adds_up_over_workers_and_goes_with_them() -> None:
    totals = Totals(FakeClock())
    totals.add(batch(1, in_flight=(InFlight("fraud", "default", "v3", 4, 1),)))
    totals.add(batch(1, worker=1, pid=20, in_flight=(InFlight("fraud", "default", "v3", 2, 2),)))
    assert totals.in_flight() == {("fraud", "v3", "default"): (6, 2)}
    totals.worker_gone(1, 19)
    assert totals.in_flight() == {("fraud", "v3", "default"): (6, 2)}
    totals.worker_gone(1, 20)
    totals.add(batch(2))
    assert totals.in_flight() == {}


def test_models_that_are_gone_are_forgotten() -> None:
    totals = Totals(FakeClock())
    totals.add(batch(1, arm_batch(V3, 1)))
    totals.keep_only({"fraud"})
    assert totals.observed("fraud", "default") == {"v3": 1}
    totals.keep_only(set())
    assert not totals.tallies
    assert totals.observed("fraud", "default") == {}


def test_a_copy_stays_as_it_is() -> None:
    totals = Totals(FakeClock())
    totals.add(batch(1, arm_batch(V3, 1)))
    copy = totals.tallies["fraud", "v3", "default"].copy()
    totals.add(batch(2, arm_batch(V3, 1)))
    assert copy.results() == {"ok": 1}
