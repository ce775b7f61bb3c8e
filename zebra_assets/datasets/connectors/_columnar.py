"""Parquet and Arrow IPC files, read in batches and only the declared columns, in memory that does not follow their claims.

A batch is at most 64 MiB, however wide its rows. A dictionary lets 700 bytes become 100 GB of text: columns whose
entries could do that stay dictionaries, are measured before they are decoded, and handed out in slices.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.connector import BATCH_ROWS, match_columns
from zebra_assets.datasets.connectors._ipc_bodies import unpacked_bodies
from zebra_assets.datasets.connectors._parquet_pages import DICTIONARY, pages
from zebra_assets.datasets.connectors._unpack import Caps
from zebra_assets.errors import DataInvalid

BATCH_BYTES = 64 << 20
_ENTRY_BYTES = BATCH_BYTES // BATCH_ROWS  # a dictionary of shorter entries cannot make a batch too large


def read(file: Path, columns: Mapping[str, Dtype], where: str, kind: str, caps: Caps) -> Iterator[pa.RecordBatch]:
    """Batches with the columns' stored types; text may come as dictionaries.

    Raises:
        DataInvalid: a column is missing, the file becomes more than ``caps`` allow, or is not what its footer says.
    """
    packed, total = file.stat().st_size, 0
    for batch in _parquet(file, columns, where, caps) if kind == "parquet" else _arrow(file, columns, where, caps):
        for piece in _slices(batch, where, packed, caps):
            size = decoded_bytes(piece)
            total += size
            caps.spend(size, total, packed, where)
            yield piece


def decoded_bytes(batch: pa.RecordBatch) -> int:
    """Bytes of a batch when its dictionaries are written out."""
    return sum(_decoded(column) for column in batch.columns)


def _decoded(column: pa.Array) -> int:
    if not pa.types.is_dictionary(column.type):
        return column.nbytes
    lengths = pc.binary_length(column.dictionary) if _is_text(column.dictionary.type) else None
    if lengths is None:
        return len(column) * 8
    return int(pc.sum(lengths.cast(pa.int64()).take(column.indices)).as_py() or 0) + 4 * len(column)


def _is_text(kind: pa.DataType) -> bool:
    return any(is_it(kind) for is_it in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary))


def _slices(batch: pa.RecordBatch, where: str, packed: int, caps: Caps) -> Iterator[pa.RecordBatch]:
    size = decoded_bytes(batch)
    if size <= BATCH_BYTES or batch.num_rows <= 1:
        yield batch
        return
    Caps(caps.left, caps.most, caps.ratio, caps.columns).spend(size, size, packed, where)  # a look ahead, not yet spent
    half = batch.num_rows // 2
    yield from _slices(batch.slice(0, half), where, packed, caps)
    yield from _slices(batch.slice(half), where, packed, caps)


def _parquet(file: Path, columns: Mapping[str, Dtype], where: str, caps: Caps) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file, buffer_size=1 << 20) as parquet:
        caps.width(parquet.metadata.num_columns, where)
        wanted = match_columns(parquet.schema_arrow.names, columns, where)
        unpacked, suspects = _walk(file, parquet.metadata, set(wanted), where, caps)
    rows = parquet.metadata.num_rows
    width = max(1, unpacked // max(rows, 1))
    batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES // width, BATCH_BYTES // (8 * len(wanted))))
    entries = [name for name in suspects if _longest(file, name, suspects[name]) > _ENTRY_BYTES]
    seen = 0
    # Not mapped into memory: a writer that cuts the file would end the process with SIGBUS.
    with pq.ParquetFile(file, buffer_size=1 << 20, read_dictionary=entries, page_checksum_verification=True) as parquet:
        for batch in parquet.iter_batches(batch_size=batch_rows, columns=wanted):
            seen += batch.num_rows
            yield batch
    if seen != rows:
        raise DataInvalid(
            f"{where} cannot be read as parquet: its footer says {rows:,} rows, but there are {seen:,}.", fix="write the file again"
        )


def _walk(file: Path, footer: pq.FileMetaData, wanted: set[str], where: str, caps: Caps) -> tuple[int, dict[str, list[int]]]:
    """Bytes of all wanted pages when unpacked, and for each column the row groups whose dictionary needs a look."""
    size, unpacked, suspects = file.stat().st_size, 0, dict[str, list[int]]()
    with file.open("rb") as source:
        for group in range(footer.num_row_groups):
            for number in range(footer.num_columns):
                chunk = footer.row_group(group).column(number)
                name = chunk.path_in_schema
                if name.partition(".")[0] not in wanted and name not in wanted:
                    continue
                values = 0
                for page in pages(source, size, chunk, where):
                    unpacked += page.unpacked
                    caps.spend(0, unpacked, size, where)
                    if page.kind != DICTIONARY:
                        values += page.values
                    elif page.unpacked > _ENTRY_BYTES and chunk.physical_type == "BYTE_ARRAY":
                        suspects.setdefault(name, []).append(group)
                if values != chunk.num_values or (name in wanted and values != footer.row_group(group).num_rows):
                    raise DataInvalid(
                        f"{where} cannot be read as parquet: its footer says {footer.row_group(group).num_rows:,} rows, "
                        f"but column {name} has {values:,} values.",
                        fix="write the file again",
                    )
    return unpacked, suspects


def _longest(file: Path, column: str, groups: list[int]) -> int:
    """Bytes of the longest entry in the dictionaries that a column has in these row groups."""
    longest = 0
    with pq.ParquetFile(file, buffer_size=1 << 20, read_dictionary=[column]) as parquet:
        for group in groups:
            first = next(parquet.iter_batches(batch_size=1, row_groups=[group], columns=[column]), None)
            if first is None or not pa.types.is_dictionary(first.column(0).type):
                return BATCH_BYTES
            longest = max(longest, pc.max(pc.binary_length(first.column(0).dictionary)).as_py() or 0)
    return longest


def _arrow(file: Path, columns: Mapping[str, Dtype], where: str, caps: Caps) -> Iterator[pa.RecordBatch]:
    size, unpacked = file.stat().st_size, 0
    for body in unpacked_bodies(file, where):
        unpacked += body
        caps.spend(0, unpacked, size, where)
    with pa.OSFile(str(file), "rb") as source:
        try:
            batches = pa.ipc.open_file(source)
            each: Iterator[pa.RecordBatch] = (batches.get_batch(i) for i in range(batches.num_record_batches))
        except pa.ArrowInvalid:  # the streaming form of the format
            source.seek(0)
            batches = pa.ipc.open_stream(source)
            each = iter(batches)
        caps.width(len(batches.schema.names), where)
        wanted = match_columns(batches.schema.names, columns, where)
        for batch in each:
            yield batch.select(wanted)
