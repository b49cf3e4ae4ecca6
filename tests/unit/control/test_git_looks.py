"""Looks at a branch in git."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from router.clock import SystemClock
from router.control.git_looks import NO_COMMIT, GitReader, GitWatch
from router.control.reload import Change, Look
from router.gitops.source import Source, remote_of
from tests.support.configs import commit, git, new_repository, text_of, write_model

pytestmark = pytest.mark.needs("git")


class Remote:
    """A repository with two models, and readers of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = new_repository(folder / "work", fraud=text_of(), churn=text_of("churn"))

    def reader(self, last_good: Mapping[str, str] | None = None) -> GitReader:
        """A reader that starts now, on the mirror that the one before left."""
        source = Source(remote_of(f"file://{self.work}"), self.folder / "git")
        return GitReader(source, self.folder / "none", SystemClock(), last_good or {})

    def write(self, name: str, text: str) -> str:
        """Commits another text of a model."""
        write_model(self.work, name, text)
        return commit(self.work, f"change {name}")


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return Remote(tmp_path)


def models(look: Look) -> list[str]:
    return [change.model for change in look.changes]


def messages(look: Look) -> str:
    return "\n".join(map(str, look.problems))


def test_the_first_look_reads_all_and_the_second_nothing(remote: Remote) -> None:
    reader = remote.reader()
    look = reader.look()
    assert (models(look), look.problems) == (["churn", "fraud"], ())
    assert reader.revision is not None
    assert look.revision == reader.revision.short == git(remote.work, "rev-parse", "HEAD")[:12]
    assert reader.look() == Look((), (), look.revision)
    assert reader.stale < 60


def test_a_commit_that_touches_one_model_reads_no_other(remote: Remote) -> None:
    reader = remote.reader()
    reader.look()
    made = remote.write("fraud", text_of(split="v3: 70, v4: 30"))
    look = reader.look()
    assert (models(look), look.revision) == (["fraud"], made[:12])
    assert look.changes[0].config is not None
    assert look.changes[0].config.weights_in("default")["v4"] == 3000
    assert models(reader.look(thorough=True)) == ["churn", "fraud"]


def test_a_broken_file_holds_up_no_other_model(remote: Remote) -> None:
    reader = remote.reader()
    reader.look()
    write_model(remote.work, "fraud", text_of(split="v3: 70"))
    made = remote.write("churn", text_of("churn", split="v3: 80, v4: 20"))
    churn, fraud = reader.look().changes
    assert churn.config is not None
    assert (fraud.config, fraud.removed, fraud.restored) == (None, False, False)
    assert str(fraud.problems[0]).startswith(f"{made[:12]}:config/models/fraud.yaml:8:12: regions.default: ")


def test_at_the_start_the_last_good_text_stands_in_for_a_broken_file(remote: Remote) -> None:
    remote.write("fraud", "model: [")
    (fraud,) = [change for change in remote.reader({"fraud": text_of()}).look().changes if change.model == "fraud"]
    assert (fraud.restored, fraud.config is not None, len(fraud.problems)) == (True, True, 1)
    (still,) = [change for change in remote.reader({"fraud": "also ["}).look().changes if change.model == "fraud"]
    assert (still.restored, still.config, len(still.problems) > 1) == (False, None, True)


def test_a_file_that_is_gone_takes_its_model_out(remote: Remote) -> None:
    reader = remote.reader({"fraud": text_of(), "ancient": text_of("ancient")})
    assert Change("ancient", removed=True) in reader.look().changes
    (remote.work / "config" / "models" / "churn.yaml").unlink()
    commit(remote.work, "no churn")
    assert reader.look().changes == (Change("churn", removed=True),)


def test_all_files_gone_takes_nothing_out(remote: Remote) -> None:
    reader = remote.reader()
    reader.look()
    shutil.rmtree(remote.work / "config")
    commit(remote.work, "oops")
    look = reader.look()
    assert look.changes == ()
    assert "holds no config/models/<model>.yaml" in messages(look)


