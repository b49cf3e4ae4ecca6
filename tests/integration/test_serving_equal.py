"""Our pyfunc server beside MLflow's: every kind of request to every kind of model, and the same answers.

Rules:
1. A prediction has the same bytes.
2. A refusal has the same status and error code. Deliberate differences are listed in `deliberate`, and in
   docs/serving.md.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import free_port
from tests.support.wait import eventually

MARK = "s3cret"
"""A value in requests that no answer of ours may repeat."""

MODELS = (
    *("linear", "proba", "tree", "hinted", "moody", "echo_bare", "echo_doubles", "echo_kinds", "echo_dated"),
    *("echo_binary", "echo_single", "echo_unnamed", "echo_tensor", "echo_matrix", "echo_tensors", "echo_params"),
)
FOUR_COLUMNS = ("linear", "proba", "tree", "echo_doubles", "echo_params")
SAME_INPUT = ("linear", "proba", "tree", "moody", "hinted", "echo_binary")
"""Models whose input is parsed as that of another model here; they differ in what they answer."""
ROW = {"a": 5.1, "b": 3.5, "c": 1.4, "d": 0.2}
KINDS = {"double": 0.5, "float": 0.1, "long": 3, "integer": -4, "boolean": True, "string": "é"}


def split(columns: list[str], *rows: list[object], **more: object) -> dict[str, object]:
    """A body in `dataframe_split`."""
    return {"dataframe_split": {"columns": columns, "data": rows, **more}}


def every_form(row: Mapping[str, object], other: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Two rows in every JSON form there is."""
    columns = {name: [row[name], other[name]] for name in row}
    yield split(list(row), list(row.values()), [other[name] for name in row])
    yield {"dataframe_records": [row, other]}
    for key in ("inputs", "instances"):
        yield {key: [row, other]}
        yield {key: columns}
        yield {key: row}
        yield {key: [list(row.values()), [other[name] for name in row]]}


def doubles() -> Iterator[object]:
    """Rows of four columns, well and badly formed."""
    for other in (
        {"a": 6, "b": 3, "c": 4, "d": 1},
        ROW | {"d": None},
        ROW | {"b": "3.5"},
        ROW | {"b": MARK},
        ROW | {"b": True},
        ROW | {"c": 2**53 + 1},
        ROW | {"c": 10**30},
        ROW | {"c": 1e300},
        ROW | {"a": [1.0]},
        ROW | {"a": {"x": 1}},
        ROW | {"a": -0.0},
        ROW,
    ):
        yield from every_form(ROW, other)
        yield from every_form(other, other)
    yield split(["d", "c", "b", "a"], [1, 2, 3, 4])
    yield split(["a", "b", "c", "d", "e"], [1, 2, 3, 4, 5])
    yield split(["a", "b", "c"], [1, 2, 3])
    yield split(["a", "a", "c", "d"], [1, 2, 3, 4])
    yield split(list("abcd"), [1, 2, 3, 4], index=[7])
    yield split(list("abcd"), [1, 2, 3, 4], index=[7, 8])
    yield split(list("abcd"), [1, 2, 3])
    yield split(list("abcd"), [1, 2, 3, 4], more=1)
    yield split(list("abcd"))
    yield {"dataframe_split": {"data": [[1, 2, 3, 4]]}}
    yield {"dataframe_split": {"columns": list("abcd")}}
    yield {"dataframe_split": [ROW]}
    yield {"dataframe_records": ROW}
    yield {"dataframe_records": []}
    yield {"dataframe_records": [ROW, {"a": 1}]}
    yield {"dataframe_records": [ROW, ROW | {"e": 1}]}
    yield {"inputs": [ROW, {"a": 1.0}]}
    yield {"inputs": {name: [1.0] for name in "dcba"}}
    yield {"inputs": {name: [1.0] for name in "abcde"}}
    yield {"inputs": {"a": [1.0, 2.0], "b": [1.0], "c": [1.0], "d": [1.0]}}
    yield {"instances": {"a": [1.0, 2.0], "b": [1.0], "c": [1.0], "d": [1.0]}}
    yield {"inputs": {name: [[1.0]] for name in "abcd"}}
    yield {"inputs": dict.fromkeys("abcd", 1.0)}
    yield {"inputs": [ROW], "extra": MARK}
    yield {"inputs": [ROW], "instances": [ROW]}
    yield {"instances": [ROW], "signature_name": "serving_default"}
    for params in ({}, None, {"scale": 2}, {"scale": 2.5, "labels": ["y", "z"]}, {"scale": MARK}, {"other": 1}, [1], 3):
        yield {"inputs": [ROW], "params": params}
        yield {**split(list("abcd"), [1, 2, 3, 4]), "params": params}


