"""MLflow's scoring protocol: `/invocations`, `/ping`, `/version`, as `mlflow models serve` speaks it; JSON bodies.

A body has exactly one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`. As MLflow does, and as no other door does,
columns the model does not know are passed over. Answers are `{"predictions": [label, …]}`; refusals are ours.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import msgspec
from starlette.types import Receive, Scope, Send

from zebra_serving.answer import Answer
from zebra_serving.doors.wire import PROBLEM, SAID, expect_get, patience, posted_json, send_json
from zebra_serving.fleet import Fleet
from zebra_serving.problems import FieldError, InputInvalid, Malformed
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema
from zebra_serving.served import Served

_KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_encode = msgspec.json.Encoder().encode


class Split(msgspec.Struct):
    """pandas' `split` orientation."""

    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `/invocations`; `params` is taken and passed over, as the models have none."""

    dataframe_split: Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    instances: Any = None
    inputs: Any = None
    params: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(Body).decode


class MlflowDoor:
    """The three paths of MLflow's scoring server that we have no own word for; they mean the default model."""

    paths: ClassVar[dict[str, str]] = {path: path for path in ("/invocations", "/ping", "/version")}

    def __init__(self, fleet: Fleet) -> None:
        self._plane = fleet.default.plane

    async def __call__(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str) -> None:
        """Answer one request; raises what `DataPlane.answer` raises."""
        if scope["path"] == "/invocations":
            await self._invoke(scope, receive, send, headers, request_id)
            return
        expect_get(scope)
        if scope["path"] == "/ping":
            await self._plane.serving()
            await send_json(send, b"\n")
        else:
            await send_json(send, _version().encode(), kind=b"text/plain; charset=utf-8")

    async def _invoke(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes], request_id: str) -> None:
        body = await posted_json(scope, receive, headers)

        def read(served: Served) -> Rows:
            schema = served.schema
            asked = _asked(schema, body)
            if isinstance(asked, list):
                return schema.convert(_known(schema, asked))
            columns = {name: cells for name, cells in asked.items() if name in schema.types}
            return schema.convert_columns(columns) if columns else schema.convert([{}] * max(map(len, asked.values()), default=0))

        answer = await self._plane.answer(
            read, _write, headers=headers, size=len(body), request_id=request_id, patience_s=patience(headers)
        )
        await send_json(send, answer)


def _write(answer: Answer) -> bytes:
    return _encode({"predictions": answer.scored.labels})


def _asked(schema: RowSchema, body: bytes) -> list[dict[str, Any]] | Mapping[str, Sequence[Any]]:
    """The rows of a body, as it has them: one by one or by column."""
    try:
        asked = _decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Malformed(f"The body is no scoring request: {str(error).rstrip('.')}.", fix=f"send one of {', '.join(_KEYS)}") from error
    given = [(key, value) for key in _KEYS if (value := getattr(asked, key)) is not None]
    if len(given) != 1:
        raise Malformed(
            f"The body has {len(given)} of {', '.join(_KEYS)}, not one.", fix='send {"dataframe_split": {"columns": …, "data": …}}'
        )
    key, value = given[0]
    if isinstance(value, Split):
        return _of_rows(value.columns, value.data)
    if isinstance(value, dict):
        return _of_columns(value)
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    if isinstance(value, list) and all(isinstance(row, list) for row in value):
        return _of_rows(schema.names, value)
    raise InputInvalid([FieldError(0, key, "rows as objects or lists, or an object of columns", type(value).__name__)])


def _of_rows(names: list[str], data: list[list[Any]]) -> Mapping[str, Sequence[Any]]:
    if len(set(names)) != len(names):
        raise InputInvalid([FieldError(0, None, "each column once", "a name twice")])
    if wrong := [FieldError(i, None, f"{len(names)} values", str(len(row))) for i, row in enumerate(data) if len(row) != len(names)]:
        raise InputInvalid(wrong[:100], len(wrong))
    return dict(zip(names, zip(*data, strict=True), strict=True)) if data else {}


def _of_columns(columns: dict[str, Any]) -> Mapping[str, Sequence[Any]]:
    """``{"a": [1, 2], "b": 3}``: a scalar is a column of one, as MLflow reads it; ``[[1], [2]]`` a column of two."""
    listed = {name: values if isinstance(values, list) else [values] for name, values in columns.items()}
    listed = {name: [v[0] if isinstance(v, list) and len(v) == 1 else v for v in values] for name, values in listed.items()}
    if len({len(values) for values in listed.values()}) > 1:
        raise InputInvalid([FieldError(0, None, "columns of one length", ", ".join(f"{n}: {len(v)}" for n, v in listed.items())[:60])])
    return listed


def _known(schema: RowSchema, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = schema.types.keys()
    return [row if row.keys() <= known else {name: value for name, value in row.items() if name in known} for row in records]


@cache
def _version() -> str:
    for name in ("mlflow", "mlflow-skinny"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "none"


def openapi(schema: RowSchema | None) -> dict[str, Any]:
    """The door's OpenAPI entries; ``schema`` is None while nothing is loaded."""
    split = {
        "type": "object", "required": ["columns", "data"],
        "properties": {"columns": {"type": "array", "items": {"type": "string"}}, "data": {"type": "array", "items": {"type": "array"}}},
    }  # fmt: skip
    records = {"type": "array", "items": {"type": "object"}}
    given = {"dataframe_split": split, "dataframe_records": records, **{key: {"type": ["array", "object"]} for key in _KEYS[2:]}}
    params = {"type": ["object", "null"]}
    either = [
        {"type": "object", "required": [key], "properties": {key: one, "params": params}, "additionalProperties": False}
        for key, one in given.items()
    ]
    problems = {str(s): {"description": d, "content": {"application/json": {"schema": PROBLEM}}} for s, d in SAID.items()}
    answer = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}
    done = {"200": {"description": "one prediction per row", "content": {"application/json": {"schema": answer}}}, **problems}
    said: dict[str, Any] = {"schema": {"oneOf": either}}
    if schema is not None:
        row = schema.example()
        said["example"] = {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
    body = {"required": True, "content": {"application/json": said}}
    return {
        "/invocations": {"post": {"summary": "MLflow: predict", "requestBody": body, "responses": done}},
        "/ping": {
            "get": {
                "summary": "MLflow: ready",
                "responses": {"200": {"description": "ready"}, "401": problems["401"], "503": problems["503"]},
            }
        },
        "/version": {"get": {"summary": "MLflow: its version", "responses": {"200": {"description": "text"}, "401": problems["401"]}}},
    }
