"""The other protocols of a served model: Open Inference Protocol v2 and TensorFlow Serving's, over a real socket."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

NAMES = "abcd"
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.3, 2.9, 5.6, 1.8]]
COLUMNS = [list(column) for column in zip(*ROWS, strict=True)]
LENGTH = "inference-header-content-length"


def client_of(root: Path, model: str) -> httpx.Client:
    """A client of our server for `model`."""
    transport = httpx.HTTPTransport(uds=str(root / f"{model}.ours"))
    return httpx.Client(transport=transport, base_url="http://model", timeout=30)


def tensor(name: str, kind: str, data: list[Any], shape: list[int] | None = None, **more: Any) -> dict[str, Any]:
    """One input as JSON."""
    return {"name": name, "datatype": kind, "shape": shape or [len(data)], "data": data, **more}


def four(kind: str = "FP64") -> list[dict[str, Any]]:
    """The rows as one input per column."""
    return [tensor(name, kind, column) for name, column in zip(NAMES, COLUMNS, strict=True)]


def binary(inputs: list[tuple[str, str, list[int], bytes]], **more: Any) -> tuple[bytes, int]:
    """A request whose data are bytes, and the length of its JSON."""
    told = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, kind, shape, data in inputs
    ]
    head = json.dumps({"inputs": told, **more}).encode()
    return head + b"".join(data for *_, data in inputs), len(head)


def texts(*words: str) -> bytes:
    """Text as the protocol has it in bytes."""
    return b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in words)


def infer(root: Path, model: str, body: Any, **headers: str) -> httpx.Response:
    """One inference; `body` is JSON, or bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with client_of(root, model) as client:
        return client.post(
            f"/v2/models/{model}/infer", content=content, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


def expected(root: Path, model: str, inputs: Any) -> list[Any]:
    """The predictions of MLflow's protocol."""
    with client_of(root, model) as client:
        answer = client.post("/invocations", json={"inputs": inputs})
        assert answer.status_code == 200, answer.text
        predictions: list[Any] = answer.json()["predictions"]
        return predictions


RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]


@pytest.mark.parametrize("kind", ["FP64", "FP32"])
def test_each_column_is_a_tensor(serving_peers: Path, kind: str) -> None:
    answer = infer(serving_peers, "linear", {"id": "7", "inputs": four(kind)})
    told = answer.json()
    assert (told["model_name"], told["model_version"], told["id"]) == ("linear", "1", "7")
    assert told["outputs"] == [
        {"name": "predictions", "shape": [2], "datatype": "INT64", "data": expected(serving_peers, "linear", RECORDS)}
    ]


def test_a_matrix_comes_back_with_its_shape_in_json_and_in_bytes(serving_peers: Path) -> None:
    right = expected(serving_peers, "proba", RECORDS)
    told = infer(serving_peers, "proba", {"inputs": four()}).json()["outputs"][0]
    assert (told["shape"], told["datatype"], told["data"]) == ([2, 3], "FP64", [x for row in right for x in row])
    answer = infer(serving_peers, "proba", {"inputs": four(), "parameters": {"binary_data_output": True}})
    length = int(answer.headers[LENGTH])
    output = json.loads(answer.content[:length])["outputs"][0]
    assert output["parameters"] == {"binary_data_size": 48}
    assert struct.unpack("<6d", answer.content[length:]) == tuple(x for row in right for x in row)
    assert answer.headers["content-type"] == "application/octet-stream"


def test_bytes_in_every_type(serving_peers: Path) -> None:
    inputs = [
        ("double", "FP64", [2], struct.pack("<2d", 0.5, -1.5)),
        ("float", "FP32", [2, 1], struct.pack("<2f", 0.25, 2)),
        ("long", "INT64", [2], struct.pack("<2q", 3, -(2**40))),
        ("integer", "INT32", [2], struct.pack("<2i", -4, 5)),
        ("boolean", "BOOL", [2], b"\x01\x00"),
        ("string", "BYTES", [2], texts("é", "x")),
    ]
    body, length = binary(inputs)
    answer = infer(serving_peers, "echo_kinds", body, **{LENGTH: str(length)})
    columns = {
        "double": [0.5, -1.5],
        "float": [0.25, 2],
        "long": [3, -(2**40)],
        "integer": [-4, 5],
        "boolean": [True, False],
        "string": ["é", "x"],
    }
    output = answer.json()["outputs"][0]
    assert (output["datatype"], output["data"]) == ("BYTES", expected(serving_peers, "echo_kinds", columns))
    asked = {"outputs": [{"name": "predictions", "parameters": {"binary_data": True}}]}
    body, length = binary(inputs, **asked)
    answer = infer(serving_peers, "echo_kinds", body, **{LENGTH: str(length)})
    assert answer.content[int(answer.headers[LENGTH]) :] == texts(*output["data"])


