"""A gRPC call as the same request over REST, and the answer back: the front sees one more HTTP request.

So tokens, scopes, rates, limits, deadlines, routing, capture, metrics and the access log are those of `/v2`, in the same code. A
tensor's raw contents are what REST's binary extension carries, and pass through untouched.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.types import ASGIApp, Message

from zebra_assets.contracts.names import NAME, VERSION
from zebra_serving.dataplane import INLINE_BYTES
from zebra_serving.doors.tensors import LENGTH, too_many_texts
from zebra_serving.problems import FieldError, InputInvalid, Malformed, NoSuchPath
from zebra_serving.refusals import MAX_ROWS
from zebra_serving.rpc.messages import CLASSES, CONTENTS

# Said by the transport, or by us.
_NOT_PASSED_ON = ("grpc-", ":", "content-", "host", "te", "transfer-", "x-timeout-ms", "origin", "sec-", "inference-header-")
_encode = msgspec.json.Encoder().encode


@dataclass
class Reply:
    """What the front answered."""

    status: int = 500
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)

    def document(self) -> Any:
        """The JSON of the body, without binary data behind it."""
        head = self.headers.get(LENGTH)
        return msgspec.json.decode(self.body[: int(head)] if head else self.body)


class Gateway:
    """Asks the front.

    Args:
        host: a Host header that the front accepts. Callers of gRPC name none, and no web page can be one.
    """

    def __init__(self, front: ASGIApp, host: str) -> None:
        self._front, self._host = front, host.encode()

    async def get(self, path: str, metadata: Iterable[tuple[str, str | bytes]], remaining_s: float | None, peer: str) -> Reply:
        """The answer to GET ``path``."""
        return await self._ask("GET", path, _headers(metadata, remaining_s), b"", peer)

    async def infer(self, request: Any, metadata: Iterable[tuple[str, str | bytes]], remaining_s: float | None, peer: str) -> Reply:
        """The answer to a `ModelInferRequest`. Raises as `path_of` and `body_of`."""
        head, data = await asyncio.to_thread(body_of, request) if request.ByteSize() > INLINE_BYTES else body_of(request)
        headers = [*_headers(metadata, remaining_s), (LENGTH, str(len(head)).encode())]
        return await self._ask("POST", f"{path_of(request.model_name, request.model_version)}/infer", headers, head + data, peer)

    async def _ask(self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes, peer: str) -> Reply:
        reply = Reply()

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {bytes(name).lower(): bytes(value) for name, value in message["headers"]}
            else:
                reply.body += message.get("body", b"")

        length = [(b"content-length", str(len(body)).encode())] if body else []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "2", "scheme": "http", "method": method, "path": path,
            "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [(b"host", self._host), *length, *headers],
            "client": (peer, 0), "server": None, "state": {},
        }  # fmt: skip
        await self._front(scope, receive, send)
        return reply


def path_of(model: str, version: str) -> str:
    """Where REST has a model. Raises `NoSuchPath` for a name that could lead elsewhere."""
    if not NAME.fullmatch(model) or (version and not VERSION.fullmatch(version)):
        raise NoSuchPath("There is no such model here.", fix="ServerMetadata, or GET /models")
    return f"/v2/models/{model}/versions/{version}" if version else f"/v2/models/{model}"


def body_of(request: Any) -> tuple[bytes, bytes]:
    """A `ModelInferRequest` as JSON, and the binary data behind it.

    Raises:
        Malformed: raw contents of another number than inputs, or beside typed ones.
        InputInvalid: typed contents for a datatype that has none, or text that is no UTF-8.
        TooLarge: more texts than a request may have rows.
    """
    raw = list(request.raw_input_contents)
    if raw and (len(raw) != len(request.inputs) or any(t.HasField("contents") for t in request.inputs)):
        raise Malformed("raw_input_contents needs one entry for each input, and no contents beside them.", fix="use one of the two")
    inputs = []
    for at, tensor in enumerate(request.inputs):
        said = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
        inputs.append(said | ({"parameters": {"binary_data_size": len(raw[at])}} if raw else {"data": _values(tensor)}))
    asked: dict[str, Any] = {"inputs": inputs, "parameters": {"binary_data_output": bool(raw)}}
    if request.id:
        asked["id"] = request.id
    if request.outputs:
        asked["outputs"] = [{"name": output.name} for output in request.outputs]
    return _encode(asked), b"".join(raw)


def answer_of(reply: Reply) -> Any:
    """The `ModelInferResponse` that says what ``reply`` does."""
    said = reply.document()
    answer = CLASSES["ModelInferResponse"](model_name=said["model_name"], model_version=said["model_version"], id=said["id"])
    at = int(reply.headers.get(LENGTH, b"0"))
    for output in said["outputs"]:
        tensor = answer.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
        if (size := (output.get("parameters") or {}).get("binary_data_size")) is not None:
            answer.raw_output_contents.append(bytes(reply.body[at : at + size]))
            at += size
        else:
            values: Sequence[Any] = output["data"]
            texts = output["datatype"] == "BYTES"
            getattr(tensor.contents, CONTENTS[output["datatype"]]).extend([str(v).encode() for v in values] if texts else values)
    return answer


def _values(tensor: Any) -> list[Any]:
    where = CONTENTS.get(tensor.datatype)
    if where is None:
        raise InputInvalid([FieldError(0, tensor.name, f"one of {', '.join(CONTENTS)}", tensor.datatype[:60])])
    if where == "bytes_contents" and len(tensor.contents.bytes_contents) > MAX_ROWS:
        raise too_many_texts(tensor.name)
    values = list(getattr(tensor.contents, where))
    if where == "bytes_contents":
        try:
            return [value.decode() for value in values]
        except UnicodeDecodeError as error:
            raise InputInvalid([FieldError(0, tensor.name, "UTF-8 text", "other bytes")]) from error
    if where.startswith("fp"):  # as everywhere, NaN is a number that is missing
        if any(value in (float("inf"), float("-inf")) for value in values):
            raise InputInvalid([FieldError(0, tensor.name, "a finite number", "infinity")])
        return [None if value != value else value for value in values]
    return values


def _headers(metadata: Iterable[tuple[str, str | bytes]], remaining_s: float | None) -> list[tuple[bytes, bytes]]:
    """A call's metadata as headers, and its deadline as our own header says it."""
    told = [(key.encode(), value.encode()) for key, value in metadata if isinstance(value, str) and not key.startswith(_NOT_PASSED_ON)]
    if remaining_s is not None and remaining_s < 86_400:
        told.append((b"x-timeout-ms", str(max(1, int(remaining_s * 1000))).encode()))
    return told
