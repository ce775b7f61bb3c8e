"""The Open Inference Protocol V2 over REST, as KServe, Triton and MLServer speak it; JSON tensors, or binary ones.

Inputs: one tensor per column, named like it, of shape [n] or [n, 1]; or a single tensor [n, columns] where all columns are numbers.
Outputs: `predict`, and `score` (probability of the positive class) for a binary task.
"""

from itertools import chain
from typing import Any, ClassVar

import msgspec
from starlette.types import Receive, Scope, Send

from zebra_assets.contracts.model_folder import ModelFeature
from zebra_serving.answer import Answer
from zebra_serving.dataplane import DataPlane
from zebra_serving.doors.tensors import LENGTH, Asked, Inference, Tensor, inference, packed
from zebra_serving.doors.wire import expect_get, patience, posted_by_program, posted_json, send_json
from zebra_serving.fleet import Fleet
from zebra_serving.problems import FieldError, InputInvalid, NoSuchPath
from zebra_serving.refusals import MAX_ERRORS
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema
from zebra_serving.served import Served, datatype_of

_WHOLE = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
NUMBER = _WHOLE | {"FP16", "FP32", "FP64"}
_TAKES = {"int64": _WHOLE, "float64": NUMBER, "bool": {"BOOL"}, "string": {"BYTES"}, "date": {"BYTES"}, "timestamp": {"BYTES"}}
NAMED = {"int64": "INT64", "float64": "FP64", "bool": "BOOL", "string": "BYTES", "date": "BYTES", "timestamp": "BYTES"}

_encode = msgspec.json.Encoder().encode


class OpenInferenceDoor:
    """Everything below `/v2`."""

    paths: ClassVar[dict[str, str]] = {"/v2": "/v2", "/v2/": "/v2"}

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str) -> None:
        """Answer one request; raises what `DataPlane.answer` raises, and `NoSuchPath`."""
        match scope["path"].strip("/").split("/")[1:]:
            case []:
                expect_get(scope)
                await send_json(send, _encode({"name": "zebra_serving", "version": "1", "extensions": ["binary_tensor_data"]}))
            case ["health", "live"]:
                expect_get(scope)
                await send_json(send, b'{"live":true}')
            case ["health", "ready"]:
                expect_get(scope)
                await self._fleet.default.plane.serving()
                await send_json(send, b'{"ready":true}')
            case ["models", name, *rest]:
                version, action = self._version(scope, rest)
                plane = self._fleet[name].plane
                served = _of_version(await plane.serving(headers, patience(headers)), version)
                if action == "infer":
                    await self._infer(plane, scope, receive, send, headers, request_id, version)
                else:
                    expect_get(scope)
                    await send_json(send, _encode({"name": name, "ready": True} if action == "ready" else _metadata(served)))
            case _:
                raise _nothing(scope)

    def _version(self, scope: Scope, rest: list[str]) -> tuple[str | None, str]:
        version, action = (rest[1], rest[2:]) if rest[:1] == ["versions"] and len(rest) > 1 else (None, rest)
        if action not in ([], ["ready"], ["infer"]):
            raise _nothing(scope)
        return version, action[0] if action else "metadata"

    async def _infer(
        self,
        plane: DataPlane,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: dict[bytes, bytes],
        request_id: str,
        version: str | None,
    ) -> None:
        length = headers.get(LENGTH)
        body = await (posted_json if length is None and b"content-type" in headers else posted_by_program)(scope, receive, headers)
        asked: Inference | None = None
        head = 0

        def read(served: Served) -> Rows:
            nonlocal asked
            _of_version(served, version)  # it may have changed since
            asked = asked or inference(body, length)  # once, though a route may have two versions read it
            if asked.outputs:
                _expect(asked.outputs, _names(served))
            return served.schema.convert_columns(_columns(served.schema, asked.inputs))

        def write(answer: Answer) -> bytes:
            nonlocal head
            assert asked is not None  # `read` was there before
            promotion = answer.served.promotion
            outputs, data = _outputs(answer, asked)
            said = {"model_name": promotion.model, "model_version": promotion.version, "id": asked.id or request_id, "outputs": outputs}
            document = _encode(said)
            head = len(document) if data else 0
            return document + data

        answer = await plane.answer(
            read,
            write,
            headers=headers,
            size=len(body),
            request_id=request_id,
            patience_s=patience(headers),
            pinned=version is not None,
        )
        if head:
            await send_json(send, answer, kind=b"application/octet-stream", more=[(LENGTH, str(head).encode())])
        else:
            await send_json(send, answer)


def _of_version(served: Served, version: str | None) -> Served:
    """``served``, if it is the version asked for. Raises `NoSuchPath`."""
    if version not in (None, served.promotion.version):
        raise NoSuchPath(f"Version {version} does not serve.", fix=f"version {served.promotion.version} does; leave the version out")
    return served


