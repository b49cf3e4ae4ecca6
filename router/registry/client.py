"""Asks the registry through short-lived children, so that the asking process never imports MLflow.

Rules:
1. One child, one attempt, one deadline; at the deadline the child is killed. Trying again is the caller's decision.
2. The registry's URL and credentials travel in the child's environment, never on its command line, which any user of
   the machine can read.
3. The child gets none of the router's own secrets, and ends with the process that asked.
4. At most two children at a time in one event loop: each costs seconds of processor time and 180 MB.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary

import msgspec

from router.errors import InternalError, RouterError, UpstreamError
from router.registry.redact import first_line, without_credentials
from router.registry.types import Brought, Failure, Fetched, Prepared, Resolved

_Answer = TypeVar("_Answer", Resolved, Fetched, Brought, Prepared)
_AT_ONCE = 2
_slots: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def resolve(uri: str, *, registry: str | None, timeout: float = 30.0) -> Resolved:
    """Pins `uri` and tells its lineage; `timeout` in seconds, once the child has started.

    Raises:
        OperatorError: the URI is refused or names nothing; credentials are refused; no registry is set.
        UpstreamError: the registry cannot be reached, answers nonsense, or took longer than `timeout`.
    """
    return await _ask(["resolve", uri], Resolved, uri=uri, registry=registry, timeout=timeout)


async def fetch(uri: str, *, to: Path, registry: str | None, expected: str = "", timeout: float = 600.0) -> Fetched:
    """Brings the files of the pinned `uri` into directory `to`, whole or not at all; idempotent. `timeout` in seconds.

    Raises:
        OperatorError: as `resolve`; or `to` cannot be written, or was not made by an earlier fetch; or the files have
            another digest than `expected`.
        UpstreamError: as `resolve`; or what the registry holds is no model.
    """
    return await _ask(
        ["fetch", uri, "--to", str(to), "--expect", expected], Fetched, uri=uri, registry=registry, timeout=timeout
    )


async def register(
    origin: str,
    *,
    name: str,
    registry: str | None,
    git_commit: str,
    dataset: tuple[str, str],
    metrics: Mapping[str, float],
    timeout: float = 600.0,
) -> Brought:
    """Registers the model at path or URI `origin` as the next version of `name`. `timeout` in seconds.

    Raises:
        OperatorError: there is no model at `origin`, or no registry is set.
        UpstreamError: the registry or the store of `origin` cannot be reached, or answers nonsense.
    """
    question = ["register", origin, "--name", name, "--git-commit", git_commit, "--dataset", *dataset]
    question += ["--metrics", msgspec.json.encode(metrics).decode()]
    return await _ask(question, Brought, uri=origin, registry=registry, timeout=timeout)


async def prepare(model: Path, *, root: Path, timeout: float = 1800.0) -> Prepared:
    """Builds the environment that the model in directory `model` requires, below `root`, if it is not there yet.

    Raises:
        OperatorError: the model requires what cannot be had here, or uv is not installed.
        UpstreamError: it cannot be built, for instance because no package index can be reached.
    """
    question = ["prepare", str(model), "--root", str(root)]
    return await _ask(question, Prepared, uri=str(model), registry=None, timeout=timeout)


def child_environment(environ: Mapping[str, str], registry: str | None) -> dict[str, str]:
    """The environment of a registry child: ours (stores need their credentials, proxies, certificates) less secrets
    that are the router's own, with the registry's URL."""
    kept = {name: value for name, value in environ.items() if not name.startswith("CANARY_ROUTER_")}
    kept.pop("MLFLOW_TRACKING_URI", None)
    kept.pop("MLFLOW_REGISTRY_URI", None)
    return kept | {"MLFLOW_TRACKING_URI": registry} if registry else kept


async def _ask(question: list[str], kind: type[_Answer], *, uri: str, registry: str | None, timeout: float) -> _Answer:
    async with _slots.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE)):
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *["-m", "router.registry", "--lifeline", "0", *question],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(os.environ, registry),
        )
        try:
            async with asyncio.timeout(timeout):
                out, err, code = await _until_exit(child)
        except TimeoutError as late:
            place = without_credentials(registry or "the registry")
            raise UpstreamError(
                f"{uri}: {place} did not answer within {timeout:g} s",
                hint="check that the registry runs and can be reached from here",
            ) from late
        finally:
            await _end(child)
    return _read(kind, uri, out, err, code)


async def _until_exit(child: asyncio.subprocess.Process) -> tuple[bytes, bytes, int]:
    # Not communicate(): it would close standard input, which is the child's lifeline.
    assert child.stdout is not None and child.stderr is not None  # noqa: S101 PT018 - both were asked to be pipes
    out, err = await asyncio.gather(child.stdout.read(), child.stderr.read())
    return out, err, await child.wait()


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.kill()
        await child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _read(kind: type[_Answer], uri: str, out: bytes, err: bytes, code: int) -> _Answer:
    try:
        if code == 0:
            return msgspec.json.decode(out, type=kind)
        raise msgspec.json.decode(out, type=Failure).as_error()
    except msgspec.DecodeError as broken:
        raise _died(uri, err, code) from broken


def _died(uri: str, err: bytes, code: int) -> RouterError:
    last = first_line("\n".join(reversed(err.decode(errors="replace").splitlines())))
    if code < 0:
        return UpstreamError(f"{uri}: the registry child was killed by signal {-code}: {last or 'it said nothing'}")
    return InternalError(f"{uri}: the registry child ended with {code} and no answer: {last or 'it said nothing'}")
