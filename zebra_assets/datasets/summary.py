"""Summaries of the train split, kept in the manifest: the baseline that drift is measured against without raw rows.

Numeric columns keep up to 64 quantile bins, others their 50 most frequent values. Key columns are left out, and so are
the values of sensitive text columns, unless the recipe itself lists them. Called by `ingest`.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.manifest import ColumnStats

Floats = np.ndarray[Any, np.dtype[np.float64]]
BINS = 64
TOP = 50


def summarise(train: pa.Table, spec: DatasetSpec) -> dict[str, ColumnStats]:
    """Summary per column that is not a key."""
    names = [name for name in spec.columns if name not in spec.key]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # numpy's sort, most of the work, releases the GIL
        return dict(zip(names, pool.map(lambda name: _summary(train[name], name, spec), names), strict=True))


def null_fractions(table: pa.Table) -> dict[str, float]:
    """Share of null or NaN cells per column, 0 to 1."""
    return {name: missing(table[name]) / max(table.num_rows, 1) for name in table.column_names}


def missing(values: pa.ChunkedArray) -> int:
    """How many cells are null or NaN."""
    nan = pc.sum(pc.is_nan(values)).as_py() or 0 if pa.types.is_floating(values.type) else 0
    return int(values.null_count + nan)


def _summary(values: pa.ChunkedArray, name: str, spec: DatasetSpec) -> ColumnStats:
    column = spec.columns[name]
    if column.dtype in ("int64", "float64"):
        return numeric(values)
    return categorical(values, hide=name in spec.sensitive and column.dtype == "string" and column.values is None)


def numeric(values: pa.ChunkedArray) -> ColumnStats:
    """Moments (population), extremes and quantile bins over the finite cells."""
    cells = pc.drop_null(values).to_numpy().astype(np.float64)
    cells = np.sort(cells[np.isfinite(cells)])
    base: dict[str, Any] = {"kind": "numeric", "rows": len(values), "nulls": missing(values)}
    if not len(cells):
        return ColumnStats(**base)
    edges = bin_edges(cells)
    starts = np.searchsorted(cells, edges)
    starts[-1] = len(cells)  # the last bin is closed above
    with np.errstate(over="ignore"):
        mean, std = float(cells.mean()), float(cells.std())
    return ColumnStats(
        **base,
        mean=mean if np.isfinite(mean) else None,
        std=std if np.isfinite(std) else None,
        min=float(cells[0]),
        max=float(cells[-1]),
        edges=[float(e) for e in edges],
        counts=[int(c) for c in np.diff(starts)],
    )


def bin_edges(cells: Floats) -> Floats:
    """Ascending edges as `ColumnStats` reads them: each value its own bin while there are at most 64, else quantiles.

    With few values the last one stands twice, because a bin is open above and the last one closed: [0, 1, 1] for 0/1.
    Quantiles interpolate linearly (Hyndman and Fan 1996, type 7).

    Args:
        cells: ascending and finite, at least one.
    """
    distinct = cells[np.flatnonzero(np.diff(cells, prepend=-np.inf))]
    if len(distinct) <= BINS:
        return np.append(distinct, distinct[-1])
    at = np.linspace(0, len(cells) - 1, BINS + 1)
    low = np.floor(at).astype(np.int64)
    high, share = np.minimum(low + 1, len(cells) - 1), at - low
    return np.unique(cells[low] * (1 - share) + cells[high] * share)


def categorical(values: pa.ChunkedArray, *, hide: bool = False) -> ColumnStats:
    """The most frequent values as text (true and false for bool, ISO 8601 for dates), ties by text; ``hide`` counts only."""
    filled = pc.drop_null(values)
    if hide:
        return ColumnStats(kind="categorical", rows=len(values), nulls=values.null_count, other=len(filled))
    counted = pc.value_counts(filled.cast(pa.string()) if filled.type != pa.string() else filled)
    pairs = pa.table({"value": counted.field("values"), "count": counted.field("counts")})
    top = pairs.sort_by([("count", "descending"), ("value", "ascending")]).slice(0, TOP)
    counts = [int(c) for c in top["count"].to_pylist()]
    return ColumnStats(
        kind="categorical",
        rows=len(values),
        nulls=values.null_count,
        values=top["value"].to_pylist(),
        counts=counts,
        other=len(filled) - sum(counts),
    )
