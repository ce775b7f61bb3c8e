"""zebra-rows: the identity of rows, independent of the file they came in.

A table in canonical order is cut into blocks of 65,536 rows. Each block is hashed by itself, so blocks may be hashed by
threads, processes or machines; `contracts.manifest.content_of` combines their digests with what the columns mean. The hash
is BLAKE3 in v2, at 9 GB/s of one core where sha256, v1's, makes 2 (docs/adr/0006-rows-v2.md). The bytes are the same.

A block's bytes are, all little-endian: row count (u64), then per column its dtype's tag (u8), the validity bits (LSB
first, zero-padded to a byte), and the values: i64, f64, i32 days, i64 microseconds, bits for bool, and for string the
byte lengths (u32) followed by the UTF-8 bytes. A null has value zero or length zero. NaN is 0x7ff8000000000000, -0.0 is
0.0. Arrow's chunking, offsets, slices, dictionaries and large strings leave no trace. Called by `ingest` only.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from zebra_assets.contracts.manifest import ROWS_ALGORITHM, RowsAlgorithm
from zebra_assets.datasets.cells import Truths, numbers, one, truths, valid

BLOCK_ROWS = 65_536
HASHES: dict[RowsAlgorithm, Callable[[], Any]] = {"zebra-rows-v1": hashlib.sha256, "zebra-rows-v2": blake3}
TAGS: dict[pa.DataType, int] = {
    pa.int64(): 1,
    pa.float64(): 2,
    pa.string(): 3,
    pa.bool_(): 4,
    pa.date32(): 5,
    pa.timestamp("us", tz="UTC"): 6,
}


def block_digests(table: pa.Table, *, block_rows: int = BLOCK_ROWS, algorithm: RowsAlgorithm = ROWS_ALGORITHM) -> list[str]:
    """Digests of a table's row blocks, in order; none for a table without rows.

    Args:
        table: columns of the six canonical Arrow types (`dtypes.ARROW`), or of others that encode the same values:
            dictionaries and large strings.

    Raises:
        pa.ArrowInvalid: a column of another type.
    """
    starts = range(0, table.num_rows, block_rows)
    # Both hashes and Arrow release the GIL.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(lambda start: block_digest(table.slice(start, block_rows), algorithm), starts))


def block_digest(block: pa.Table, algorithm: RowsAlgorithm = ROWS_ALGORITHM) -> str:
    """Digest of one block: 64 hex digits."""
    digest = HASHES[algorithm]()
    for piece in _pieces(block):
        raw = memoryview(piece)
        if raw.nbytes:  # what is empty cannot be cast
            digest.update(raw.cast("B"))
    return str(digest.hexdigest())


def _pieces(block: pa.Table) -> Iterator[bytes | memoryview]:
    yield struct.pack("<Q", block.num_rows)
    for column in block.columns:
        yield from _column(_one_array(column))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if kind not in TAGS:
        raise pa.ArrowInvalid(f"{kind} has no canonical encoding")
    return one(column)


def _column(values: pa.Array) -> Iterator[bytes | memoryview]:
    present = valid(values)
    yield struct.pack("<B", TAGS[values.type])
    yield _bits(present)
    if values.type == pa.string():
        yield from _text(values)
    elif values.type == pa.bool_():
        yield _bits(truths(values))
    else:
        yield _numbers(values, present if values.null_count else None)


def _bits(truth: Truths) -> memoryview:
    return np.packbits(truth, bitorder="little").data


def _numbers(values: pa.Array, present: Truths | None) -> memoryview:
    raw = numbers(values)
    if raw.dtype.kind == "f":
        raw = raw + 0.0  # -0.0 + 0.0 is 0.0
        raw[np.isnan(raw)] = np.nan
    if present is not None:
        raw = np.where(present, raw, raw.dtype.type(0))
    return np.ascontiguousarray(raw).data


def _text(values: pa.Array) -> Iterator[bytes | memoryview]:
    if values.null_count:
        values = pc.fill_null(values, "")  # drops the bytes that may hide behind a null
    if not len(values):
        return
    _, offsets_buffer, data = values.buffers()
    offsets = np.frombuffer(offsets_buffer, "<i4", len(values) + 1, values.offset * 4)
    yield np.diff(offsets).astype("<u4").data
    if data is not None:
        yield memoryview(data)[offsets[0] : offsets[-1]]
