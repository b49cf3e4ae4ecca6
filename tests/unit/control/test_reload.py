from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.config.load import load_model
from router.control import reload
from router.control.reload import Change, Look, Reader, Watch
from tests.unit.control.fakes import FakeClock

MODEL = """\
model: {name}
versions:
  v3: {{upstreams: [http://127.0.0.1:9003]}}
  v4: {{upstreams: [http://127.0.0.1:9004]}}
stable: v3
regions:
  default: {{v3: {stable}, v4: {canary}}}
"""


def text(name: str = "fraud", canary: int = 10) -> str:
    return MODEL.format(name=name, stable=100 - canary, canary=canary)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path


def write(root: Path, name: str = "fraud", canary: int = 10) -> None:
    """As careful editors do: a temporary file and a rename."""
    temporary = root / "models" / f".{name}.new"
    temporary.write_text(text(name, canary))
    temporary.replace(root / "models" / f"{name}.yaml")


def canary_weight(change: Change) -> int:
    assert change.config is not None
    return change.config.weights_in("default").get("v4", 0)


def test_the_first_look_reads_all_and_the_second_nothing(root: Path) -> None:
    write(root, "a")
    write(root, "b")
    reader = Reader(root, SystemClock(), {})
    look = reader.look()
    assert [change.model for change in look.changes] == ["a", "b"]
    assert look.problems == ()
    again = reader.look()
    assert again == Look((), (), look.revision)


def test_an_edit_parses_its_own_file_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        write(root, name)
    reader = Reader(root, SystemClock(), {})
    before = reader.look()
    parsed: list[str] = []
    load: Callable[..., object] = load_model

    def watch_load(name: str, *args: object, **options: object) -> object:
        parsed.append(name)
        return load(name, *args, **options)

    monkeypatch.setattr(reload, "load_model", watch_load)
    write(root, "b", 20)
    look = reader.look()
    assert parsed == ["b"]
    assert [canary_weight(change) for change in look.changes] == [2000]
    assert look.revision != before.revision


def test_a_touched_file_is_no_change(root: Path) -> None:
    write(root)
    reader = Reader(root, SystemClock(), {})
    reader.look()
    os.utime(root / "models" / "fraud.yaml")
    assert reader.look().changes == ()


