"""JSON lines: one object per line; a field that a line lacks is null there.

Arrow parses in blocks with the recipe's types; when it stumbles, the lines are read again one by one, to say which.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import json as pajson

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.connector import match_columns
from zebra_assets.errors import DataInvalid

BLOCK_BYTES = 8 << 20
# Dates and times are text in JSON; `table` reads them.
_JSON = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_PYTHON: dict[str, tuple[type, ...]] = {"int64": (int,), "float64": (int, float), "bool": (bool,)}


def read(file: Path, columns: Mapping[str, Dtype], where: str) -> Iterator[pa.RecordBatch]:
    """Batches with the declared columns.

    Raises:
        DataInvalid: lines that are no JSON object, or hold another type than declared (count and up to five).
    """
    names = _names(file)
    # A column that the first 1,000 lines lack is missing, unless some later line has it.
    unseen = [c for c in columns if c not in names]
    if unseen and not _seen_later(file, unseen):
        match_columns(names, columns, where)
    schema = pa.schema([(name, _JSON.get(dtype, pa.string())) for name, dtype in columns.items()])
    parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        with pa.input_stream(str(file), compression="detect") as stream:
            yield from pajson.open_json(stream, pajson.ReadOptions(block_size=BLOCK_BYTES), parse)
    except pa.ArrowInvalid as error:
        bad = list(_bad_lines(file, columns))
        if not bad:
            raise
        shown = "\n  ".join(bad[:5])
        raise DataInvalid(
            f"{where}: {len(bad):,} lines do not fit the recipe:\n  {shown}", fix="correct the lines, or the dtypes in dataset.yaml"
        ) from error


def _open(file: Path) -> Any:
    return gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb")


def _names(file: Path) -> list[str]:
    found: dict[str, None] = {}
    with _open(file) as lines:
        for line in islice(lines, 1000):
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.update(dict.fromkeys(value))
    return list(found)


def _seen_later(file: Path, names: list[str]) -> bool:
    wanted = {json.dumps(name).encode() for name in names}
    with _open(file) as lines:
        for line in islice(lines, 1000, None):
            wanted = {name for name in wanted if name not in line}
            if not wanted:
                return True
    return False


def _bad_lines(file: Path, columns: Mapping[str, Dtype]) -> Iterator[str]:
    with _open(file) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                yield f"line {number}: not JSON: {error}"
                continue
            if not isinstance(row, dict):
                yield f"line {number}: not an object"
                continue
            for name, dtype in columns.items():
                value = row.get(name)
                kinds = _PYTHON.get(dtype, (str,))
                if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
                    yield f"line {number}: column {name!r} is declared {dtype}, but holds {type(value).__name__}"
