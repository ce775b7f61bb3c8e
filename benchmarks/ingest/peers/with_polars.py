"""polars: scan_csv().sink_parquet(), sha256, min/max/nulls of every column.    python with_polars.py IN.csv OUT.parquet

The lazy scan with an explicit schema, sunk by the streaming engine: what the guide recommends for data beyond memory.
"""

import sys

import polars as pl
from columns import COLUMNS, types
from said import say

NAMES = {
    "int64": pl.Int64,
    "float64": pl.Float64,
    "string": pl.String,
    "bool": pl.Boolean,
    "date": pl.Date,
    "timestamp": pl.Datetime("us"),
}


def main(source: str, out: str) -> None:
    pl.scan_csv(source, schema=types(NAMES)).sink_parquet(out)
    every = pl.all()
    figures = [pl.len().alias("rows"), every.min().name.suffix("_min"), every.max().name.suffix("_max"), every.null_count()]
    row = pl.scan_parquet(out).select(figures).collect(engine="streaming").row(0, named=True)
    say(out, row["rows"], sum(f"{name}_min" in row for name in COLUMNS))


if __name__ == "__main__":
    main(*sys.argv[1:])
