"""The demo's clients: every held-out row, sent as an application would send it.

Rules:
1. One request is one patient: `x-patient-id` is the sticky key, and the same patients come again in every round.
2. Every answer is kept, also the one that failed; nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from router.clock import SystemClock
from router.errors import UpstreamError

CLOCK = SystemClock()
_AT_ONCE = 8
_TIMEOUT = 30.0
_TOLD_CHARACTERS = 300


class HeldOut(NamedTuple):
    """The rows that no model has seen: request bodies, and the right answer to each."""

    bodies: tuple[bytes, ...]
    labels: tuple[int, ...]


class Visit(NamedTuple):
    """One request to be: patient `number` at the listener `url` of `region`."""

    region: str
    url: str
    number: int

    @property
    def patient(self) -> str:
        """The sticky key."""
        return f"patient-{self.number:05d}"


class Told(NamedTuple):
    """One answer. `sent` and `took` in seconds; `fault` is empty unless it failed."""

    visit: Visit
    version: str
    sent: float
    took: float
    right: bool
    fault: str


def read_held_out(path: Path) -> HeldOut:
    """The rows that training kept apart.

    Raises:
        UpstreamError: the file is not what training writes.
    """
    try:
        known = json.loads(path.read_bytes())
        frames = ({"dataframe_split": {"columns": known["columns"], "data": [row]}} for row in known["rows"])
        return HeldOut(tuple(json.dumps(frame).encode() for frame in frames), tuple(known["labels"]))
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UpstreamError(f"{path} holds no held-out rows", hint="remove it, and run the demo again") from fault


async def send(visits: Sequence[Visit], rows: HeldOut, path: str, heard: Callable[[Told], None]) -> list[Told]:
    """Sends all `visits` to `path`, eight at a time and in order; `heard` is told of every answer as it comes."""
    limits = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=_AT_ONCE)
    waiting = iter(visits)
    answers: list[Told] = []
    async with httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, trust_env=False) as client:

        async def work() -> None:
            for visit in waiting:
                answers.append(await _ask(client, visit, rows, path))
                heard(answers[-1])

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
    return answers


async def _ask(client: httpx.AsyncClient, visit: Visit, rows: HeldOut, path: str) -> Told:
    row = visit.number % len(rows.bodies)
    headers = {"content-type": "application/json", "x-patient-id": visit.patient}
    sent = CLOCK.monotonic()
    try:
        answer = await client.post(visit.url + path, content=rows.bodies[row], headers=headers)
        took = CLOCK.monotonic() - sent
        answer.raise_for_status()
        right = answer.json()["predictions"] == [rows.labels[row]]
        return Told(visit, answer.headers["x-model-version"], sent, took, right, "")
    except httpx.HTTPStatusError as refused:
        answer = refused.response
        fault = f"HTTP {answer.status_code}: {answer.text[:_TOLD_CHARACTERS]}"
        return _failed(visit, sent, fault, answer.headers.get("x-model-version", ""))
    except (httpx.HTTPError, ValueError, KeyError) as fault:
        return _failed(visit, sent, f"{type(fault).__name__}: {fault}")


def _failed(visit: Visit, sent: float, fault: str, version: str = "") -> Told:
    return Told(visit, version, sent, CLOCK.monotonic() - sent, right=False, fault=fault)