def test_a_file_that_becomes_a_link_is_broken_not_removed(remote: Remote) -> None:
    reader = remote.reader()
    reader.look()
    path = remote.work / "config" / "models" / "fraud.yaml"
    path.unlink()
    path.symlink_to("/etc/passwd")
    commit(remote.work, "link")
    (fraud,) = reader.look().changes
    assert (fraud.config, fraud.removed) == (None, False)
    assert "symbolic link" in fraud.problems[0].message


def test_regions_are_those_of_the_same_commit(remote: Remote) -> None:
    reader = remote.reader()
    reader.look()
    regions = remote.work / "config" / "regions.yaml"
    regions.write_text("regions: [eu-west]\n")
    remote.write("fraud", text_of().replace("stickiness", "  eu-wset: {v3: 100}\nstickiness"))
    look = reader.look()
    assert models(look) == ["churn", "fraud"]
    assert "no region 'eu-wset'" in look.changes[1].problems[0].message
    regions.write_text("regions: 5\n")
    commit(remote.work, "broken regions")
    assert "regions.yaml" in messages(reader.look())
    regions.unlink()
    commit(remote.work, "no regions")
    assert reader.look().changes[1].config is not None


def test_while_the_remote_is_away_everything_goes_on(remote: Remote) -> None:
    reader = remote.reader()
    before = reader.look()
    remote.work.rename(remote.folder / "away")
    look = reader.look()
    assert (look.changes, look.revision) == ((), before.revision)
    assert messages(look).startswith("git main:1:1: git fetch failed")
    (remote.folder / "away").rename(remote.work)
    remote.write("fraud", text_of(split="v3: 70, v4: 30"))
    assert (models(look := reader.look()), look.problems) == (["fraud"], ())


def test_a_restart_without_the_remote_goes_on_with_what_was_taken(remote: Remote) -> None:
    before = remote.reader().look()
    shutil.rmtree(remote.work)
    reader = remote.reader()
    look = reader.look()
    assert (models(look), look.revision) == (["churn", "fraud"], before.revision)
    assert messages(look)
    assert reader.stale > 1e9


def test_a_start_with_nothing_at_all_goes_on_with_the_last_good_texts(remote: Remote) -> None:
    remote.work.rename(remote.folder / "away")
    reader = remote.reader({"fraud": text_of(), "ancient": text_of("ancient")})
    look = reader.look()
    assert [(change.model, change.restored) for change in look.changes] == [("fraud", True), ("ancient", True)]
    assert look.revision == NO_COMMIT
    assert reader.look().changes == ()
    (remote.folder / "away").rename(remote.work)
    changes = {change.model: change for change in reader.look().changes}
    assert changes["ancient"].removed
    assert {"fraud", "churn"} <= {name for name, change in changes.items() if change.config is not None}


def test_a_commit_that_touches_one_of_many_models_is_read_quickly(remote: Remote) -> None:
    for number in range(400):
        write_model(remote.work, f"m{number}", text_of(f"m{number}"))
    commit(remote.work, "many")
    reader = remote.reader()
    reader.look()
    remote.write("m7", text_of("m7", split="v3: 70, v4: 30"))
    began = time.process_time()
    assert models(reader.look()) == ["m7"]
    assert time.process_time() - began < 0.5


@pytest.mark.anyio
async def test_a_wake_up_looks_at_once(remote: Remote) -> None:
    watch = GitWatch(SystemClock(), poll=600.0)
    looks = watch.looks(remote.reader())
    assert len((await anext(looks)).changes) == 2
    await asyncio.to_thread(remote.write, "fraud", text_of(split="v3: 70, v4: 30"))
    watch.wake()
    watch.wake()
    async with asyncio.timeout(20):
        assert models(await anext(looks)) == ["fraud"]
    await looks.aclose()


@pytest.mark.anyio
async def test_it_polls_without_being_told(remote: Remote) -> None:
    looks = GitWatch(SystemClock(), poll=0.01).looks(remote.reader())
    await anext(looks)
    await asyncio.to_thread(remote.write, "fraud", text_of(split="v3: 70, v4: 30"))
    async with asyncio.timeout(20):
        async for look in looks:
            if look.changes:
                break
    await looks.aclose()
