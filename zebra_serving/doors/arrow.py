"""Bulk predictions as Arrow: the body of `POST /predict` where the Content-Type says so.

    application/vnd.apache.arrow.stream or .file: one column per column of the model, named like it, in any order
    -> a stream of `prediction`, `score` (null unless binary), `event_id` (null where not captured); the schema's metadata says
       model, alias, version, manifest_id

The same path as JSON and not one of its own: it is the same question, so whatever guards, routes and counts /predict does so here.
Refusals are JSON on every door. pyarrow is imported when the first such body arrives: 0.2 s and 44 MB that others never pay.
"""

import asyncio
import importlib
import sys
from functools import lru_cache
from typing import Any

from zebra_serving.answer import Answer
from zebra_serving.refusals import refuse_count
from zebra_serving.rows import Columns
from zebra_serving.served import ScoredColumns, Served

STREAM, FILE = b"application/vnd.apache.arrow.stream", b"application/vnd.apache.arrow.file"
MAX_BYTES = 64 * 1024 * 1024
MAX_ROWS = 100_000
# A stream is its schema's message, one a batch, and this.
_END = b"\xff\xff\xff\xff\0\0\0\0"
_NEEDED = ("zebra_serving.doors.ipc", "zebra_serving.bulk")


async def ready() -> None:
    """Import pyarrow, beside the event loop; nothing the second time."""
    for name in _NEEDED:
        if name not in sys.modules:
            await asyncio.to_thread(importlib.import_module, name)


def read(served: Served, body: bytes, kind: bytes) -> Columns:
    """The body's rows, checked against the version's columns.

    Raises:
        Malformed: no Arrow IPC, or a compressed one.
        InputInvalid: columns that do not fit.
        TooLarge: too many rows.
    """
    from zebra_serving.bulk import columns_of, schema_of
    from zebra_serving.doors.ipc import no_arrow, opened, whole

    reader = opened(body, file=kind == FILE, max_rows=MAX_ROWS)
    try:
        schema_of(served.schema, reader.schema)
        batch = whole(reader)
        if not batch.num_rows:
            refuse_count(0)
        return columns_of(served.schema, batch)
    except UnicodeDecodeError as error:  # a name, of a column or its time zone, which pyarrow decodes when it is looked at
        raise no_arrow(error) from error


def write(answer: Answer) -> bytes:
    """The answer as an Arrow IPC stream of one batch."""
    import pyarrow as pa

    scored, promotion = answer.scored, answer.served.promotion
    if isinstance(scored, ScoredColumns):
        labels = pa.array(scored.found) if scored.words is None else pa.array(scored.words).take(pa.array(scored.found))
        scores: Any = scored.chances
    else:
        labels, scores = pa.array(scored.labels), scored.scores
    count = len(labels)
    arrays = [
        labels,
        pa.nulls(count, pa.float64()) if scores is None else pa.array(scores, pa.float64()),
        pa.nulls(count, pa.string()) if answer.event_ids is None else pa.array(answer.event_ids, pa.string()),
    ]
    schema, head = _head(promotion.model, promotion.alias, promotion.version, promotion.manifest_id, labels.type)
    return b"".join((head, pa.RecordBatch.from_arrays(arrays, schema=schema).serialize(), _END))


@lru_cache(maxsize=64)
def _head(model: str, alias: str, version: str, manifest_id: str, prediction: Any) -> tuple[Any, bytes]:
    """The schema of a version's answers, and the message that says it; each answer's would cost as much as its data."""
    import pyarrow as pa

    said = {"model": model, "alias": alias, "version": version, "manifest_id": manifest_id}
    schema = pa.schema([("prediction", prediction), ("score", pa.float64()), ("event_id", pa.string())], said)
    return schema, schema.serialize().to_pybytes()


def openapi() -> dict[str, Any]:
    """The media types of a request, for the path's OpenAPI entry."""
    body = {"schema": {"type": "string", "format": "binary", "description": f"up to {MAX_ROWS:,} rows, uncompressed"}}
    return {kind.decode(): body for kind in (STREAM, FILE)}
