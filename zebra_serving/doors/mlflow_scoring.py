"""MLflow's scoring protocol: `/invocations`, `/ping`, `/version`, as `mlflow models serve` speaks it; JSON bodies.

A body has exactly one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`. As MLflow does, and as no other door does,
columns the model does not know are passed over, and values of another type are cast (`casting`). Answers are
`{"predictions": [label, …]}`; refusals are ours.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, UnsetType
from starlette.types import Receive, Scope, Send

from zebra_serving.answer import Answer
from zebra_serving.doors.casting import KEYS, cast
from zebra_serving.doors.wire import PATIENCE, PROBLEM, SAID, expect_get, patience, posted_json, send_json
from zebra_serving.fleet import Fleet
from zebra_serving.rows import Rows
from zebra_serving.schema import RowSchema
from zebra_serving.served import Served

_encode = msgspec.json.Encoder().encode


class Split(msgspec.Struct, forbid_unknown_fields=True):
    """pandas' `split` orientation."""

    columns: list[str]
    data: list[list[Any]]
    index: list[Any] | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `/invocations`; `params` is taken and passed over, as the models have none."""

    dataframe_split: Split | UnsetType = UNSET
    dataframe_records: list[dict[str, Any]] | UnsetType = UNSET
    instances: Any = UNSET
    inputs: Any = UNSET
    params: Any = None


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
            rows = _fitting(served.schema, body)
            return cast(served.schema, body) if rows is None else rows

        answer = await self._plane.answer(
            read, _write, headers=headers, size=len(body), request_id=request_id, patience_s=patience(headers)
        )
        await send_json(send, answer)


def _write(answer: Answer) -> bytes:
    return _encode({"predictions": answer.scored.labels})


def _fitting(schema: RowSchema, body: bytes) -> Rows | None:
    """The rows of a body that fits the model's columns, which MLflow reads the same; None for any other: `casting` looks at it."""
    if schema.cast:
        return None
    try:
        asked = _decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    said = [value for value in (asked.dataframe_split, asked.dataframe_records, asked.instances, asked.inputs) if value is not UNSET]
    if len(said) != 1:
        return None
    given: list[dict[str, Any]] | Mapping[str, Sequence[Any]] | None
    if isinstance(said[0], Split):
        given = _columns(schema, said[0])
    else:
        given = _arrays(schema, said[0]) if asked.dataframe_records is UNSET else _records(schema, said[0])
    if given is None:
        return None
    rows = schema.fitting(given)
    # pandas has no missing whole number and takes a missing boolean for false.
    if rows is not None and schema.unmissed and any(row[j] is None for row in rows.values for j in schema.unmissed):
        return None
    return rows


def _columns(schema: RowSchema, split: Split) -> Mapping[str, Sequence[Any]] | None:
    names, data = split.columns, split.data
    if not data or any(len(row) != len(names) for row in data) or (split.index is not None and len(split.index) != len(data)):
        return None
    columns = dict(zip(names, zip(*data, strict=True), strict=True))
    if len(columns) != len(names) or not columns.keys() >= schema.needed:
        return None
    if len(columns) == schema.width:
        return columns
    if any(_endless(cell) for name in columns.keys() - schema.needed for cell in columns[name]):
        return None
    return {name: columns[name] for name in columns.keys() & schema.types.keys()}


def _records(schema: RowSchema, records: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    if not all(row.keys() >= schema.needed for row in records):
        return None
    if all(len(row) == schema.width for row in records):
        return records
    if any(_endless(row[name]) for row in records for name in row.keys() - schema.needed):
        return None
    known = schema.types.keys()
    return [{name: value for name, value in row.items() if name in known} for row in records]


def _endless(cell: Any) -> bool:
    """A whole number that no float holds: pandas trips over it even where the model has no such column."""
    return isinstance(cell, int) and cell.bit_length() > 1000


def _arrays(schema: RowSchema, said: Any) -> list[dict[str, Any]] | Mapping[str, Sequence[Any]] | None:
    """Records or columns that are the model's and no others, without a text that numpy would change: null, or zeros at its end."""
    if isinstance(said, dict):
        columns = said if said.keys() == schema.needed and all(isinstance(cells, list) for cells in said.values()) else None
        return None if columns is None or any(_changes(cell) for cells in columns.values() for cell in cells) else columns
    if not isinstance(said, list) or not all(isinstance(row, dict) and row.keys() == schema.needed for row in said):
        return None
    return None if any(_changes(cell) for row in said for cell in row.values()) else said


def _changes(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and cell.endswith("\0"))


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
    given = {"dataframe_split": split, "dataframe_records": records, **{key: {"type": ["array", "object"]} for key in KEYS[2:]}}
    params: dict[str, Any] = {}  # whatever it is, nobody looks at it
    either = [{"type": "object", "required": [key], "properties": {key: one, "params": params}} for key, one in given.items()]
    problems = {str(s): {"description": d, "content": {"application/json": {"schema": PROBLEM}}} for s, d in SAID.items()}
    answer = {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}}
    done = {"200": {"description": "one prediction per row", "content": {"application/json": {"schema": answer}}}, **problems}
    said: dict[str, Any] = {"schema": {"oneOf": either}}
    if schema is not None:
        row = schema.example()
        said["example"] = {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
    body = {"required": True, "content": {"application/json": said}}
    return {
        "/invocations": {"post": {"summary": "MLflow: predict", "parameters": [PATIENCE], "requestBody": body, "responses": done}},
        "/ping": {
            "get": {
                "summary": "MLflow: ready",
                "responses": {"200": {"description": "ready"}, "401": problems["401"], "503": problems["503"]},
            }
        },
        "/version": {"get": {"summary": "MLflow: its version", "responses": {"200": {"description": "text"}, "401": problems["401"]}}},
    }
