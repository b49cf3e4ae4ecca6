"""Tests of router.registry.environments, with real environments of tiny local wheels."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from router.errors import OperatorError, UpstreamError
from router.registry import environments

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two versions of a library that cannot both be in one environment; uv knows no other place."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        info = f"quarrel-{version}.dist-info"
        with zipfile.ZipFile(folder / f"quarrel-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("quarrel.py", f"VERSION = {version!r}\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: quarrel\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def model(root: Path, name: str, requirements: str, python: str = f"{HERE}.1") -> Path:
    """A model's directory, as far as environments are concerned."""
    folder = root / name
    folder.mkdir()
    (folder / "requirements.txt").write_text(requirements)
    (folder / "python_env.yaml").write_text(f"python: {python}\ndependencies:\n- -r requirements.txt\n")
    return folder


def said_by(python: str, code: str) -> str:
    """What an interpreter prints."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.usefixtures("wheels")
def test_two_models_with_libraries_that_conflict_have_their_own(tmp_path: Path) -> None:
    first = environments.prepare(model(tmp_path, "a", "quarrel==1.0"), tmp_path / "e", beside=())
    second = environments.prepare(model(tmp_path, "b", "quarrel==2.0 # newer\n"), tmp_path / "e", beside=())
    code = "import quarrel, router.serving.spec; print(quarrel.VERSION)"
    assert [said_by(each.python, code) for each in (first, second)] == ["1.0", "2.0"]
    assert first.digest != second.digest


@pytest.mark.usefixtures("wheels")
def test_the_same_requirements_share_one_and_a_broken_build_is_begun_again(tmp_path: Path) -> None:
    first = environments.prepare(model(tmp_path, "a", "quarrel==1.0"), tmp_path / "e", beside=())
    home = Path(first.python).parents[1]
    (home / "mark").touch()
    same = environments.prepare(model(tmp_path, "c", "  quarrel==1.0"), tmp_path / "e", beside=())
    assert same == first
    assert (home / "mark").exists()
    (home / "complete").unlink()
    assert environments.prepare(tmp_path / "c", tmp_path / "e", beside=()) == first
    assert not (home / "mark").exists()


@pytest.mark.usefixtures("wheels")
def test_what_cannot_be_had_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match=r"cannot be built.*quarrel") as failed:
        environments.prepare(model(tmp_path, "a", "quarrel==3.0"), tmp_path / "e", beside=())
    assert failed.value.hint
    assert [path.name for path in (tmp_path / "e").iterdir() if path.is_dir()] == []


def test_requirements_may_be_in_several_files_of_the_model(tmp_path: Path) -> None:
    folder = model(tmp_path, "a", "-r more.txt\nscikit-learn==1.5 # old\n\n")
    (folder / "more.txt").write_text("pandas\n")
    assert environments.requirements_of(folder) == ["pandas", "scikit-learn==1.5"]
    (folder / "more.txt").write_text("-r /etc/passwd")
    with pytest.raises(OperatorError, match="not the model's"):
        environments.requirements_of(folder)
    (folder / "requirements.txt").unlink()
    with pytest.raises(OperatorError, match=r"no requirements\.txt"):
        environments.requirements_of(folder)


def test_the_server_brings_what_the_model_does_not() -> None:
    names = [line.partition("==")[0] for line in environments.needed_beside(["scikit-learn"])]
    assert names == ["httptools", "msgspec", "uvloop", "mlflow-skinny", "pandas"]
    assert len(environments.needed_beside(["mlflow==3.1", "pandas<3"])) == 3
    assert len(environments.needed_beside(["mlflow-skinny", "pandas-stubs"])) == 4


@pytest.mark.parametrize(("said", "version"), [("3.12.1", "3.12"), ("3.11", "3.11"), ("''", HERE)])
def test_the_python_is_the_models(tmp_path: Path, said: str, version: str) -> None:
    assert environments.python_of(model(tmp_path, "a", "", said)) == version


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"made with Python 3\.9\.1"):
        environments.python_of(model(tmp_path, "a", "", "3.9.1"))
