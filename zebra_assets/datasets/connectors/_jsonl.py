"""JSON lines: one object per line; a field that a line lacks is null there.

Arrow parses in blocks with the recipe's types; when it stumbles, the lines are read again one by one, to say which.
"""

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

BLOCK_BYTES = 8 << 20  # also the longest line
MOST_FIELDS = 5000
# Dates and times are text in JSON; `table` reads them.
_JSON = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_PYTHON: dict[str, tuple[type, ...]] = {"int64": (int,), "float64": (int, float), "bool": (bool,)}


def read(file: Path, columns: Mapping[str, Dtype], where: str, most_fields: int = MOST_FIELDS) -> Iterator[pa.RecordBatch]:
    """Batches with the declared columns.

    Args:
        most_fields: of the first 1,000 lines together; more are refused.

    Raises:
        DataInvalid: lines that are no JSON object, are longer than 8 MiB, or hold another type than declared (count and
            up to five).
    """
    names = _names(file, where, most_fields)
    # A column that the first 1,000 lines lack is missing, unless some later line has it.
    unseen = [c for c in columns if c not in names]
    if unseen and not _seen_later(file, unseen, where):
        if not names:
            _refuse_bad_lines(file, columns, where)
        match_columns(names, columns, where)
    schema = pa.schema([(name, _JSON.get(dtype, pa.string())) for name, dtype in columns.items()])
    parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        with file.open("rb") as stream:
            yield from pajson.open_json(stream, pajson.ReadOptions(block_size=BLOCK_BYTES), parse)
    except pa.ArrowInvalid as error:
        _refuse_bad_lines(file, columns, where, error)
        raise


def _lines(file: Path, where: str) -> Iterator[bytes]:
    with file.open("rb") as source:
        number = 0
        while line := source.readline(BLOCK_BYTES + 1):
            number += 1
            if len(line) > BLOCK_BYTES:
                raise DataInvalid(f"{where}: line {number:,} is longer than 8 MiB.", fix="write one object per line")
            yield line


def _parse(line: bytes) -> Any:
    """The line's value; `ValueError` where it has none."""
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _names(file: Path, where: str, most: int) -> list[str]:
    found: dict[str, None] = {}
    for line in islice(_lines(file, where), 1000):
        try:
            value = _parse(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.update(dict.fromkeys(value))
        if len(found) > most:
            raise DataInvalid(
                f"{where} has more than {most:,} columns, which is refused.",
                fix="write out the columns that you need, or raise source.parameters.max_columns",
            )
    return list(found)


def _seen_later(file: Path, names: list[str], where: str) -> bool:
    wanted = {json.dumps(name).encode() for name in names}
    for line in islice(_lines(file, where), 1000, None):
        wanted = {name for name in wanted if name not in line}
        if not wanted:
            return True
    return False


def _refuse_bad_lines(file: Path, columns: Mapping[str, Dtype], where: str, cause: Exception | None = None) -> None:
    bad = _bad_lines(file, columns, where)
    if shown := list(islice(bad, 5)):
        count = len(shown) + sum(1 for _ in bad)
        lines = "\n  ".join(shown)
        fix = "correct the lines, or the dtypes in dataset.yaml"
        raise DataInvalid(f"{where}: {count:,} lines do not fit the recipe:\n  {lines}", fix=fix) from cause


def _bad_lines(file: Path, columns: Mapping[str, Dtype], where: str) -> Iterator[str]:
    for number, line in enumerate(_lines(file, where), 1):
        if not line.strip():
            continue
        try:
            row = _parse(line)
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
            elif dtype == "int64" and isinstance(value, int) and not -(2**63) <= value < 2**63:
                yield f"line {number}: column {name!r} holds {str(value)[:30]}, which is beyond 64 bits"
