"""From a source's cast batches to row blocks in canonical order: 65,536 rows each, the last one what is left.

A block is the unit of everything that follows: it is checked, hashed, split, written and summarised by itself, by a
thread, a process or a machine. Only a few blocks are in memory at a time, whatever the size of the source. Called by
`ingest`; putting rows in order that did not come so is `order`'s.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.datasets.blocks import BLOCK_ROWS
from zebra_assets.datasets.cells import Truths, one, truths, valid
from zebra_assets.errors import DataInvalid

ROW_BYTES = 16 << 10  # on an average; a block of such rows takes 1 GB
FREE_BYTES = 256 << 20  # below which rows may be as wide as they like: most datasets of documents are small


class OutOfOrder(Exception):
    """The source does not hand its rows over in key order; they must be sorted first. Never reaches people."""


@dataclass(frozen=True)
class Block:
    """Consecutive rows of the dataset in canonical order."""

    number: int
    first_row: int
    rows: pa.Table
    came_from: pa.Array | None = None
    """Position in the source of each row; None where rows stand in source order."""
    before: pa.Table | None = None
    """The key of the row just before the first, for what must be told across the border; None for block 0."""


def blocks(batches: Iterable[pa.RecordBatch], key: list[str], *, positions: bool = False, rows: int = BLOCK_ROWS) -> Iterator[Block]:
    """Cut batches into blocks.

    Args:
        batches: canonical columns; with ``positions`` one more column at the end, each row's position in the source.
        key: the columns whose order is canonical; empty means that rows stand as they came.

    Raises:
        OutOfOrder: a row's key is below the one before it.
    """
    number, before = 0, None
    for table in _cut(batches, rows):
        came_from = None
        if positions:
            came_from = one(table.column(table.num_columns - 1))
            table = table.remove_column(table.num_columns - 1)
        keys = table.select(key)
        if key and not ascending(keys if before is None else pa.concat_tables([before, keys]), key):
            raise OutOfOrder
        yield Block(number, number * rows, table, came_from, before)
        number, before = number + 1, _last(keys) if key else None


def ascending(keys: pa.Table, key: list[str]) -> bool:
    """Whether no row's key is below the one before; equal keys are for `validate` to tell, and so are nulls."""
    if keys.num_rows < 2:
        return True
    keys = keys.combine_chunks()
    before, after = keys.slice(0, keys.num_rows - 1), keys.slice(1)
    fine: Truths | None = None
    for name in reversed(key):  # (a, b) <= (c, d)  is  a < c or (a = c and b <= d)
        if fine is None:
            fine = _truth(pc.less_equal(before[name], after[name]))
        else:
            fine = _truth(pc.less(before[name], after[name])) | (_truth(pc.equal(before[name], after[name])) & fine)
    return fine is None or bool(fine.all())


def _truth(answers: pa.ChunkedArray) -> Truths:
    return truths(answers) | ~valid(answers)


def _cut(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Tables of exactly ``rows`` rows, the last one of at most so many, in as many chunks as they came: whoever works on one puts
    them together, beside the others."""
    held: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        size += batch.nbytes
        read = count + batch.num_rows
        if size > max(FREE_BYTES, ROW_BYTES * read):
            raise DataInvalid(
                f"{read:,} rows take {size >> 20:,} MB, more than {ROW_BYTES >> 10} KB each: {rows:,} of them would not fit into memory.",
                fix="keep large cells (documents, images) in files of their own, and their paths in the dataset",
            )
        at = 0
        while count + batch.num_rows - at >= rows:
            held.append(batch.slice(at, rows - count))
            yield pa.Table.from_batches(held)
            at, held, count, size = at + rows - count, [], 0, 0
        if at < batch.num_rows:
            held.append(batch.slice(at) if at else batch)
            count += batch.num_rows - at
            size = size or held[-1].nbytes
    if held:
        yield pa.Table.from_batches(held)


def _last(keys: pa.Table) -> pa.Table:
    """The last row, copied: a slice would keep the whole block in memory.

    Not by `take`, which makes an array of a list, for which pyarrow imports pandas: 0.17 s in which no block is handed out.
    """
    return pa.table([pa.repeat(keys[name][keys.num_rows - 1], 1) for name in keys.column_names], names=keys.column_names)


def twice(found: Iterable[Block], look: Callable[[pa.Table], object], folder: Path, *, then: Callable[[], object]) -> Iterator[Block]:
    """The same blocks, after ``look`` has seen all of them and ``then`` was called.

    For what must know the whole before it can judge a block.

    Args:
        folder: where the rows wait, once, compressed.
    """
    path, outlines = folder / "twice.arrow", []
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(path), "wb") as out:
        writer = None
        for block in found:
            look(block.rows)
            writer = writer or pa.ipc.new_file(out, block.rows.schema, options=options)
            writer.write_table(block.rows.combine_chunks())
            outlines.append(replace(block, rows=block.rows.slice(0, 0)))
        if writer is None:
            return
        writer.close()
    then()
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for outline in outlines:
            yield replace(outline, rows=pa.Table.from_batches([reader.get_batch(outline.number)]))
