"""duckdb: COPY of read_csv to Parquet, sha256, min/max from the footer.    python with_duckdb.py IN.csv OUT.parquet

Explicit columns, so that nothing is sniffed, and `preserve_insertion_order = false`, as its performance guide advises for
imports and exports.
"""

import sys

import duckdb
from columns import types
from said import say

NAMES = {"int64": "BIGINT", "float64": "DOUBLE", "string": "VARCHAR", "bool": "BOOLEAN", "date": "DATE", "timestamp": "TIMESTAMP"}


def main(source: str, out: str) -> None:
    base = duckdb.connect()
    base.execute("SET preserve_insertion_order = false")
    base.execute(
        f"COPY (SELECT * FROM read_csv(?, columns = {types(NAMES)}, header = true, auto_detect = false, delim = ',', quote = '\"'))"
        f" TO '{out}' (FORMAT parquet)",
        [source],
    )
    described = base.execute(
        "SELECT path_in_schema, min(stats_min_value), max(stats_max_value), sum(stats_null_count), sum(num_values)"
        " FROM parquet_metadata(?) GROUP BY ALL",
        [out],
    ).fetchall()
    say(out, int(described[0][4]), len(described))


if __name__ == "__main__":
    main(*sys.argv[1:])
