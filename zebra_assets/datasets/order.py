"""Rows in canonical order, stably sorted by their key, however many there are.

Up to 192 MB are sorted in memory; beyond, DuckDB sorts them with the disk's help in a fixed amount of memory. Text is
ordered by its UTF-8 bytes in both. Called by `ingest` when a source does not hand its rows over in key order.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

IN_MEMORY = 192 << 20
# What a source that comes in no order need not be asked for again; beside what blocks take, an endless one stays below 64 MB with it.
REMEMBERED = 24 << 20
# Chosen to keep an ingest below 600 MB beside what its blocks take; other limits were not compared.
LIMIT = "256MB"
BATCH_ROWS = 65_536


def in_order(batches: Iterator[pa.RecordBatch], key: list[str], scratch: Path, *, in_memory: int = IN_MEMORY) -> Iterator[pa.RecordBatch]:
    """Batches in key order, each with one more column at the end: the row's position in the source.

    Args:
        scratch: folder for what does not fit into ``in_memory`` bytes.
    """
    held: list[pa.RecordBatch] = []
    size = 0
    numbered = _numbered(batches)
    for batch in numbered:
        held.append(batch)
        size += batch.nbytes
        if size > in_memory:
            yield from _on_disk(held, numbered, key, scratch)
            return
    if held:
        table = pa.Table.from_batches(held)
        held.clear()
        at = [table.schema.get_field_index(name) for name in key]
        renamed = table.rename_columns(_places(table))
        order = pc.sort_indices(renamed, sort_keys=[(f"c{i}", "ascending") for i in at])
        # Batch by batch: one take of text beyond 2 GB would overflow Arrow's offsets.
        for start in range(0, table.num_rows, BATCH_ROWS):
            yield from table.take(order.slice(start, BATCH_ROWS)).combine_chunks().to_batches()


class Replay:
    """Batches that can be had again from the start while they are few, so that a small source is not asked twice."""

    def __init__(self, batches: Iterator[pa.RecordBatch], *, most: int = REMEMBERED) -> None:
        self._batches, self._left = batches, most
        self._held: list[pa.RecordBatch] | None = []

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self._left -= batch.nbytes
            if self._left < 0:
                self._held = None
            if self._held is not None:
                self._held.append(batch)
            yield batch

    def again(self) -> Iterator[pa.RecordBatch] | None:
        """All batches from the first one on; None when too many were handed out to be remembered."""
        return None if self._held is None else chain(self._held, self._batches)


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        positions = pa.array(np.arange(rows, rows + batch.num_rows, dtype=np.int64))
        rows += batch.num_rows
        # The name is of no account and may stand twice: it is found by its place.
        yield pa.RecordBatch.from_arrays([*batch.columns, positions], schema=batch.schema.append(pa.field("position", pa.int64())))


def _on_disk(held: list[pa.RecordBatch], rest: Iterator[pa.RecordBatch], key: list[str], scratch: Path) -> Iterator[pa.RecordBatch]:
    """The same by DuckDB: columns travel by their place, and times as integers, because its own carry a session's zone."""
    import duckdb

    schema = held[0].schema
    plain = pa.schema([(f"c{i}", pa.int64() if pa.types.is_timestamp(f.type) else f.type) for i, f in enumerate(schema)])
    keys = [f"c{schema.get_field_index(name)}" for name in key]

    def bare(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(
            [c.view(f.type) if c.type != f.type else c for c, f in zip(batch.columns, plain, strict=True)], schema=plain
        )

    def feed() -> Iterator[pa.RecordBatch]:
        while held:
            yield bare(held.pop(0))
        yield from map(bare, rest)

    rows = pa.RecordBatchReader.from_batches(plain, chain(feed()))
    with duckdb.connect(config={"memory_limit": LIMIT, "temp_directory": str(scratch / "sort"), "preserve_insertion_order": False}) as base:
        base.register("given", rows)
        ordered = base.sql(f"select * from given order by {', '.join([*keys, plain.names[-1]])}")  # noqa: S608 - places, not names
        for batch in ordered.fetch_arrow_reader(BATCH_ROWS):
            columns = [_back(c, f.type) for c, f in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _back(values: pa.Array, kind: pa.DataType) -> pa.Array:
    return values.view(kind) if pa.types.is_timestamp(kind) else values.cast(kind)


def _places(table: pa.Table) -> list[str]:
    return [f"c{i}" for i in range(table.num_columns)]