def test_arrays_with_and_without_a_signature(serving_peers: Path) -> None:
    flat = [value for row in ROWS for value in row]
    for model, kind, data in (
        ("echo_matrix", "FP64", flat),
        ("echo_bare", "FP64", flat),
        ("echo_bare", "INT64", [1] * 8),
    ):
        rows = [data[:4], data[4:]]
        for given in (data, rows):
            told = infer(serving_peers, model, {"inputs": [tensor("any", kind, given, [2, 4])]}).json()
            assert told["outputs"][0]["data"] == expected(serving_peers, model, rows), (model, kind)
    left, right = [[1.5, 2.0], [3.0, 4.0]], [1, 2]
    told = infer(
        serving_peers,
        "echo_tensors",
        {"inputs": [tensor("left", "FP32", left, [2, 2]), tensor("right", "INT64", right)]},
    )
    assert told.json()["outputs"][0]["data"] == expected(serving_peers, "echo_tensors", {"left": left, "right": right})


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_bodies_may_be_compressed_both_ways(serving_peers: Path, encoding: str) -> None:
    many = [tensor(name, "FP64", column * 200) for name, column in zip(NAMES, COLUMNS, strict=True)]
    plain = json.dumps({"inputs": many}).encode()
    squeezed = gzip.compress(plain) if encoding == "gzip" else zlib.compress(plain)
    answer = infer(serving_peers, "linear", squeezed, content_encoding=encoding, accept_encoding=encoding)
    assert answer.headers["content-encoding"] == encoding
    assert len(answer.json()["outputs"][0]["data"]) == 400


def wrong() -> Iterator[tuple[str, Any, dict[str, str]]]:
    """Requests that are refused; the mark in them comes back in none."""
    yield "no JSON", b"{", {}
    yield "no inputs", {"inputs": []}, {}
    yield "twice", {"inputs": [*four(), *four()]}, {}
    yield "missing column", {"inputs": four()[:3]}, {}
    yield "unknown type", {"inputs": [tensor("a", "FP8", [1])]}, {}
    yield "shape", {"inputs": [tensor("a", "FP64", [1.0], [2])]}, {}
    yield "negative shape", {"inputs": [tensor("a", "FP64", [1.0], [-1])]}, {}
    yield "no shape", {"inputs": [tensor("a", "FP64", [1.0]) | {"shape": []}]}, {}
    yield "not numbers", {"inputs": [tensor("a", "FP64", ["s3cret"])]}, {}
    yield "not text", {"inputs": [tensor("a", "BYTES", [1])]}, {}
    yield "out of range", {"inputs": [tensor("a", "INT8", [1000])]}, {}
    yield "fraction", {"inputs": [tensor("a", "INT8", [1.5])]}, {}
    yield "no data", {"inputs": [{"name": "a", "datatype": "FP64", "shape": [1]}]}, {}
    yield "text in a number's column", {"inputs": [*four()[:3], tensor("d", "BYTES", ["s3cret"] * 2)]}, {}
    yield "no such output", {"inputs": four(), "outputs": [{"name": "other"}]}, {}
    yield "not gzip", b"s3cret", {"content_encoding": "gzip"}
    yield "cut gzip", gzip.compress(b"{}")[:-4], {"content_encoding": "gzip"}
    yield "unknown encoding", b"{}", {"content_encoding": "br"}
    yield "header length", b"{}", {LENGTH: "7"}
    body, length = binary([("a", "FP64", [1], b"s3cret")])
    yield "odd bytes", body, {LENGTH: str(length)}
    yield "bytes missing", body[:-1], {LENGTH: str(length)}
    yield "bytes left", body + b"!", {LENGTH: str(length)}
    body, length = binary([("a", "BYTES", [1], b"\xff\xff\xff\x7fs3cret")])
    yield "text cut short", body, {LENGTH: str(length)}


@pytest.mark.parametrize(("body", "headers"), [pytest.param(body, headers, id=name) for name, body, headers in wrong()])
def test_a_clients_mistake_is_400_and_repeats_nothing(serving_peers: Path, body: Any, headers: dict[str, str]) -> None:
    answer = infer(serving_peers, "linear", body, **headers)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert "s3cret" not in answer.text


