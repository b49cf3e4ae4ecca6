"""How a loaded version is to be served, from a config's text to what its process is told."""

from __future__ import annotations

import pytest

from router.config.load import load_model
from router.config.serving import AS_USUAL, Serving

HEAD = "model: fraud\nstable: v1\nversions:\n  v1:\n    model_uri: models:/fraud/1\n"


def serving(text: str) -> Serving:
    """What v1 with the lines `text` asks for."""
    config, problems = load_model("fraud", (HEAD + text).encode(), file="f.yaml", regions=None)
    assert config is not None, problems
    return config.versions["v1"].serving


def problem(text: str) -> str:
    """The one problem of v1 with the lines `text`."""
    config, problems = load_model("fraud", (HEAD + text).encode(), file="f.yaml", regions=None)
    assert config is None
    (only,) = problems
    return str(only)


def test_nothing_is_on_that_was_not_asked_for() -> None:
    assert serving("") == AS_USUAL == Serving(max_rows=1, max_delay=0, processes=1, isolated=False, memory=0)
    assert AS_USUAL.key_for("196b1f7896fa") == "196b1f7896fa"


def test_everything_that_can_be_asked_for() -> None:
    asked = serving(
        "    batching: {max_rows: 32, max_delay: 5ms}\n    processes: 4\n    memory: 1GiB\n    environment: isolated\n"
    )
    assert asked == Serving(max_rows=32, max_delay=0.005, processes=4, isolated=True, memory=2**30)


def test_batching_has_defaults() -> None:
    assert serving("    batching: {}\n") == Serving(max_rows=64)


def test_each_way_to_serve_has_its_own_key() -> None:
    ways = [Serving(max_rows=64), Serving(max_rows=32), Serving(processes=2), Serving(isolated=True), AS_USUAL]
    keys = {way.key_for("196b1f7896fa") for way in ways}
    assert len(keys) == len(ways)
    assert {len(key) for key in keys} == {12}
    assert Serving(max_rows=64).key_for("a" * 12) == Serving(max_rows=64).key_for("a" * 12)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("    batching: {max_rows: 0}\n", "versions.v1.batching.max_rows: '0' is not a whole number"),
        ("    batching: {max_rows: 70000}\n", "versions.v1.batching.max_rows: must be from 1 to 65536"),
        ("    batching: {max_delay: 2s}\n", "versions.v1.batching.max_delay: is more than 1s"),
        ("    batching: {rows: 3}\n", "max_rows"),
        ("    processes: 65\n", "versions.v1.processes: must be from 1 to 64"),
        ("    memory: 1MiB\n", "versions.v1.memory: is less than 16MiB"),
        ("    environment: conda\n", "versions.v1.environment: must be current or isolated, not 'conda'"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    assert says in problem(text)


@pytest.mark.parametrize("line", ["batching: {max_rows: 2}", "processes: 2", "memory: 1GiB", "environment: isolated"])
def test_servers_that_run_already_serve_as_they_do(line: str) -> None:
    text = f"model: m\nstable: v1\nversions:\n  v1:\n    upstreams: [http://a:1]\n    {line}\n"
    _, problems = load_model("m", text.encode(), file="f.yaml", regions=None)
    (only,) = problems
    key = line.partition(":")[0]
    assert f"versions.v1.{key}: is for a model_uri, and this version has upstreams" in str(only)
