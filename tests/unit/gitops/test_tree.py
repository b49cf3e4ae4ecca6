"""The config files of one commit, from repositories that nobody should trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.config.yaml import MAX_BYTES
from router.errors import InternalError, OperatorError
from router.gitops.git import Git, GitError
from router.gitops.tree import commit_of, list_files, prefix_of, read_blobs
from tests.support.configs import commit, git, new_repository, write_model

pytestmark = pytest.mark.needs("git")


def contents(folder: Path, revision: str = "HEAD") -> dict[str, bytes]:
    there = Git(folder)
    listing = list_files(there, commit_of(there, revision), "config/")
    blobs = read_blobs(there, listing.files.values())
    return {path: blobs[found] for path, found in listing.files.items()}


def test_a_commit_is_read_as_it_was(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "a", fraud="one\n", churn="")
    (repository / "config" / "regions.yaml").write_text("regions: [eu]\n")
    (repository / "config" / "models" / ".hidden.yaml").write_text("no")
    (repository / "config" / "models" / "README.md").write_text("no")
    first = commit(repository, "second")
    write_model(repository, "fraud", "two\n")
    commit(repository, "third")
    write_model(repository, "fraud", "not committed\n")
    assert contents(repository, first) == {
        "models/churn.yaml": b"", "models/fraud.yaml": b"one\n", "regions.yaml": b"regions: [eu]\n",
    }  # fmt: skip
    assert contents(repository)["models/fraud.yaml"] == b"two\n"
    assert prefix_of(Git(repository / "config")) == "config/"


@pytest.mark.parametrize("revision", ["nosuch", "--help", "-x", "HEAD:config", "", "a b", "@{-1}", "HEAD^9"])
def test_a_revision_that_is_none_is_refused(tmp_path: Path, revision: str) -> None:
    new_repository(tmp_path / "a")
    with pytest.raises(OperatorError, match="there is no commit"):
        commit_of(Git(tmp_path / "a"), revision)


def test_a_folder_outside_of_git_is_told(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="is not in a git repository"):
        prefix_of(Git(tmp_path))


def test_only_whole_ids_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InternalError):
        list_files(Git(tmp_path), "main", "")


def test_links_submodules_folders_and_huge_files_are_refused(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "a", good="x")
    models = repository / "config" / "models"
    (models / "link.yaml").symlink_to("/etc/passwd")
    (models / "folder.yaml").mkdir()
    (models / "folder.yaml" / "x").write_text("")
    (models / "huge.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    (models / "short.yml").write_text("")
    (models / "Loud.YAML").write_text("")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},config/models/sub.yaml")
    commit(repository, "hostile")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},config/models/sub.yaml")
    git(repository, "commit", "--quiet", "--message=submodule")
    there = Git(repository)
    listing = list_files(there, commit_of(there, "HEAD"), "config/")
    assert list(listing.files) == ["models/good.yaml"]
    assert {refused.path: refused.message.split(";")[0].split(" bytes")[0] for refused in listing.refused} == {
        "models/Loud.YAML": "the ending must be '.yaml'",
        "models/folder.yaml": "is a folder",
        "models/huge.yaml": f"has {MAX_BYTES + 1}",
        "models/link.yaml": "is a symbolic link",
        "models/short.yml": "the ending must be '.yaml'",
        "models/sub.yaml": "is a submodule, and those are not read",
    }


def test_odd_names_are_names_and_nothing_else(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "a")
    for name in ("-x", "--help", "a b", "é", "new\nline", "$(id)", "*"):
        write_model(repository, name, name)
    commit(repository, "odd")
    found = contents(repository)
    assert {path.removeprefix("models/").removesuffix(".yaml") for path in found} == {
        "-x", "--help", "a b", "é", "new\nline", "$(id)", "*",
    }  # fmt: skip
    assert all(path == f"models/{text.decode()}.yaml" for path, text in found.items())


def test_a_repositorys_hooks_and_filters_do_not_run(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "a", fraud="x")
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    (repository / "config" / ".gitattributes").write_text("* filter=evil diff=evil\n")
    git(repository, "config", "filter.evil.smudge", f"touch {tmp_path}/ran; cat")
    git(repository, "config", "diff.evil.textconv", f"touch {tmp_path}/ran; cat")
    git(repository, "config", "core.fsmonitor", f"touch {tmp_path}/ran")
    assert contents(repository)["models/fraud.yaml"] == b"x"
    assert not (tmp_path / "ran").exists()


def test_a_damaged_object_is_told(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "a", fraud="something of its own\n")
    there = Git(repository)
    listing = list_files(there, commit_of(there, "HEAD"), "config/")
    found = listing.files["models/fraud.yaml"]
    loose = repository / ".git" / "objects" / found[:2] / found[2:]
    loose.unlink()
    with pytest.raises(GitError):
        read_blobs(there, [found])


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = new_repository(tmp_path / "a", fraud="x", churn="y")
    monkeypatch.setattr("router.gitops.tree.MOST_FILES", 1)
    with pytest.raises(GitError, match="holds more than 1 files"):
        contents(repository)
    assert read_blobs(Git(repository), []) == {}
