"""The Open Inference Protocol v2: `infer`, metadata and health of the one model that is served here.

Rules:
1. `infer` is MLflow's `inputs` in another spelling: each input tensor is a column of that name, or the one
   array; types are cast and refused as there. Refusals repeat nothing of the request.
2. Tensors come and go as JSON or as bytes behind it; bodies may be compressed with gzip or deflate.
3. The model answers to any name: the router has looked it up. A version in the path must be this one.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from router.serving import answers
from router.serving.answers import Answer, Headers
from router.serving.line import Job, Line
from router.serving.pieces import Piece, Reader
from router.serving.request import Request
from router.serving.scoring import Scorer
from router.serving.service import Deliver
from router.serving.tensors import PROTOCOL, TensorError, array_of, bytes_of, outputs_of
from router.serving.tfserving import error, spoken

LARGEST = 256 * 2**20
_HEADER = b"inference-header-content-length"
_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(/ready|/infer)?")
_OK, _BAD, _MISSING, _LARGE = 200, 400, 404, 413
_WORTH_COMPRESSING = 1024
_TYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
}


class Asked(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] = {}


class Tensor(msgspec.Struct):
    """An input."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class Inference(msgspec.Struct):
    """The JSON of a request."""

    inputs: list[Tensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[Asked] = []


class OpenInference:
    """A face of the service (`service.Face`)."""

    def __init__(self, scorer: Scorer, reader: Reader | None, line: Line, version: str) -> None:
        self._scorer = scorer
        self._reader = reader
        self._line = line
        self._version = version
        signature = getattr(scorer.model.metadata, "signature", None)
        self._result = signature.outputs if signature is not None else None
        named = self._result is not None and self._result.has_input_names()
        self._names = [str(name) for name in self._result.input_names()] if self._result and named else []

    def handle(self, request: Request, deliver: Deliver) -> Job | None:
        """See `service.Face`."""
        found = _PATH.fullmatch(request.path)
        if found and found[2] not in (None, self._version):
            deliver(error(_MISSING, "This version is not served here."))
        elif found and found[3] == "/infer":
            return self._infer(request, found[1], deliver)
        elif request.method != b"GET":
            deliver(answers.NOT_ALLOWED)
        elif request.path in ("/v2/health/live", "/v2/health/ready") or (found and found[3] == "/ready"):
            deliver(Answer(_OK, b"", answers.JSON))
        elif request.path in ("/v2", "/v2/"):
            told = {"name": "canary-router", "version": "2", "extensions": ["binary_tensor_data"]}
            deliver(Answer(_OK, json.dumps(told).encode(), answers.JSON))
        else:
            deliver(self._metadata(found[1]) if found else answers.NOT_FOUND)
        return None

    def _metadata(self, model: str) -> Answer:
        told = {
            "name": model,
            "versions": [self._version],
            "platform": "mlflow_pyfunc",
            "inputs": _described(self._scorer.schema, "inputs"),
            "outputs": _described(self._result, "predictions"),
        }
        return Answer(_OK, json.dumps(told).encode(), answers.JSON)

    def _infer(self, request: Request, model: str, deliver: Deliver) -> Job | None:
        if request.method != b"POST":
            deliver(answers.NOT_ALLOWED)
            return None
        try:
            asked, tensors = read(request)
        except TensorError as fault:
            deliver(error(_LARGE if "too large" in str(fault) else _BAD, str(fault)))
            return None
        write = self._writer(asked, model, request.headers.get(b"accept-encoding", b"").lower())
        piece = self._piece(tensors)
        if piece is None:
            job = Job(deliver, whole=lambda: spoken_unless_written(self._whole(tensors, write)))
        else:
            job = Job(lambda answer: deliver(spoken_unless_written(answer)), piece, write)
        self._line.put(job)
        return job

    def _piece(self, tensors: Mapping[str, Any]) -> Piece | None:
        """The rows, where they need neither casting nor enforcement."""
        return self._reader.of_tensors(tensors) if self._reader is not None else None

    def _whole(self, tensors: dict[str, Any], write: Callable[[Any], Answer]) -> Answer:
        from mlflow.utils.proto_json_utils import parse_tf_serving_input

        schema = self._scorer.schema
        named = len(tensors) > 1 or (schema is not None and schema.has_input_names())
        column = schema is not None and not schema.is_tensor_spec()
        inputs = {name: _as_column(array) if column else _typed(array) for name, array in tensors.items()}
        given: Any = inputs if named else next(iter(tensors.values())).tolist()
        try:
            raw = self._scorer.predict(parse_tf_serving_input({"inputs": given}, schema), None)
        except Exception as fault:  # noqa: BLE001 - MLflow refuses, or the model raises anything
            return self._scorer.failed(fault)
        try:
            return write(raw)
        except Exception as fault:  # noqa: BLE001 - a model may return anything
            return self._scorer.failed(fault, returned=True)

    def _writer(self, asked: Inference, model: str, encodings: bytes) -> Callable[[Any], Answer]:
        def write(raw: Any) -> Answer:
            outputs = outputs_of(raw, self._names)
            if missing := [one.name for one in asked.outputs if one.name not in outputs]:
                return error(_BAD, f"There are no outputs {missing}; there are {sorted(outputs)}.")
            head = {"model_name": model, "model_version": self._version, **({"id": asked.id} if asked.id else {})}
            return compressed(_written(head, outputs, asked), encodings)

        return write


def spoken_unless_written(answer: Answer) -> Answer:
    """MLflow's form of an error in the protocol's; what is in it already stays."""
    return answer if answer.body.startswith(b'{"error": ') else spoken(answer)


def _as_column(array: Any) -> Any:
    """`array` as MLflow takes a column, which is no matrix of one column."""
    rows = array.shape[0]
    return _typed(array.reshape(-1) if array.shape == (rows, 1) else array)


def _typed(array: Any) -> Any:
    """Text in the type that MLflow makes of it."""
    return array.astype(str) if array.dtype == object else array


def _described(schema: Any, nameless: str) -> list[dict[str, Any]]:
    """The tensors of a signature."""
    if schema is None:
        return []
    tensors = schema.is_tensor_spec()
    return [
        {
            "name": str(spec.name or (nameless if len(schema.inputs) == 1 else f"{nameless}-{number}")),
            "datatype": PROTOCOL.get(str(spec.type), "BYTES")
            if tensors
            else _TYPES.get(getattr(spec.type, "name", ""), "BYTES"),
            "shape": list(spec.shape) if tensors else [-1],
        }
        for number, spec in enumerate(schema.inputs)
    ]


def read(request: Request) -> tuple[Inference, dict[str, Any]]:
    """The request and its tensors by name.

    Raises:
        TensorError: it is not a well-formed inference request.
    """
    body = _inflated(request.body, request.headers.get(b"content-encoding", b"").lower())
    head, binary = body, b""
    if _HEADER in request.headers:
        length = request.headers[_HEADER]
        if not length.isdigit() or int(length) > len(body):
            raise TensorError("Inference-Header-Content-Length does not fit the body")
        head, binary = body[: int(length)], body[int(length) :]
    try:
        asked = msgspec.json.decode(head, type=Inference)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
        raise TensorError("The body is not a JSON inference request.") from fault
    if not asked.inputs or len({one.name for one in asked.inputs}) < len(asked.inputs):
        raise TensorError("A request needs inputs, each with a name of its own.")
    return asked, _tensors(asked, binary)


def _tensors(asked: Inference, binary: bytes) -> dict[str, Any]:
    tensors, at = {}, 0
    for number, one in enumerate(asked.inputs, 1):
        size = one.parameters.get("binary_data_size")
        if not one.shape or any(length < 0 for length in one.shape):
            raise TensorError("An input needs a shape, of lengths that are not negative.")
        data: list[Any] | bytes | None = one.data
        if isinstance(size, int) and 0 <= size <= len(binary) - at and data is None:
            data, at = binary[at : at + size], at + size
        elif size is not None or data is None:
            raise TensorError("An input needs either data, or a binary_data_size that the body holds.")
        tensors[one.name] = array_of(str(number), one.datatype, one.shape, data)
    if at != len(binary):
        raise TensorError("The body is longer than its inputs.")
    return tensors


def _inflated(body: bytes, encoding: bytes) -> bytes:
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"deflate"):
        raise TensorError("The content encoding is neither gzip nor deflate.")
    # 32: gzip or zlib, told apart by their heads.
    inflater = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    try:
        whole = inflater.decompress(body, LARGEST)
    except zlib.error as fault:
        raise TensorError("The body is not what its content encoding says.") from fault
    if inflater.unconsumed_tail:
        raise TensorError("The body is too large when it is inflated.")
    if not inflater.eof:
        raise TensorError("The body is not what its content encoding says.")
    return whole


