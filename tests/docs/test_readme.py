"""What the README and the other documents tell people to write and type is right."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.document import Document
from sybil.parsers.markdown import CodeBlockParser

from router.config.load import load_repository

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def blocks(language: str) -> list[tuple[str, str]]:
    """Every fenced block of `language` in the documents: `(where, text)`."""
    found = []
    sybil = Sybil(parsers=[CodeBlockParser(language=language, evaluator=lambda _: None)])
    for path in DOCUMENTS:
        document: Document = sybil.parse(path)
        for example in document.examples():
            found.append((f"{path.name}:{example.line}", str(example.parsed)))
    return found


def configs() -> list[tuple[str, str]]:
    """The blocks that are a whole model's config."""
    return [(where, text) for where, text in blocks("yaml") if re.search(r"^model: ", text, re.MULTILINE)]


def commands() -> list[tuple[str, list[str]]]:
    """Every line of a block without a language, or of sh, that starts the program."""
    lines = []
    for path in DOCUMENTS:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("canary-router "):
                lines.append((f"{path.name}:{number}", shlex.split(line, comments=True)[1:]))
    return lines


@pytest.mark.parametrize(("where", "text"), configs(), ids=lambda value: value if ":" in value else "")
def test_configs_in_documents_are_valid(where: str, text: str, tmp_path: Path) -> None:
    name = re.search(r"^model: (\S+)", text, re.MULTILINE)
    assert name, where
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{name.group(1)}.yaml").write_text(text)
    loaded = load_repository(tmp_path)
    assert not loaded.problems, where
    assert list(loaded.configs) == [name.group(1)]


def test_the_readme_has_a_config_and_commands() -> None:
    assert any(where.startswith("README.md") for where, _ in configs())
    assert any(where.startswith("README.md") for where, _ in commands())


@pytest.mark.parametrize(("where", "arguments"), commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_commands_in_documents_exist_with_their_options(where: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "router.cli", arguments[0], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, (where, done.stderr)
    for argument in arguments[1:]:
        if argument.startswith("-"):
            assert argument.split("=")[0] in done.stdout, (where, argument)
