"""Arrow columns as numpy arrays, by their buffers: no copy, whatever null cells hold, and with the same types every time.

`Array.to_numpy` turns integers with nulls into floats and times into datetime64. Called by the rooms of this floor that
compute on cells.
"""

from typing import Any

import numpy as np
import pyarrow as pa

Numbers = np.ndarray[tuple[int], np.dtype[Any]]
Truths = np.ndarray[tuple[int], np.dtype[np.bool_]]

_NUMPY = {
    pa.int8(): "i1",
    pa.int32(): "<i4",
    pa.int64(): "<i8",
    pa.uint64(): "<u8",
    pa.float64(): "<f8",
    pa.date32(): "<i4",
    pa.timestamp("us"): "<i8",
    pa.timestamp("us", tz="UTC"): "<i8",
}


def one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array; copied only where it has several chunks."""
    if isinstance(column, pa.Array):
        return column
    return (
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    )


def numbers(column: pa.ChunkedArray | pa.Array) -> Numbers:
    """The stored numbers, read-only, shape (rows,); dates are days and timestamps microseconds. Null cells hold anything.

    Raises:
        KeyError: a type that is not stored as numbers of fixed width.
    """
    values = one(column)
    stored = np.dtype(_NUMPY[values.type])
    if not len(values):
        return np.empty(0, stored)
    return np.frombuffer(values.buffers()[1], stored, len(values), values.offset * stored.itemsize)


def truths(column: pa.ChunkedArray | pa.Array) -> Truths:
    """Cells of a bool column, shape (rows,); null is False."""
    values = one(column)
    if not len(values):
        return np.empty(0, bool)
    found = _bits(values.buffers()[1], values.offset, len(values))
    return found & valid(values) if values.null_count else found


def valid(column: pa.ChunkedArray | pa.Array) -> Truths:
    """Which cells are not null, shape (rows,)."""
    values = one(column)
    bitmap = values.buffers()[0] if values.null_count else None
    return np.ones(len(values), bool) if bitmap is None else _bits(bitmap, values.offset, len(values))


def _bits(buffer: pa.Buffer, offset: int, count: int) -> Truths:
    first, last = offset // 8, (offset + count + 7) // 8
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8, last - first, first), bitorder="little")
    return bits[offset - 8 * first :][:count].astype(bool)