@pytest.mark.parametrize("how", ["raises", "object"])
def test_a_models_failure_is_500(serving_peers: Path, how: str) -> None:
    assert infer(serving_peers, "moody", {"inputs": [tensor("how", "BYTES", [how])]}).status_code == 500
    with client_of(serving_peers, "moody") as client:
        answer = client.post("/v1/models/moody:predict", json={"instances": [{"how": how}]})
    assert answer.status_code == 500
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize(
    ("how", "outputs"),
    [
        ("frame", [("a", "INT64", [1, 2]), ("b", "BYTES", ["x", "NaN"]), ("c", "FP64", [0.5, None])]),
        ("series", [("score", "FP64", [1.5, 2.5])]),
        ("nameless", [("predictions", "BOOL", [True, False])]),
        ("floats", [("predictions", "FP32", [0.10000000149011612, 0.20000000298023224])]),
        ("strings", [("predictions", "BYTES", ["é", "b"])]),
        ("scalar", [("predictions", "FP64", [1.5])]),
        ("dictionary", [("x", "INT64", [0, 1, 2]), ("when", "BYTES", ["2024-01-02"])]),
    ],
)
def test_whatever_a_model_returns_becomes_tensors(serving_peers: Path, how: str, outputs: list[Any]) -> None:
    told = infer(serving_peers, "moody", {"inputs": [tensor("how", "BYTES", [how])]}).json()["outputs"]
    found = [(one["name"], one["datatype"], [None if x != x else x for x in one["data"]]) for one in told]
    assert found == outputs


def test_metadata_and_readiness(serving_peers: Path) -> None:
    with client_of(serving_peers, "echo_kinds") as client:
        told = client.get("/v2/models/any").json()
        for path in ("/v2/models/any/ready", "/v2/models/any/versions/1/ready", "/v2/health/ready", "/v2/health/live"):
            assert client.get(path).status_code == 200
        assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
        for path in ("/v2/models/any/versions/2", "/v2/models/any/versions/2/infer", "/v2/else", "/v1/models/any"):
            assert client.get(path).status_code == 404
        assert client.post("/v2/models/any/ready").status_code == 405
        assert client.get("/v2/models/any/infer").status_code == 405
        assert client.get("/v1/models/any:predict").status_code == 405
    assert (told["name"], told["versions"], told["platform"]) == ("any", ["1"], "mlflow_pyfunc")
    kinds = {one["name"]: (one["datatype"], one["shape"]) for one in told["inputs"]}
    assert kinds == {
        "double": ("FP64", [-1]),
        "float": ("FP32", [-1]),
        "long": ("INT64", [-1]),
        "integer": ("INT32", [-1]),
        "boolean": ("BOOL", [-1]),
        "string": ("BYTES", [-1]),
    }
    with client_of(serving_peers, "echo_matrix") as client:
        assert client.get("/v2/models/m").json()["inputs"] == [{"name": "inputs", "datatype": "FP64", "shape": [-1, 4]}]
    with client_of(serving_peers, "echo_bare") as client:
        assert client.get("/v2/models/m").json()["inputs"] == []


@pytest.mark.parametrize("more", [{}, {"signature_name": "serving_default"}, {"signature_name": ""}])
def test_predict_answers_rows_with_predictions_and_columns_with_outputs(
    serving_peers: Path, more: dict[str, str]
) -> None:
    right = expected(serving_peers, "linear", RECORDS)
    by_column = dict(zip(NAMES, COLUMNS, strict=True))
    with client_of(serving_peers, "linear") as client:
        answers = [
            client.post("/v1/models/any:predict", json={key: value, **more})
            for key in ("instances", "inputs")
            for value in (RECORDS, by_column)
        ]
    assert [answer.json() for answer in answers] == [{"predictions": right}] * 2 + [{"outputs": right}] * 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"instances": RECORDS, "inputs": RECORDS},
        {"instances": [{"a": "s3cret"}]},
        {"dataframe_records": RECORDS},
        {"instances": RECORDS, "signature_name": "s3cret"},
    ],
)
def test_what_predict_refuses(serving_peers: Path, body: Any) -> None:
    with client_of(serving_peers, "linear") as client:
        answer = client.post("/v1/models/linear:predict", json=body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert "s3cret" not in answer.text