def test_a_change_that_file_times_do_not_show_is_found_by_a_thorough_look(root: Path) -> None:
    file = root / "models" / "fraud.yaml"
    write(root)
    os.utime(file, (1, 1))
    clock = FakeClock()
    clock.now = 10_000_000_000.0
    reader = Reader(root, clock, {})
    reader.look()
    real = reload._stamp
    frozen = real(file)
    file.write_text(text(canary=20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reload, "_stamp", lambda path: frozen)
        assert reader.look().changes == ()
        assert [canary_weight(change) for change in reader.look(thorough=True).changes] == [2000]


def test_a_broken_file_says_so_once_and_is_mended(root: Path) -> None:
    write(root)
    reader = Reader(root, SystemClock(), {})
    reader.look()
    (root / "models" / "fraud.yaml").write_text("versions: [")
    (change,) = reader.look().changes
    assert (change.config, change.removed) == (None, False)
    assert change.problems
    assert reader.look().changes == ()
    write(root)
    assert [canary_weight(change) for change in reader.look().changes] == [1000]


def test_at_the_start_the_last_good_text_stands_in_for_a_broken_file(root: Path) -> None:
    (root / "models" / "fraud.yaml").write_text("versions: [")
    (change,) = Reader(root, SystemClock(), {"fraud": text(canary=30)}).look().changes
    assert change.restored
    assert canary_weight(change) == 3000
    assert change.problems


def test_a_file_that_went_while_control_was_away_is_removed(root: Path) -> None:
    write(root, "a")
    changes = Reader(root, SystemClock(), {"a": text("a"), "b": text("b")}).look().changes
    assert {(change.model, change.removed) for change in changes} == {("a", False), ("b", True)}


def test_one_file_that_stays_away_is_removed_and_one_that_comes_back_is_not(root: Path) -> None:
    clock = FakeClock()
    write(root, "a")
    write(root, "b")
    reader = Reader(root, clock, {})
    reader.look()
    (root / "models" / "a.yaml").rename(root / "models" / "a.bak")
    assert reader.look().changes == ()
    (root / "models" / "a.bak").rename(root / "models" / "a.yaml")
    clock.advance(1)
    assert reader.look().changes == ()
    (root / "models" / "a.yaml").unlink()
    assert reader.look().changes == ()
    clock.advance(1)
    assert reader.look().changes == (Change("a", removed=True),)
    assert reader.look().changes == ()


@pytest.mark.parametrize("how", ["emptied", "removed", "unreadable"])
def test_a_directory_that_vanishes_removes_nothing(root: Path, how: str) -> None:
    clock = FakeClock()
    write(root, "a")
    reader = Reader(root, clock, {})
    reader.look()
    (root / "models" / "a.yaml").unlink()
    if how != "emptied":
        (root / "models").rmdir()
    if how == "unreadable":
        (root / "models").write_text("no directory")
    for _ in range(3):
        look = reader.look()
        assert look.changes == ()
        assert "goes on" in str(look.problems[0])
        clock.advance(5)
    if how == "unreadable":
        (root / "models").unlink()
    (root / "models").mkdir(exist_ok=True)
    write(root, "b")
    look = reader.look()
    assert [change.model for change in look.changes] == ["b"]
    assert look.problems == ()
    clock.advance(1)
    assert reader.look().changes == (Change("a", removed=True),)


def test_at_the_start_without_a_directory_the_last_good_configs_go_on(tmp_path: Path) -> None:
    clock = FakeClock()
    reader = Reader(tmp_path, clock, {"a": text("a"), "b": text("b")})
    look = reader.look()
    assert [(change.model, change.restored) for change in look.changes] == [("a", True), ("b", True)]
    assert reader.look().changes == ()
    (tmp_path / "models").mkdir()
    write(tmp_path, "a")
    assert [(change.model, change.restored) for change in reader.look().changes] == [("a", False)]
    assert reader.look().changes == ()
    clock.advance(1)
    assert reader.look().changes == (Change("b", removed=True),)


def test_other_files_and_hidden_ones_are_nobodys_config(root: Path) -> None:
    write(root)
    (root / "models" / ".fraud.yaml").write_text("x")
    (root / "models" / "README.md").write_text("x")
    (root / "models" / "other.yml").write_text("x")
    look = Reader(root, SystemClock(), {}).look()
    assert [change.model for change in look.changes] == ["fraud"]
    assert [str(problem) for problem in look.problems] == [
        "models/other.yml:1:1: the ending must be '.yaml'; rename it to other.yaml"
    ]


def test_a_misnamed_file_is_told_of_even_where_there_is_no_other(root: Path) -> None:
    (root / "models" / "fraud.yml").write_text("x")
    (root / "region.yaml").write_text("regions: [default]")
    problems = [str(problem) for problem in Reader(root, SystemClock(), {}).look().problems]
    assert problems[0] == "region.yaml:1:1: no file of this name is read (did you mean 'regions.yaml'?)"
    assert "rename it to fraud.yaml" in problems[1]
    assert problems[2].startswith("models:1:1: holds no <model>.yaml")


def test_files_are_called_as_in_the_repository(root: Path) -> None:
    (root / "models" / "fraud.yaml").write_text("model: fraud\nversions: [")
    (root / "regions.yaml").write_text("regions: [")
    look = Reader(root, SystemClock(), {}).look()
    assert [problem.file for problem in look.changes[0].problems] == ["models/fraud.yaml"]
    assert [problem.file for problem in look.problems] == ["regions.yaml"]


def test_a_served_region_that_the_repository_does_not_know_is_a_problem(root: Path) -> None:
    write(root)
    reader = Reader(root, SystemClock(), {}, ("default", "eu-west"))
    assert reader.look().problems == ()
    (root / "regions.yaml").write_text("regions: [us-east]")
    look = reader.look()
    assert len(look.changes) == 1, "it holds nevertheless"
    assert "this router serves eu-west, which is not in this list" in str(look.problems[0])
    (root / "regions.yaml").write_text("regions: [us-east, eu-west]")
    assert reader.look().problems == ()


def test_what_cannot_be_read_is_a_problem_of_its_model(root: Path) -> None:
    write(root, "a")
    (root / "models" / "b.yaml").mkdir()
    reader = Reader(root, SystemClock(), {})
    broken = [change for change in reader.look().changes if change.config is None]
    assert "cannot be read" in str(broken[0].problems[0])
    assert reader.look().changes == ()


def test_another_regions_file_judges_all_again(root: Path) -> None:
    write(root, "a")
    write(root, "b")
    reader = Reader(root, SystemClock(), {})
    reader.look()
    (root / "regions.yaml").write_text("regions: [default]")
    assert [change.model for change in reader.look().changes] == ["a", "b"]
    assert reader.look().changes == ()
    (root / "regions.yaml").write_text("regions: [")
    look = reader.look()
    assert look.changes == ()
    assert look.problems
    (root / "regions.yaml").unlink()
    look = reader.look()
    assert len(look.changes) == 2
    assert look.problems == ()


def test_a_symlink_swap_is_a_change(root: Path) -> None:
    for stamp, canary in (("one", 10), ("two", 20)):
        (root / "models" / stamp).mkdir()
        (root / "models" / stamp / "fraud.yaml").write_text(text(canary=canary))
    (root / "models" / "..data").symlink_to("one")
    (root / "models" / "fraud.yaml").symlink_to("..data/fraud.yaml")
    reader = Reader(root, SystemClock(), {})
    assert [canary_weight(change) for change in reader.look().changes] == [1000]
    (root / "models" / "..tmp").symlink_to("two")
    (root / "models" / "..tmp").replace(root / "models" / "..data")
    assert [canary_weight(change) for change in reader.look().changes] == [2000]


class NeverPolls(SystemClock):
    """A clock on which no poll is ever due, so that only the system's notice wakes a watch."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


async def next_change(looks: AsyncGenerator[Look, None]) -> Change:
    async for look in looks:
        if look.changes:
            return look.changes[0]
    raise AssertionError("the watch ended")


@pytest.mark.anyio
@pytest.mark.parametrize("clock", [NeverPolls(), None], ids=["told by the system", "polled"])
async def test_a_rename_is_noticed(root: Path, clock: SystemClock | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if clock is None:
        monkeypatch.setattr(reload, "POLL_SECONDS", 0.02)

        async def blind(self: Watch) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(Watch, "_watch", blind)
    write(root)
    watch = Watch(root, clock or SystemClock())
    async with asyncio.timeout(10), aclosing(watch.looks(Reader(root, SystemClock(), {}))) as looks:
        assert canary_weight(await next_change(looks)) == 1000
        editing = asyncio.create_task(edit_until_done(root))
        assert canary_weight(await next_change(looks)) == 2000
        editing.cancel()


async def edit_until_done(root: Path) -> None:
    """Edits again and again: the watch may not have begun at the first time."""
    while True:
        await asyncio.sleep(0.05)
        await asyncio.to_thread(write, root, "fraud", 20)
        os.utime(root / "models")
