"""What is shipped: lock files that agree, an image made from them, documents that name what exists."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from router.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    """The arguments of every `name` instruction of the Dockerfile, in order."""
    return [line.removeprefix(name).strip() for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")]


def pins(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes by package of a requirements file."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for block in re.split(r"\n(?=[a-z0-9])", (REQUIREMENTS / file).read_text()):
        if match := re.match(r"([a-z0-9._-]+)==([^ ;\\]+)", block):
            found[match[1]] = (match[2], frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block)))
    return found


@pytest.mark.parametrize("file", ["lock.txt", "runtime.txt", "tools.txt"])
def test_every_pin_has_hashes_and_no_file_names_an_address(file: str) -> None:
    assert pins(file)
    assert all(hashes for _, hashes in pins(file).values())
    assert "://" not in (REQUIREMENTS / file).read_text()


def test_an_image_holds_a_part_of_the_lock_file() -> None:
    lock = pins("lock.txt")
    assert {name: lock.get(name) for name in pins("runtime.txt")} == pins("runtime.txt")
    assert "mlflow" not in pins("runtime.txt")
    assert "pytest" not in pins("runtime.txt")


def test_the_lock_file_has_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *(name for extra in extras for name in extra)]
    names = {re.split(r"[\[>=<~! ;]", requirement)[0].lower() for requirement in declared}
    assert names <= set(pins("lock.txt"))


def test_the_image_runs_the_command_as_nobody_special() -> None:
    assert json.loads(instructions("ENTRYPOINT")[0])[-1] == "canary-router"
    assert json.loads(instructions("CMD")[0]) == ["serve"]
    assert instructions("USER") == ["10001:10001"]
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert DOCKERFILE.index("USER 10001") < DOCKERFILE.index("ENTRYPOINT")


def test_the_image_is_built_in_stages_from_hashed_files() -> None:
    assert len(instructions("FROM")) == 2
    assert all(re.search(r"python:\$\{PYTHON\}-slim", stage) for stage in instructions("FROM"))
    installs = [line for line in DOCKERFILE.splitlines() if "requirements/" in line and line.startswith("RUN")]
    assert installs
    assert all("--require-hashes" in line for line in installs)


def test_everything_copied_into_the_image_exists_and_is_let_through() -> None:
    let_through = (ROOT / ".dockerignore").read_text()
    for arguments in instructions("COPY"):
        *sources, _ = shlex.split(arguments)
        if sources[0].startswith("--from"):
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}\n" in let_through, source


def test_the_health_check_is_python_that_asks_livez() -> None:
    _, command = instructions("HEALTHCHECK")[0].split("CMD ", 1)
    program, flag, code = json.loads(command)
    assert (program, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    assert "/livez" in code


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", *(str(p) for p in ROOT.glob("docs/**/*.md"))])
def test_documents_name_commands_targets_and_files_that_exist(document: str) -> None:
    path = ROOT / document
    text = path.read_text()
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^canary-router ([a-z]+)", text, re.MULTILINE)) <= set(COMMANDS)
    assert set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)) <= targets
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / link).exists(), link
