"""The recipe's rules as a pandera schema, for notebooks and checks over pandas frames: the same verdict as `validate`.

Ranges, sets and lengths are pandera's own checks; patterns and rules across columns run through the same Arrow kernels as the
ingest, because Python's `re` is not RE2 and pandas' nulls are not SQL's. pandera takes 1.0 s to import, so it is imported
only when asked for. Called by people, from notebooks and scripts; the ingest does without.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import SPLITS, ColumnSpec, DatasetSpec, anchored
from zebra_assets.datasets.dtypes import to_dtype
from zebra_assets.datasets.rules import Rule, rules_of

if TYPE_CHECKING:
    import pandas
    import pandera.pandas

PANDAS = {"int64": "Int64", "float64": "float64", "string": "string", "bool": "boolean", "timestamp": "datetime64[us, UTC]", "date": None}


def pandera_schema(spec: DatasetSpec) -> "pandera.pandas.DataFrameSchema":
    """The recipe's rules as a pandera schema; what it refuses is what an ingest refuses.

    Dtypes are pandas' nullable ones (Int64, string, boolean) and coerced; `date` columns stay objects. A null or NaN breaks
    nothing but nullability and the share of nulls. Leaks between splits are not part of it.
    """
    import pandera.pandas as pandera

    def column(name: str, c: ColumnSpec) -> pandera.Column:
        checks = [*_ranges(c), *_wholes(c, spec.expectations.null_limit(name))]
        if spec.splits.strategy == "explicit" and spec.splits.column == name:
            checks.append(pandera.Check.isin(SPLITS))
        dtype = PANDAS[c.dtype]
        return pandera.Column(dtype, checks, nullable=c.nullable, coerce=dtype is not None, description=c.description)

    across = [_across(rule, spec) for rule in rules_of(spec)[-len(spec.rules) :]] if spec.rules else []
    return pandera.DataFrameSchema(
        {name: column(name, c) for name, c in spec.columns.items()}, checks=[*_size(spec), *across], unique=spec.key or None, name=spec.name
    )


def _ranges(c: ColumnSpec) -> "Iterator[pandera.pandas.Check]":
    import pandera.pandas as pandera

    whole = c.dtype == "int64"  # then the bounds are whole too, or integers beyond 2**53 would be rounded to compare
    if c.min is not None:
        yield pandera.Check.ge(math.ceil(c.min) if whole else c.min)
    if c.max is not None:
        yield pandera.Check.le(math.floor(c.max) if whole else c.max)
    if c.values is not None:
        yield pandera.Check.isin(c.values)
    if c.min_length is not None or c.max_length is not None:
        yield pandera.Check.str_length(c.min_length, c.max_length)


def _wholes(c: ColumnSpec, most_null: float) -> "Iterator[pandera.pandas.Check]":
    """Checks that pandera has no equal of."""
    import pandera.pandas as pandera

    if c.pattern is not None:
        yield pandera.Check(lambda cells: _matching(cells, str(c.pattern)), name=f"pattern {c.pattern}")
    if c.unique:  # pandera's own takes a second null for a repeat; a check sees no nulls
        yield pandera.Check(lambda cells: ~cells.duplicated(), name="unique")
    if c.nullable:
        yield pandera.Check(lambda cells: bool(cells.isna().mean() <= most_null), name="null fraction", ignore_na=False)


def _size(spec: DatasetSpec) -> "Iterator[pandera.pandas.Check]":
    import pandera.pandas as pandera

    least, most = spec.expectations.min_rows, spec.expectations.max_rows
    yield pandera.Check(lambda frame: len(frame) >= least, name=f"min_rows {least}", ignore_na=False)
    if most is not None:
        yield pandera.Check(lambda frame: len(frame) <= most, name=f"max_rows {most}", ignore_na=False)


def _across(rule: Rule, spec: DatasetSpec) -> "pandera.pandas.Check":
    import pandera.pandas as pandera

    def holds(frame: "pandas.DataFrame") -> Any:
        assert rule.broken is not None
        block = pa.table({name: _arrow(frame[name], spec.columns[name]) for name in rule.columns})
        return _unbroken(rule.broken(block), frame)

    return pandera.Check(holds, name=rule.name, ignore_na=False)


def _matching(cells: "pandas.Series[Any]", pattern: str) -> Any:
    texts = pa.Array.from_pandas(cells).cast(pa.string())
    return _unbroken(pc.invert(pc.match_substring_regex(texts, anchored(pattern))), cells)


def _arrow(cells: "pandas.Series[Any]", c: ColumnSpec) -> pa.Array:
    return to_dtype(pa.Array.from_pandas(cells), c.dtype)


def _unbroken(broken: pa.Array | pa.ChunkedArray, like: Any) -> Any:
    """Truth per row of ``like``, which is a frame or a series; pandera reports the rows by their index."""
    import pandas

    return pandas.Series(~np.asarray(pc.fill_null(broken, False), dtype=bool), index=like.index)
