"""What is wrong with a config, and where: the one shape in which operators read it.

Rules:
1. A problem names its file, line and column (both from 1), the path inside the file, and what is wrong.
2. Text of an operator's file is quoted with control characters escaped: a config cannot write to a terminal.
3. At most `MAX_PROBLEMS` of one file are kept, so that a hostile file cannot make its own report expensive.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

MAX_PROBLEMS = 100
_MAX_SHOWN = 60
_MAX_CANDIDATES = 300
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `model` is empty where it concerns no single model; `line` and `column` start at 1."""

    file: str
    line: int
    column: int
    path: str
    message: str
    model: str = ""

    def __str__(self) -> str:
        place = f"{printable(self.file)}:{self.line}:{self.column}"
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class Report:
    """Collects the problems of one file.

    Args:
        file: the file's name as the operator shall read it.
        model: the model it configures; empty for other files.
    """

    def __init__(self, file: str, model: str = "") -> None:
        self.file = file
        self.model = model
        self._problems: list[Problem] = []
        self._left_out: Problem | None = None

    @property
    def full(self) -> bool:
        """Whether further problems would only be counted as "more"."""
        return len(self._problems) >= MAX_PROBLEMS

    def add(self, line: int, column: int, path: Iterable[object], message: str) -> None:
        """Adds a problem at `line` and `column`; `path` holds keys (str) and list indices (int)."""
        problem = Problem(self.file, line, column, path_text(path), message, self.model)
        if self.full:
            self.cut(line, column)
        else:
            self._problems.append(problem)

    def cut(self, line: int, column: int) -> None:
        """Says once that there are more problems, the next of them at `line` and `column`."""
        more = f"and more: only the first {MAX_PROBLEMS} problems of a file are shown"
        self._left_out = self._left_out or Problem(self.file, line, column, "", more, self.model)

    def problems(self) -> tuple[Problem, ...]:
        """What was added, in the order of the file."""
        found = sorted(self._problems, key=lambda problem: (problem.line, problem.column, problem.message))
        return (*found, self._left_out) if self._left_out else tuple(found)


def path_text(path: Iterable[object]) -> str:
    """`path` as operators read it: `regions.eu-west.v4`, `versions.v4.upstreams[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = str(part)
            text += ("." if text else "") + (name if _PLAIN.fullmatch(name) else quote(name))
    return text


def printable(text: str) -> str:
    """`text` with everything escaped that is not a printable character."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def quote(text: str) -> str:
    """`text` in quotes, printable, cut to a length that fits a message."""
    shown = printable(text[:_MAX_SHOWN])
    return f"'{shown}…'" if len(text) > _MAX_SHOWN else f"'{shown}'"


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """` (did you mean 'weight'?)` where a candidate is close to `word`, else an empty string."""
    meant = closest(word, candidates)
    return f" (did you mean {quote(meant)}?)" if meant else ""


def one_of(word: str, candidates: Collection[str]) -> str:
    """As `did_you_mean`, or else the first of the candidates: ` (there are 'v3', 'v4')`."""
    known = list(islice(candidates, 6))
    listed = ", ".join(map(quote, known[:5])) + (", …" if len(known) > 5 else "")
    return did_you_mean(word, candidates) or f" (there {'is' if len(known) == 1 else 'are'} {listed})"


def closest(word: str, candidates: Iterable[str]) -> str:
    """The candidate that `word` was probably meant to be; an empty string where none is close."""
    if len(word) > _MAX_SHOWN:
        return ""
    lowered = {candidate.lower(): candidate for candidate in islice(candidates, _MAX_CANDIDATES)}
    close = get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else ""
