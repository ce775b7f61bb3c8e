"""Parquet and Arrow IPC files, read in batches and only the declared columns."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zebra_assets.contracts.dataset_spec import Dtype
from zebra_assets.datasets.connector import BATCH_ROWS, match_columns


def read(file: Path, columns: Mapping[str, Dtype], where: str, kind: str) -> Iterator[pa.RecordBatch]:
    """Batches with the columns' stored types."""
    if kind == "parquet":
        with pq.ParquetFile(file) as parquet:
            wanted = match_columns(parquet.schema_arrow.names, columns, where)
            yield from parquet.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
        return
    with pa.memory_map(str(file)) as source:
        try:
            batches = pa.ipc.open_file(source)
            each: Iterator[pa.RecordBatch] = (batches.get_batch(i) for i in range(batches.num_record_batches))
        except pa.ArrowInvalid:  # the streaming form of the format
            source.seek(0)
            batches = pa.ipc.open_stream(source)
            each = iter(batches)
        wanted = match_columns(batches.schema.names, columns, where)
        for batch in each:
            yield batch.select(wanted)