def _written(head: dict[str, str], outputs: Mapping[str, Any], asked: Inference) -> Answer:
    wanted = {one.name: one.parameters.get("binary_data") for one in asked.outputs} or dict.fromkeys(outputs)
    in_general = asked.parameters.get("binary_data_output") is True
    told, blobs = [], []
    for name, binary in wanted.items():
        array = outputs[name]
        one: dict[str, Any] = {
            "name": name,
            "shape": list(array.shape),
            "datatype": PROTOCOL.get(str(array.dtype), "BYTES"),
        }
        if binary is True or (binary is None and in_general):
            blobs.append(bytes_of(array))
            one["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            one["data"] = array.ravel().tolist()
        told.append(one)
    text = json.dumps({**head, "outputs": told}).encode()
    if not blobs:
        return Answer(_OK, text, answers.JSON)
    length: Headers = (("inference-header-content-length", str(len(text))),)
    return Answer(_OK, b"".join([text, *blobs]), "application/octet-stream", length)


def compressed(answer: Answer, encodings: bytes) -> Answer:
    """`answer`, compressed where the client takes that and it is worth it."""
    if len(answer.body) < _WORTH_COMPRESSING:
        return answer
    name = "gzip" if b"gzip" in encodings else "deflate" if b"deflate" in encodings else ""
    if not name:
        return answer
    body = gzip.compress(answer.body, 1, mtime=0) if name == "gzip" else zlib.compress(answer.body, 1)
    return answer._replace(body=body, headers=(*answer.headers, ("content-encoding", name)))
