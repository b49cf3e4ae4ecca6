"""Records fold into batches that add up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.outcome import ArmBatch, histogram_of
from router.core.snapshot import Endpoint, ModelRoute, RegionRoute, Target
from router.core.split import lay_out
from router.dataplane import recorder
from router.dataplane.pool import Pools
from router.dataplane.recorder import Record, Recorder
from router.dataplane.routes import Compiler, LiveArm


def arms(count: int) -> tuple[LiveArm, ...]:
    """Arms of one model."""
    targets = tuple(Target(f"v{n}", "ready", 0, 0, (Endpoint("tcp", "127.0.0.1", 9),)) for n in range(count))
    region = RegionRoute("default", targets, 0, lay_out(0, []))
    pools = Pools(None, 10)  # type: ignore[arg-type]  # no connection is opened
    return Compiler(pools).route(ModelRoute("fraud", "d", {}), region).arms


ARMS = arms(3)
RECORDS = st.lists(
    st.tuples(
        st.sampled_from(ARMS),
        st.sampled_from([200, 400, 502]),
        st.sampled_from(["ok", "rejection", "failure", "fallback"]),
        st.booleans(),
        st.floats(0, 100),
        st.floats(0, 100),
        st.sampled_from(["", "timeout", "status_500"]),
        st.integers(0, 2),
    ),
    max_size=40,
)


@given(records=RECORDS, at=st.integers(0, 40))
def test_a_batch_says_what_its_records_say(records: list[Record], at: int) -> None:
    whole = Recorder()
    whole.fold(records[:at])
    whole.fold(records[at:])

    batches = {batch.arm.version: batch for batch in whole.take()}

    assert set(batches) == {record[0].key.version for record in records}
    for version, batch in batches.items():
        of_arm = [record for record in records if record[0].key.version == version]
        check(batch, of_arm)
    assert whole.take() == ()


def check(batch: ArmBatch, records: list[Record]) -> None:
    """Asserts that `batch` is the sum of `records`."""
    assert sum(n for *_, n in batch.counts) == len(records)
    for code, result, observed, n in batch.counts:
        assert n == sum(record[1:4] == (code, result, observed) for record in records)
    assert batch.duration.counts == histogram_of(record[4] for record in records).counts
    assert batch.upstream.counts == histogram_of(record[5] for record in records).counts
    assert batch.overhead.counts == histogram_of(record[4] - record[5] for record in records).counts
    assert batch.duration.total == pytest.approx(sum(record[4] for record in records))
    assert batch.upstream.total == pytest.approx(sum(record[5] for record in records))
    assert batch.overhead.total == pytest.approx(batch.duration.total - batch.upstream.total)
    assert batch.retries == sum(record[7] for record in records)
    assert sum(n for _, n in batch.fallbacks) == sum(record[6] != "" for record in records)


def test_there_are_only_so_many_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_ARMS", 2)
    full = Recorder()

    for _ in range(2):
        full.fold([(arm, 200, "ok", True, 0.1, 0.05, "", 0) for arm in ARMS])

    assert [(batch.arm.version, batch.counts) for batch in full.take()] == [
        ("v0", ((200, "ok", True, 2),)),
        ("v1", ((200, "ok", True, 2),)),
    ]
