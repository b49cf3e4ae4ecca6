"""The registry child and its client against a real MLflow server over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from router.errors import OperatorError, UpstreamError
from router.registry import client
from router.registry.types import Dataset, Resolved
from tests.integration.conftest import MlflowServer, free_port

pytestmark = pytest.mark.anyio
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOON = 20.0


async def resolve(uri: str, server: MlflowServer) -> Resolved:
    """Asks the real registry."""
    return await client.resolve(uri, registry=server.url, timeout=60)


async def test_a_version_comes_with_its_lineage(mlflow_server: MlflowServer) -> None:
    found = await resolve("models:/wine/1", mlflow_server)
    assert (found.resolved, found.name, found.version) == ("models:/wine/1", "wine", "1")
    assert (found.run_id, found.git_commit) == (mlflow_server.runs[0], COMMIT)
    assert found.source == f"models:/{found.model_id}"
    assert [dataset.name for dataset in found.datasets] == ["wine"]
    assert all(isinstance(dataset, Dataset) and dataset.digest for dataset in found.datasets)
    assert found.metrics["accuracy"] > 0.9
    assert (found.signature, found.flavor) == (True, "sklearn")


async def test_an_alias_is_pinned_to_its_version(mlflow_server: MlflowServer) -> None:
    found = await resolve("models:/wine@eu_west_champion", mlflow_server)
    assert (found.uri, found.resolved) == ("models:/wine@eu_west_champion", "models:/wine/2")


async def test_a_model_that_was_trained_elsewhere_comes_with_its_lineage(
    mlflow_server: MlflowServer, serving_models: Path, tmp_path: Path
) -> None:
    origin = tmp_path / "brought"
    shutil.copytree(serving_models / "linear", origin)
    command = ["register", "--from", str(origin), "--name", "brought", "--git-commit", COMMIT, "-o", "json"]
    command += ["--dataset-digest", "1f2e3d4c", "--dataset", "iris", "--metric", "auc=0.97"]
    command += ["--registry", mlflow_server.url]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "router.cli", *command],
        capture_output=True,
        text=True,
        check=True,
        timeout=SOON * 3,
    )
    made = json.loads(done.stdout)["registered"]
    assert (made["name"], made["version"]) == ("brought", "1")
    found = await resolve("models:/brought/1", mlflow_server)
    assert (found.git_commit, found.datasets, found.metrics) == (
        COMMIT,
        [Dataset(name="iris", digest="1f2e3d4c")],
        {"auc": 0.97},
    )
    assert found.tags["canary-router.sha256"] == made["digest"]
    fetched = await client.fetch(found.resolved, to=tmp_path / "m", registry=mlflow_server.url, expected=made["digest"])
    assert fetched.digest == made["digest"]


async def test_other_files_under_a_pinned_version_are_refused(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="not those that were pinned"):
        await client.fetch("models:/wine/1", to=tmp_path / "m", registry=mlflow_server.url, expected="0" * 64)
    assert not (tmp_path / "m").exists()


async def test_a_model_and_a_run_name_the_same_files(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    by_version = await resolve("models:/wine/2", mlflow_server)
    by_run = await resolve(f"runs:/{mlflow_server.runs[1]}/model", mlflow_server)
    by_id = await resolve(f"models:/{by_version.model_id}", mlflow_server)
    assert by_run.model_id == by_id.model_id == by_version.model_id
    assert by_run.git_commit == by_id.git_commit == COMMIT
    digests = {
        (await client.fetch(each.resolved, to=tmp_path / str(number), registry=mlflow_server.url)).digest
        for number, each in enumerate((by_version, by_run, by_id))
    }
    assert len(digests) == 1


async def test_a_local_path_needs_no_registry(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    fetched = await client.fetch("models:/wine/1", to=tmp_path / "m", registry=mlflow_server.url)
    local = await client.resolve(fetched.path, registry=None)
    assert (local.resolved, local.signature, local.flavor) == (str(tmp_path / "m"), True, "sklearn")
    copied = await client.fetch(local.resolved, to=tmp_path / "copy", registry=None)
    assert copied.digest == fetched.digest


@pytest.mark.parametrize(
    ("uri", "says", "hint"),
    [
        ("models:/wine/99", "no such version", "its versions are 1, 2, 3"),
        ("models:/cider/1", "no such version", "no model is registered as 'cider'"),
        ("models:/wine@nobody", "no such alias", "its aliases are champion, eu_west_champion"),
        ("models:/cider@nobody", "no such alias", "no model is registered as 'cider'"),
        ("models:/m-0000", "no such model", ""),
        ("runs:/0000/model", "no such model", ""),
        ("models:/wine/Production", "names a stage", "models:/wine@champion"),
        ("/no/such/directory", "holds no MLmodel", ""),
    ],
)
async def test_what_is_not_there_is_said_with_what_is(
    mlflow_server: MlflowServer, uri: str, says: str, hint: str
) -> None:
    with pytest.raises(OperatorError, match=says) as refused:
        await resolve(uri, mlflow_server)
    assert hint in refused.value.hint


async def test_artifacts_without_a_model_are_no_model(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match="no MLmodel"):
        await resolve("models:/broken/2", mlflow_server)
    with pytest.raises(UpstreamError, match="no MLmodel"):
        await client.fetch("models:/broken/2", to=tmp_path / "m", registry=mlflow_server.url)
    assert not (tmp_path / "m").exists()


async def test_no_registry_says_where_to_set_one() -> None:
    with pytest.raises(OperatorError, match="none is set") as refused:
        await client.resolve("models:/wine/1", registry=None)
    assert "router.yaml" in refused.value.hint


async def test_an_unreachable_registry_fails_soon_and_tells_no_secret() -> None:
    began = time.monotonic()
    with pytest.raises(UpstreamError) as failed:
        await client.resolve("models:/wine/1", registry=f"http://alice:s3cret@127.0.0.1:{free_port()}")
    assert time.monotonic() - began < SOON
    assert "cannot be reached: connection refused" in failed.value.message
    assert "s3cret" not in str(failed.value)


async def test_a_registry_that_never_answers_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://alice:s3cret@127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UpstreamError, match=r"http://127\.0\.0\.1:\d+ did not answer within 0\.2 s"):
            await client.resolve("models:/wine/1", registry=url, timeout=0.2)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"<html>a login page</html>", "cannot be used"),
        (200, b"[]", "cannot be used"),
        (200, b"{}", "cannot be used"),
        (200, b"\xff\xfe", "cannot be used"),
        (404, b"<html>nothing here</html>", "does not answer like an MLflow server"),
        (401, b"who are you?", "refuses our credentials"),
        (500, b'{"error_code": "INTERNAL_ERROR", "message": "Traceback\\n at line 1"}', "cannot be used"),
    ],
)
async def test_mean_answers_become_messages(status: int, body: bytes, says: str) -> None:
    with answering(status, body) as url, pytest.raises((UpstreamError, OperatorError), match=says) as failed:
        await client.resolve("models:/wine/1", registry=url)
    assert "Traceback\n" not in str(failed.value)
    assert url in str(failed.value)


async def test_a_caller_that_is_cancelled_leaves_no_child() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        asking = asyncio.create_task(client.resolve("models:/wine/1", registry=url))
        await until_children(1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert not registry_children()


def test_a_fetch_that_was_killed_is_repeated_whole(mlflow_server: MlflowServer, tmp_path: Path) -> None:
    (tmp_path / "m.part").mkdir()
    (tmp_path / "m.part" / "MLmodel").write_text("half a mod")
    command = [sys.executable, "-m", "router.registry", "fetch", "models:/wine/1", "--to", str(tmp_path / "m")]
    answers = [
        json.loads(subprocess.run([*command, "--registry", url], capture_output=True, check=True).stdout)
        for url in (mlflow_server.url, "http://127.0.0.1:1")
    ]
    assert answers[0] == answers[1]
    assert (tmp_path / "m" / "MLmodel").read_text().startswith("artifact_path")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """An HTTP server that gives one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def registry_children() -> list[int]:
    """Process ids of our children that ask a registry."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            command = (directory / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"router.registry" in command:
            found.append(int(directory.name))
    return found


async def until_children(count: int) -> None:
    """Returns once there are `count` registry children."""
    async with asyncio.timeout(SOON):
        while len(registry_children()) != count:  # noqa: ASYNC110 - another process's life sets no event here
            await asyncio.sleep(0.01)