def others() -> Iterator[object]:
    """Rows of other kinds of columns, tensors, single values."""
    for other in (
        KINDS,
        KINDS | {"float": 1e39},
        KINDS | {"float": 7},
        KINDS | {"long": 2.0},
        KINDS | {"long": 2.5},
        KINDS | {"long": 2**63},
        KINDS | {"long": None},
        KINDS | {"integer": 2**31},
        KINDS | {"boolean": 1},
        KINDS | {"boolean": None},
        KINDS | {"string": None},
        KINDS | {"string": 7},
        KINDS | {"string": "\ud83d\ude00"},
    ):
        yield from every_form(KINDS, other)
        yield from every_form(other, other)
    for at in ("2024-01-02", "2024-01-02T03:04:05.123456789", "2024-01-02T03:04:05+02:00", 17, None, MARK):
        yield from every_form({"at": at, "x": 1.5}, {"at": at, "x": None})
        yield from every_form({"at": at}, {"at": at})
    for blob in ("aGVsbG8=", "é", None, 7):
        yield from every_form({"blob": blob}, {"blob": blob})
    for text in ("a", None, 3, ["a"], MARK):
        yield from every_form({"text": text}, {"text": text})
    value: object
    for key in ("inputs", "instances"):
        for value in (
            *([], [[]], 3, 1.5, "text", None, True, {}, [1, 2], ["a", "b"], [[1, 2], [3, 4]], [[1, 2], [3]]),
            *([[1.5, 2], [3, 4]], [[[1, 2], [3, 4]]], [[[1.5, 2], [3, None]]], [[[1, 2, 3], [4, 5, 6]]], [True, False]),
            *([[1, 2, 3, 4]], [[1.5, 2, 3, 4], [1, 2, 3, 4]], [["a", "b", "c", "d"]], [[1, "2", 3, 4]], [[None] * 4]),
            *({"left": [[1, 2], [3, 4]], "right": [1, 2]}, {"left": [[1, 2]], "right": [[1]]}, {"left": [[1, 2]]}),
            *([{"left": [1, 2], "right": 3}], [{"left": [1.5, 2], "right": 3.5}, {"left": [1, 2], "right": 3}]),
        ):
            yield {key: value}
    yield {"messages": [{"role": "user", "content": "hi"}]}
    yield {"prompt": "hi", "scale": 2.0}
    yield {"input": ["hi"]}
    yield from ({}, [], [1], "x", 3, None, {"data": [[1]]}, {"params": {}})


def moods() -> Iterator[object]:
    """What `moody` is asked for."""
    for how in (
        *("raises", "refuses", "object", "nan", "frame", "series", "nameless", "dates", "floats", "strings", "scalar"),
        *("dictionary", "bytes", "none", "few", "twice"),
    ):
        yield {"inputs": [{"how": how}, {"how": how}]}


def raw() -> Iterator[tuple[str, bytes]]:
    """Bodies that are not plain JSON."""
    yield "application/json; charset=UTF-8", b'{"inputs": [[1.5, 2, 3, 4]]}'
    for body in (b"", b"{", b"\xff", b'{"inputs": [[NaN, Infinity, 3, 4]]}', b'\xef\xbb\xbf{"inputs": [[1, 2, 3, 4]]}'):
        yield "application/json", body
    for body in (
        b'{"inputs": [{"a": 1, "a": 2.5, "b": -0, "c": 1e400, "d": 1E2}]}',
        b'{"inputs": [{"a": -0, "b": -0, "c": -0, "d": -0}]}',
        b'{"inputs": [{"a": 1, "b": 2, "c": 3, "d": 4}], "inputs": [{"a": 5, "b": 2, "c": 3, "d": 4}]}',
        b'{"dataframe_split": {"columns": ["a","b","c","d"], "columns": ["d","c","b","a"], "data": [[1,2,3,4]]}}',
        b'{"inputs": [{"text": "\\ud800"}]}',
        '{"inputs": [[1.5, 2, 3, 4]]}'.encode("utf-16"),
        b'{"inputs": [' + MARK.encode() + b"]}",
    ):
        yield "application/json", body
    for kind in ("application/xml", "", "application/json; profile=x", "application/json; charset=latin-1"):
        yield kind, b"{}"
    for csv in (
        b"a,b,c,d\n5.1,3.5,1.4,0.2\n6,3,4,1\n",
        b"d,c,b,a\n1,2,3,4\n",
        b"a,b,c,d\n5.1,,1.4,0.2\n",
        b"a,b,c,d\n5.1,s3cret,1.4,0.2\n",
        b"a,b\n1,2\n",
        b"",
        b'a,b\n"1,2',
        b"\xff",
        "text\né\n".encode(),
        b"at,x\n2024-01-02,1.5\n",
    ):
        yield "text/csv", csv
    yield "application/vnd.apache.parquet", b"not parquet"


