"""The same rows in each server's own protocol, and the labels out of each one's answer."""

import io
import json
from typing import Any

import pyarrow as pa

JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"
Rows = list[dict[str, Any]]
_V2 = {str: ("BYTES", "str"), bool: ("BOOL", None), int: ("INT64", None), float: ("FP64", None)}


def native(rows: Rows) -> bytes:
    return json.dumps({"rows": rows} if len(rows) > 1 else rows[0]).encode()


def split(rows: Rows) -> bytes:
    return json.dumps({"dataframe_split": {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}}).encode()


def tensors(rows: Rows) -> bytes:
    """V2, to be read as a DataFrame: what MLServer's MLflow runtime asks for."""
    inputs = []
    for name, example in rows[0].items():
        datatype, kind = _V2[type(example)]
        more = {"parameters": {"content_type": kind}} if kind else {}
        inputs.append({"name": name, "shape": [len(rows), 1], "datatype": datatype, "data": [row[name] for row in rows], **more})
    return json.dumps({"parameters": {"content_type": "pd"}, "inputs": inputs}).encode()


def arrow(rows: Rows) -> bytes:
    """An Arrow IPC stream of one batch."""
    table, out = pa.Table.from_pylist(rows), io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return out.getvalue()


def labels(answer: bytes) -> list[Any]:
    """The labels, whoever answered."""
    if not answer.lstrip().startswith(b"{"):
        return pa.ipc.open_stream(answer).read_all().column("prediction").to_pylist()
    said = json.loads(answer)
    if "outputs" in said:
        return said["outputs"][0]["data"]
    return [one["prediction"] if isinstance(one, dict) else one for one in said["predictions"]]
