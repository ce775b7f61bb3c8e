"""From a database driver's rows to Arrow batches, for the generic way of `sql`.

How many rows are fetched at once follows their width, so that a batch stays near 64 MiB.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.connector import match_columns
from zebra_assets.datasets.connectors._adbc import BATCH_BYTES, beyond_the_calendar, plain_numerals

FIRST_ROWS = 16
GROWTH = 8
MOST_ROWS = 8192  # as Python objects at once; by 65,536 a million rows took 10 % more CPU, and 15 MB more


def batches(result: sa.CursorResult[Any], columns: Mapping[str, Dtype], where: str) -> Iterator[pa.RecordBatch]:
    """A result's rows.

    Raises:
        DataInvalid: a column is missing, or a date lies outside the years 1 to 9999.
        SQLAlchemyError: the database broke off.
    """
    found = list(result.keys())
    names = match_columns(found, columns, where)
    at = [found.index(name) for name in names]
    ask = FIRST_ROWS
    while True:
        try:
            rows = result.fetchmany(ask)
        except (ValueError, OverflowError) as error:  # psycopg2 on a date before Christ
            raise beyond_the_calendar(where, str(error)) from error
        if not rows:
            return
        cells = list(zip(*rows, strict=True))
        batch = pa.RecordBatch.from_arrays([_array(cells[i], columns[name]) for i, name in zip(at, names, strict=True)], names=names)
        ask = max(1, min(MOST_ROWS, ask * GROWTH, BATCH_BYTES * len(rows) // max(batch.nbytes, 1)))
        del rows, cells  # the same rows a second and a third time
        yield batch


def _array(cells: Sequence[Any], dtype: Dtype) -> pa.Array:
    """Arrow's own idea of the type. Decimals travel as text, and so does what mixes types, as SQLite allows, or is too large."""
    if any(type(cell) is Decimal for cell in cells):
        return plain_numerals(pa.array([None if cell is None else _numeral(cell) for cell in cells], pa.string()), dtype)
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())


def _numeral(cell: Any) -> str:
    if isinstance(cell, Decimal):
        return format(cell, "f") if cell.is_finite() else str(float(cell))
    return str(cell)
