"""The transition table of rollouts as a diagram and a table for the documentation.

Rules:
1. Everything follows from `router.core.rollout.TABLE`; only the words for people stand here.
2. `python -m tests.support.rollout_diagram` writes both into docs/rollouts.md, between their markers; a test holds that
   they are current.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from router.core.rollout import TABLE, TARGET
from router.core.rollout_state import CommandName, Phase, Signal

DOCUMENT = Path(__file__).parents[2] / "docs" / "rollouts.md"

WORDS: dict[Signal, str] = {
    "failed": "a guard fires",
    "waiting": "hold over",
    "overdue": "too little shown for too long",
    "ready": "enough shown",
    "ready_for_approval": "enough shown, needs approval",
    "ready_at_end": "last step over",
    "promote_at_end": "promote, at the last step",
    "promote_all": "promote --all",
}
"""Signals as the diagram shows them; the others by their own name, and `early` and `unchanged` change nothing."""


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = [f"    {source} --> {target}: {label}" for source, target, label in _arrows()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def commands() -> str:
    """Which command does what in which phase, as a Markdown table; `–` where it is refused."""
    names = get_args(CommandName)
    rows = [f"| {phase} | " + " | ".join(_outcome(phase, name) for name in names) + " |" for phase in TABLE]
    head = "| phase | " + " | ".join(f"`{WORDS.get(name, name)}`" for name in names) + " |"
    return "\n".join([head, "| --- |" + " --- |" * len(names), *rows])


def render(text: str) -> str:
    """`text` with what stands between the markers made anew."""
    for name, made in {"diagram": diagram(), "commands": commands()}.items():
        begin, end = f"<!-- {name}: made from the table -->", f"<!-- end of {name} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text = re.sub(pattern, f"{begin}\n{made}\n{end}".replace("\\", r"\\"), text, flags=re.DOTALL)
    return text


def _arrows() -> Iterator[tuple[str, str, str]]:
    """`(source, target, label)`; signals that lead the same way share an arrow."""
    yield "[*]", "holding", "start"
    yield "[*]", "awaiting_approval", "start, where the first step needs approval"
    yield "[*]", "idle", "start, with weights set by hand"
    for phase, row in TABLE.items():
        labels: dict[str, list[str]] = {}
        for signal, move in row.items():
            for target in _targets(phase, move):
                labels.setdefault(target, []).append(WORDS.get(signal, signal))
        for target, found in labels.items():
            yield phase, target, " / ".join(dict.fromkeys(found))


def _targets(phase: Phase, move: str) -> list[str]:
    if move in {"stay", "start"}:
        return []
    if move == "readmit":
        return ["[*]"]
    if move == "resume":
        return [source for source, row in TABLE.items() if row.get("pause") == "pause"]
    return [TARGET[move] or phase]  # type: ignore[index]  # the moves that lead nowhere else are dealt with above


def _outcome(phase: Phase, name: CommandName) -> str:
    move = TABLE[phase].get(name)
    if move is None:
        return "–"
    return {"advance": "enters the next step", "complete": "goes to the end", "readmit": "begins anew",
            "rollback": "rolls back", "pause": "pauses", "resume": "goes on"}[move]  # fmt: skip


if __name__ == "__main__":
    DOCUMENT.write_text(render(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