def _nothing(scope: Scope) -> NoSuchPath:
    return NoSuchPath(f"There is no {scope['path'][:200]} here.", fix="GET / lists the paths")


def _columns(schema: RowSchema, inputs: list[Tensor]) -> dict[str, list[Any]]:
    """Tensors as one list per column.

    Raises:
        InputInvalid: names, shapes or datatypes that do not fit the columns.
    """
    features = {f.name: f for f in (*schema.features, *schema.keys)}
    if len(inputs) == 1 and len(inputs[0].shape) == 2 and inputs[0].shape[1] == schema.width > 1:
        return _matrix(schema, inputs[0])
    errors = [e for t in inputs if (e := _misfit(t, features.get(t.name), inputs[0].shape[:1])) is not None]
    if errors:
        raise InputInvalid(errors[:MAX_ERRORS], len(errors), message="The tensors do not fit the model's columns.")
    columns = {t.name: _flat(t.data or []) for t in inputs}
    wrong = [FieldError(0, t.name, f"{t.shape[0]} values", str(len(columns[t.name]))) for t in inputs if len(columns[t.name]) != t.shape[0]]
    if wrong or not inputs:
        raise InputInvalid(wrong, message="A tensor's data is not as long as its shape says." if wrong else "There are no inputs.")
    if len(columns) < len(inputs):
        raise InputInvalid([FieldError(0, None, "each column once", "a name twice")])
    return columns


def _matrix(schema: RowSchema, tensor: Tensor) -> dict[str, list[Any]]:
    if tensor.datatype not in NUMBER or any(f.dtype not in ("int64", "float64") for f in schema.features):
        raise InputInvalid([FieldError(0, tensor.name, "one tensor per column, named like it", tensor.datatype)])
    flat, width = _flat(tensor.data or []), schema.width
    if len(flat) != tensor.shape[0] * width:
        raise InputInvalid([FieldError(0, tensor.name, f"{tensor.shape[0] * width} values", str(len(flat)))])
    return {name: flat[i::width] for i, name in enumerate(schema.names)}


def _misfit(tensor: Tensor, feature: ModelFeature | None, rows: list[int]) -> FieldError | None:
    if feature is None:
        return FieldError(0, tensor.name, "a column of the model", tensor.datatype)
    if tensor.datatype not in _TAKES[feature.dtype]:
        return FieldError(0, tensor.name, NAMED[feature.dtype], tensor.datatype)
    if tensor.shape[:1] != rows or len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]):
        return FieldError(0, tensor.name, f"shape {[*rows, 1]}", str(tensor.shape)[:60])
    return None


def _flat(data: list[Any]) -> list[Any]:
    return list(chain.from_iterable(data)) if data and all(isinstance(d, list) for d in data) else data


def _names(served: Served) -> list[str]:
    """The outputs a version has; of one without an example nobody knows yet whether it gives scores."""
    return ["predict", "score"] if served.outputs[1] or served.call_s is None else ["predict"]


def _expect(asked: list[Asked], names: list[str]) -> None:
    """Raises `InputInvalid` for an output that is not among ``names``, or asked for twice, which could make an answer of any size."""
    wanted = [a.name for a in asked]
    if wrong := [FieldError(0, n[:60], f"an output: {', '.join(names)}", n[:60]) for n in wanted if n not in names]:
        raise InputInvalid(wrong[:MAX_ERRORS], len(wrong), message="The model has no such output.")
    if len(set(wanted)) < len(wanted):
        raise InputInvalid([FieldError(0, None, "each output once", "a name twice")])


def _outputs(answer: Answer, asked: Inference) -> tuple[list[dict[str, Any]], bytes]:
    """The outputs that were asked for, and the binary data of those that are wanted so."""
    labels, scores = answer.scored.labels, answer.scored.scores
    found = {"predict": (datatype_of(labels[0]), labels)}
    if scores is not None:
        found["score"] = ("FP64", scores)
    if asked.outputs:
        _expect(asked.outputs, list(found))
    outputs, parts = [], []
    for name, wanted in dict.fromkeys(found).items() if asked.outputs is None else ((a.name, a) for a in asked.outputs):
        datatype, values = found[name]
        output: dict[str, Any] = {"name": name, "shape": [len(values)], "datatype": datatype}
        if asked.binary(wanted):
            parts.append(packed(datatype, values))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            output["data"] = values
        outputs.append(output)
    return outputs, b"".join(parts)


def _metadata(served: Served) -> dict[str, Any]:
    inputs = [{"name": f.name, "datatype": NAMED[f.dtype], "shape": [-1]} for f in served.schema.features]
    outputs = [{"name": "predict", "datatype": served.outputs[0], "shape": [-1]}]
    if served.outputs[1]:
        outputs.append({"name": "score", "datatype": "FP64", "shape": [-1]})
    return {
        "name": served.promotion.model, "versions": [served.promotion.version], "platform": f"zebra_{served.model.form.split()[0]}",
        "inputs": inputs, "outputs": outputs,
    }  # fmt: skip
