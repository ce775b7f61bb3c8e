"""pandas: read_csv, to_parquet, sha256, describe.    python with_pandas.py IN.csv OUT.parquet c|pyarrow

Explicit dtypes as pandas' guide to scaling asks for. `c` is the default engine; `pyarrow` is the engine and the dtype backend
that the documentation names as the fast pair.
"""

import sys

import pandas as pd
from columns import COLUMNS, types
from said import say

PLAIN = {"int64": "int64", "float64": "float64", "string": "str", "bool": "bool"}
ARROW = {"int64": "int64[pyarrow]", "float64": "float64[pyarrow]", "string": "string[pyarrow]", "bool": "bool[pyarrow]"}
TIMES = {name: dtype for name, dtype in COLUMNS.items() if dtype in ("date", "timestamp")}


def read(source: str, engine: str) -> pd.DataFrame:
    if engine == "pyarrow":
        names = {**ARROW, "timestamp": "timestamp[us][pyarrow]", "date": "date32[pyarrow]"}
        return pd.read_csv(source, engine="pyarrow", dtype_backend="pyarrow", dtype=types(names))
    dtypes = {**types({**PLAIN, "timestamp": "", "date": ""}), "items": "Int64"}
    dtypes = {name: dtype for name, dtype in dtypes.items() if name not in TIMES}
    return pd.read_csv(source, dtype=dtypes, parse_dates=list(TIMES), date_format="ISO8601")


def main(source: str, out: str, engine: str) -> None:
    frame = read(source, engine)
    frame.to_parquet(out, index=False)
    described = frame.describe(include="all")
    say(out, len(frame), described.shape[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