def parquet() -> bytes:
    """Four columns, two rows."""
    import pandas as pd

    buffer = io.BytesIO()
    pd.DataFrame([ROW, ROW]).to_parquet(buffer)
    return buffer.getvalue()


def client_of(root: Path, model: str, side: str) -> httpx.Client:
    """A client of one side."""
    transport = httpx.HTTPTransport(uds=str(root / f"{model}.{side}"))
    return httpx.Client(transport=transport, base_url="http://model", timeout=30)


def bodies(model: str) -> Iterator[tuple[str, bytes]]:
    """What is sent to `model`."""
    # What a model is not made for is refused early in the same few places: a part of it is enough.
    fitting, foreign = (doubles, others) if model in FOUR_COLUMNS else (others, doubles)
    forms = [*fitting(), *([*foreign()][::9]), *(moods() if model == "moody" else [])]
    if model in SAME_INPUT:
        forms = forms[::5]
    for form in forms:
        yield "application/json", json.dumps(form).encode()
    yield from raw()
    yield "application/vnd.apache.parquet", parquet()


def code_of(answer: httpx.Response) -> object:
    """The error code of a refusal."""
    return answer.json()["error_code"] if answer.headers["content-type"] == "application/json" else ""


def deliberate(theirs: httpx.Response) -> tuple[int, object] | None:
    """Status and code that ours has where MLflow's differs on purpose."""
    if theirs.status_code == 500:
        return 500, "INTERNAL_ERROR"
    if "unexpected error while evaluating the model" in theirs.text:
        return 500, "INTERNAL_ERROR"
    return None


def compared(ours: httpx.Response, theirs: httpx.Response) -> str:
    """What differs between the two; nothing where they agree."""
    if MARK in ours.text and ours.status_code != 200:
        return "the request is repeated"
    if "stack_trace" in ours.text:
        return "a stack trace"
    if theirs.status_code == 200:
        same = (ours.status_code, ours.text) == (200, theirs.text)
        return "" if same else "another prediction"
    expected = deliberate(theirs) or (theirs.status_code, code_of(theirs))
    return "" if (ours.status_code, code_of(ours)) == expected else f"not {expected}"


@pytest.mark.parametrize("model", MODELS)
def test_the_same_answers(serving_peers: Path, model: str) -> None:
    different, predicted = [], 0
    with client_of(serving_peers, model, "ours") as ours, client_of(serving_peers, model, "theirs") as theirs:
        for kind, body in bodies(model):
            left, right = (
                side.post("/invocations", content=body, headers={"content-type": kind}) for side in (ours, theirs)
            )
            predicted += right.status_code == 200
            if fault := compared(left, right):
                different.append(
                    (fault, kind, body, left.status_code, left.text[:300], right.status_code, right.text[:900])
                )
    assert not different, "\n".join(map(str, different[:5])) + f"\n{len(different)} differences"
    assert predicted > 3


def test_beside_the_real_command(serving_models: Path, serving_peers: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(serving_models / "linear")]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with (tmp_path / "log").open("wb") as log:
        # A session of its own: the command starts uvicorn behind a shell, and all of them have to end.
        process = subprocess.Popen(
            command, env=os.environ | {"PATH": path}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as theirs:
            eventually(lambda: answers(theirs), 60, "mlflow models serve answers")
            with client_of(serving_peers, "linear", "ours") as ours:
                for form in (*every_form(ROW, ROW), {"inputs": [ROW | {"a": MARK}]}, {}):
                    left, right = (side.post("/invocations", json=form) for side in (ours, theirs))
                    assert compared(left, right) == "", form
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def answers(client: httpx.Client) -> bool:
    """Whether the server behind `client` is there."""
    try:
        return client.get("/ping").status_code == 200
    except httpx.TransportError:
        return False
