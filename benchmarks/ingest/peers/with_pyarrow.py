"""pyarrow: CSV to Parquet in a stream of batches, sha256, min/max from the footer.    python with_pyarrow.py IN.csv OUT.parquet

Explicit column types and `pyarrow.dataset`, whose scanner parses on all cores while the writer takes batches as they come.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from columns import types
from said import say

NAMES = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}


def main(source: str, out: str) -> None:
    convert = pacsv.ConvertOptions(column_types=types(NAMES), strings_can_be_null=True, quoted_strings_can_be_null=False)
    read = ds.CsvFileFormat(convert_options=convert, read_options=pacsv.ReadOptions(block_size=8 << 20))
    folder = Path(out)
    ds.write_dataset(
        ds.dataset(source, format=read),
        folder,
        format="parquet",
        basename_template="part-{i}.parquet",
        min_rows_per_group=1 << 17,
        max_rows_per_group=1 << 17,
        preserve_order=True,
    )
    [part] = folder.iterdir()
    footer = pq.ParquetFile(part).metadata
    described = set()
    for group in range(footer.num_row_groups):
        for column in range(footer.num_columns):
            chunk = footer.row_group(group).column(column)
            if chunk.statistics.has_min_max:
                _ = chunk.statistics.min, chunk.statistics.max, chunk.statistics.null_count
                described.add(chunk.path_in_schema)
    say(part, footer.num_rows, len(described))


if __name__ == "__main__":
    main(*sys.argv[1:])
