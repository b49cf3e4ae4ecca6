"""Children: pauses, quiet after many failures, and the order of what is asked of one name."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from router.supervisor.children import Child, Children, Spec
from tests.support.wait import eventually_async

FAILS = Spec((sys.executable, "-c", "raise SystemExit(3)"))
STAYS = Spec((sys.executable, "-c", "import signal; signal.pause()"))
IGNORES_SIGTERM = "import signal; signal.signal(15, signal.SIG_IGN)\nwhile True: signal.pause()"
STUBBORN = Spec((sys.executable, "-c", IGNORES_SIGTERM))


class FakeClock:
    """Sleeps of a test's choosing: short ones end at once and are noted, long ones end when `advance` says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.long = asyncio.Event()

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 1000.0

    async def sleep(self, seconds: float) -> None:
        if seconds >= 30:
            await self.long.wait()
            return
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Family:
    """Children under a fake clock, and every change of theirs as `(name, state)`."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.changes: list[tuple[str, str]] = []
        self.children = Children(self.clock, self._note)

    def _note(self, child: Child) -> None:
        self.changes.append((child.name, child.state))

    def report(self, name: str) -> dict[str, object]:
        (found,) = (report for report in self.children.reports() if report["name"] == name)
        return dict(found)

    async def running(self, name: str) -> int:
        """The pid of `name` once it runs."""
        await eventually_async(lambda: self.report(name)["pid"])
        pid = self.report(name)["pid"]
        assert isinstance(pid, int)
        return pid


@pytest.mark.anyio
async def test_pauses_double_up_to_ten_seconds_and_complaints_end(caplog: pytest.LogCaptureFixture) -> None:
    family = Family()
    with caplog.at_level(logging.INFO):
        family.children.run("worker-0", FAILS, 1.0)
        await eventually_async(lambda: len(family.clock.slept) >= 10)
        await family.children.stop_all(("worker-",), 1.0)
    assert family.clock.slept[:9] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert caplog.text.count("ended unasked (exit code 3)") == 4
    assert "starting it again in 0.8 s" in caplog.text
    assert caplog.text.count("has failed 5 times in a row") == 1
    assert "tried again in 1.6 s, then after pauses of up to 10 s" in caplog.text
    assert family.changes[:4] == [("worker-0", "running"), ("worker-0", "backoff")] * 2
    assert family.changes[-1] == ("worker-0", "stopped")


@pytest.mark.anyio
async def test_what_will_hardly_end_otherwise_is_not_tried_again_at_once(caplog: pytest.LogCaptureFixture) -> None:
    family = Family()
    with caplog.at_level(logging.WARNING):
        family.children.run("pyfunc-a", Spec(FAILS.argv, hopeless=3), 1.0)
        family.children.run("pyfunc-b", Spec(FAILS.argv, hopeless=4), 1.0)
        await eventually_async(lambda: {0.1, 10.0} < set(family.clock.slept))
        await family.children.stop_all(("pyfunc-",), 1.0)
    assert family.clock.slept.count(0.1) == 1
    assert family.clock.slept.count(5.0) == 6
    assert "pyfunc-a ended unasked (exit code 3); starting it again in 5 s" in caplog.text


@pytest.mark.anyio
async def test_a_child_that_stays_up_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    family = Family()
    child = Child("worker-0", FAILS, family.clock, lambda _: None)
    with caplog.at_level(logging.INFO):
        child.start()
        await eventually_async(lambda: len(family.clock.slept) >= 6)
        child.spec = STAYS
        await eventually_async(lambda: child.pid)
        family.clock.long.set()
        await eventually_async(lambda: "worker-0 stays up again" in caplog.text)
        before = len(family.clock.slept)
        child.kill()
        await eventually_async(lambda: len(family.clock.slept) > before)
        await child.stop(5.0)
    assert family.clock.slept[before] == 0.1


@pytest.mark.anyio
async def test_a_restart_is_without_a_pause() -> None:
    family = Family()
    family.children.run("pyfunc-a", STAYS, 1.0)
    before = await family.running("pyfunc-a")
    family.children.restart("pyfunc-a")
    family.children.restart("pyfunc-unknown")
    await eventually_async(lambda: family.report("pyfunc-a")["pid"] not in (None, before))
    assert family.clock.slept == []
    assert family.report("pyfunc-a")["restarts"] == 1
    assert family.report("pyfunc-a")["exit"] == -9
    await family.children.stop_all(("pyfunc-",), 5.0)


@pytest.mark.anyio
async def test_the_same_spec_twice_changes_nothing() -> None:
    family = Family()
    family.children.run("pyfunc-a", STAYS, 1.0)
    before = await family.running("pyfunc-a")
    family.children.run("pyfunc-a", Spec(STAYS.argv), 1.0)
    assert family.report("pyfunc-a")["pid"] == before
    await family.children.stop_all(("pyfunc-",), 5.0)
    assert family.changes == [("pyfunc-a", "running"), ("pyfunc-a", "stopped")]


@pytest.mark.anyio
async def test_a_successor_waits_for_its_predecessor_to_be_gone() -> None:
    family = Family()
    family.children.run("pyfunc-a", STUBBORN, 0.2)
    await family.running("pyfunc-a")
    family.children.stop("pyfunc-a", 0.2)
    family.children.run("pyfunc-a", FAILS, 0.2)
    family.children.run("pyfunc-a", STAYS, 0.2)
    await family.running("pyfunc-a")
    await family.children.stop_all(("pyfunc-",), 5.0)
    states = [state for _, state in family.changes]
    assert states == ["running", "stopped", "running", "stopped"]


@pytest.mark.anyio
async def test_a_program_that_cannot_be_started_is_tried_again() -> None:
    family = Family()
    family.children.run("pyfunc-a", Spec(("/nowhere/at-all",)), 1.0)
    family.children.run("pyfunc-b", Spec(("with\0nul",)), 1.0)
    await eventually_async(lambda: len(family.clock.slept) >= 4)
    assert {family.report(name)["exit"] for name in ("pyfunc-a", "pyfunc-b")} == {127}
    await family.children.stop_all(("pyfunc-",), 1.0)
    assert family.children.reports() == []
