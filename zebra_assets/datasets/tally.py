"""How a column's rows fall into the bins of one summary, counted exactly: what two manifests' distributions are compared by.

A summary's own counts may be sketched, and another summary has other bins; spreading the one over the other put psi up to a
quarter off. Whoever reads the rows anyway counts both sides over the same bins instead. Called by `diff`.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.manifest import ColumnStats

Counts = np.ndarray[Any, np.dtype[np.int64]]


class Counted(NamedTuple):
    """Rows of one column: per cell, without a value, in all.

    The cells of a number are what lies below the summary's range, its bins, and what lies above; of anything else the
    summary's values in its order, and all other values together.
    """

    cells: list[int]
    nulls: int
    rows: int


class Tally:
    """Counts one column, batch by batch. Memory: one integer a cell."""

    def __init__(self, stats: ColumnStats) -> None:
        self._stats = stats
        self._numeric = stats.kind == "numeric"
        self._edges = np.asarray(stats.edges, dtype=np.float64)
        self._values = pa.array(stats.values, pa.string())
        self._cells: Counts = np.zeros(max(len(stats.counts), 0) + (2 if self._numeric else 1), dtype=np.int64)
        self._nulls = self._rows = 0

    def add(self, values: pa.ChunkedArray) -> None:
        """Count a batch, of any of the six canonical types."""
        present = pc.drop_null(values)
        if self._numeric:
            present = present.to_numpy().astype(np.float64)
            present = present[~np.isnan(present)]
        at = self._bins(present) if self._numeric else self._listed(present)
        self._rows += len(values)
        self._nulls += len(values) - len(present)
        self._cells += np.bincount(at, minlength=len(self._cells))

    def counted(self) -> Counted:
        """What was counted so far."""
        return Counted([int(c) for c in self._cells], self._nulls, self._rows)

    def _bins(self, numbers: "np.ndarray[Any, np.dtype[np.float64]]") -> Counts:
        """Closed below, open above, the last bin closed on both sides: as `ColumnStats` reads its edges."""
        bins, edges = len(self._stats.counts), self._edges
        if not bins:
            return np.ones(len(numbers), dtype=np.int64)
        low = edges[0] if self._stats.min is None else min(edges[0], self._stats.min)
        high = edges[-1] if self._stats.max is None else max(edges[-1], self._stats.max)
        cells = np.clip(np.searchsorted(edges, numbers, side="right"), 1, bins)
        cells[numbers < low], cells[numbers > high] = 0, bins + 1
        return cells

    def _listed(self, values: pa.ChunkedArray) -> Counts:
        texts = values if values.type == pa.string() else values.cast(pa.string())
        return np.asarray(pc.fill_null(pc.index_in(texts, self._values), len(self._values)).to_numpy(), dtype=np.int64)
