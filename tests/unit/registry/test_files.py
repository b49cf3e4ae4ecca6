"""Tests of router.registry.files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from router.errors import OperatorError, UpstreamError
from router.registry import files


def model(**content: str) -> Callable[[Path], None]:
    """Fills a directory with an MLmodel and `content`."""

    def fill(part: Path) -> None:
        (part / "data").mkdir(parents=True)
        (part / "MLmodel").write_text("flavors: {}")
        for name, text in content.items():
            (part / "data" / name).write_text(text)

    return fill


def never(part: Path) -> None:
    """Fails the test that fetches where nothing has to be fetched."""
    pytest.fail(f"{part} was fetched again")


def test_every_file_is_hashed_and_the_tree_has_one_digest(tmp_path: Path) -> None:
    made = files.keep(tmp_path / "m", model(weights="1 2 3"))
    assert made.path == str(tmp_path / "m")
    assert sorted(made.sha256) == ["MLmodel", "data/weights"]
    assert made.sha256["data/weights"] == hashlib.sha256(b"1 2 3").hexdigest()
    assert made.digest == files.tree_digest(dict(reversed(made.sha256.items())))


def test_the_digest_is_the_files_and_not_the_place(tmp_path: Path) -> None:
    one, same, other = (
        files.keep(tmp_path / name, model(weights=text)).digest for name, text in [("a", "1"), ("b", "1"), ("c", "2")]
    )
    assert one == same != other


def test_a_complete_directory_is_not_fetched_again(tmp_path: Path) -> None:
    made = files.keep(tmp_path / "m", model())
    assert files.keep(tmp_path / "m", never) == made


@pytest.mark.parametrize("damage", ["altered", "missing", "added"])
def test_a_directory_that_changed_is_fetched_again(tmp_path: Path, damage: str) -> None:
    made = files.keep(tmp_path / "m", model(weights="1"))
    weights = tmp_path / "m" / "data" / "weights"
    if damage == "altered":
        weights.write_text("2")
    elif damage == "missing":
        weights.unlink()
    else:
        weights.with_name("more").write_text("3")
    assert files.keep(tmp_path / "m", model(weights="1")) == made
    assert weights.read_text() == "1"


def test_a_broken_record_means_fetching_again(tmp_path: Path) -> None:
    made = files.keep(tmp_path / "m", model())
    (tmp_path / "m.sha256.json").write_text("{")
    assert files.keep(tmp_path / "m", model()) == made


def test_a_fetch_that_fails_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    def torn(part: Path) -> None:
        model()(part)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        files.keep(tmp_path / "m", torn)
    assert not (tmp_path / "m").exists()
    assert files.keep(tmp_path / "m", model()).sha256


def test_other_files_than_those_that_were_pinned_are_refused(tmp_path: Path) -> None:
    pinned = files.keep(tmp_path / "m", model(weights="1")).digest
    assert files.keep(tmp_path / "m", never, pinned).digest == pinned
    assert files.holds(tmp_path / "m", pinned)
    with pytest.raises(OperatorError, match="not those that were pinned") as refused:
        files.keep(tmp_path / "elsewhere", model(weights="2"), pinned)
    assert pinned in refused.value.message
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "m" / "data" / "weights").write_text("tampered with")
    assert not files.holds(tmp_path / "m", pinned)
    assert not files.holds(tmp_path / "elsewhere", pinned)


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.txt").write_text("years of work")
    with pytest.raises(OperatorError, match="was not fetched by the router"):
        files.keep(tmp_path / "m", never)
    assert (tmp_path / "m" / "thesis.txt").exists()


def test_what_holds_no_mlmodel_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match="no MLmodel"):
        files.keep(tmp_path / "m", lambda part: part.mkdir())


def test_a_link_is_refused(tmp_path: Path) -> None:
    def linked(part: Path) -> None:
        model()(part)
        (part / "passwd").symlink_to("/etc/passwd")

    with pytest.raises(OperatorError, match="neither a file nor a directory"):
        files.keep(tmp_path / "m", linked)
    assert not (tmp_path / "m").exists()
