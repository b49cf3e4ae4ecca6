"""Kills a writer of the store at random moments: `python -m tests.support.store_crasher DIRECTORY ROUNDS SEED`.

Rules:
1. Each round forks a writer that commits intents, each with a rollout and an evidence of the same number, and tells
   every one that was committed; SIGKILL comes after a random number of them and a random while.
2. After each round the store is opened anew: nothing that was told is missing, nothing is there by half, and the
   audit trail is whole, also against the head of the round before.
3. Prints how many rounds there were, how many ended within a write, and the last number, as JSON; exit 1 with what was
   found wrong.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
from pathlib import Path

from router.clock import SystemClock
from router.store.audit import AuditEntry, Head
from router.store.base import Kind, Put
from router.store.sqlite import FILE_NAME, SqliteStore

LONGEST_WHILE = 0.004
PADDING = b"x" * 3000


def main(directory: Path, rounds: int, seed: int) -> None:
    """Plays the rounds."""
    chance = random.Random(seed)  # noqa: S311 - moments of death, not secrets
    path = directory / FILE_NAME
    head, number, untold = None, 0, 0
    for _ in range(rounds):
        told = _kill_a_writer(path, chance, number)
        head, now = _look(path, head)
        if not told <= now <= told + 1:
            sys.exit(f"told of {told}, but the store holds {now}")
        untold += now > told
        number = now
    print(json.dumps({"rounds": rounds, "committed_but_untold": untold, "last": number}))


def _kill_a_writer(path: Path, chance: random.Random, number: int) -> int:
    """The last number that the writer told of."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _write(path, writer, number)
    os.close(writer)
    for _ in range(chance.randrange(6)):
        if line := os.read(reader, 8):
            number = int.from_bytes(line, "big")
    deadline = chance.uniform(0, LONGEST_WHILE)
    # To wait for what never comes is to wait for this long: the moment of death is to be a random one.
    select.select([], [], [], deadline)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while line := os.read(reader, 8):
        number = int.from_bytes(line, "big")
    os.close(reader)
    return number


def _write(path: Path, told: int, number: int) -> None:
    store = SqliteStore(path, SystemClock())
    known, evidence = store.rollouts().get(("m", "v")), store.evidences().get(("m", "v"))
    revisions: tuple[int, ...] = (known.revision if known else 0, evidence.revision if evidence else 0)
    while True:
        number += 1
        value = number.to_bytes(8, "big")
        revisions = store.commit_intent(
            AuditEntry(time=0.0, actor="writer", action="promote", model="m", version="v", after={"number": number}),
            [
                Put(Kind.ROLLOUT, "m", "v", value, revisions[0]),
                Put(Kind.EVIDENCE, "m", "v", value + PADDING, revisions[1]),
            ],
        ).revisions
        os.write(told, value)


def _look(path: Path, before: Head | None) -> tuple[Head, int]:
    """The head and the last number, once it is sure that they fit together."""
    store = SqliteStore(path, SystemClock())
    found = store.verify(before)
    if found:
        sys.exit(f"the chain is broken: {found}")
    rollout, evidence = store.rollouts().get(("m", "v")), store.evidences().get(("m", "v"))
    head = store.audit_head()
    last = store.audit(after=head.sequence - 1)
    numbers = (
        int.from_bytes(rollout.value, "big") if rollout else 0,
        int.from_bytes(evidence.value[:8], "big") if evidence else 0,
        last[0].entry.after["number"] if last else 0,
        head.sequence,
    )
    if len(set(numbers)) != 1:
        sys.exit(f"half an intent: rollout, evidence, record and head are {numbers}")
    store.close()
    return head, numbers[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
