"""A numeric column's summary while rows stream by: every value with its rows while that is small, sketches from then on.

Called by `summary`; what the sketches are is in `sketches`.
"""

from collections.abc import Iterator
from math import isfinite
from typing import Any, Self

import numpy as np
import pyarrow as pa

from zebra_assets.contracts.manifest import ColumnStats
from zebra_assets.datasets.cells import numbers as stored
from zebra_assets.datasets.sketches import Counts, Floats, Quantiles

BINS = 64
RETAINED = 131_072  # rows of a column that are always exact, in whatever order they come: at most 2 MB
TALLIED = 1_024  # different values that are always exact, however many the rows: 16 KB
MANY = 64  # tallies kept apart: each block looks at all of them
_RUN = 65_536  # rows fed to a sketch at once

Tally = tuple[Floats, Counts]  # ascending different values, and the rows of each


class Numbers:
    """Counts, moments, extremes and bins of a numeric column. Infinite cells are counted as rows and otherwise left out."""

    kind = "numeric"

    def __init__(self, retained: int = RETAINED) -> None:
        self.rows = self.nulls = 0
        self._retained, self._cells = retained, 0
        self._tallies: list[Tally] = []
        self._sketch: Quantiles | None = None

    def add(self, values: pa.Array) -> None:
        """Count int64 or float64 values; null and NaN are missing."""
        present = values.drop_null() if values.null_count else values
        cells = stored(present).astype(np.float64, copy=False)
        self.rows += len(values)
        self.nulls += values.null_count
        finite = np.isfinite(cells)
        if not finite.all():
            self.nulls += int(np.isnan(cells).sum())
            cells = cells[finite]
        if len(cells):
            self._take(np.sort(cells))

    def merge(self, other: "Numbers") -> None:
        """Count all that ``other`` counted."""
        self.rows, self.nulls, self._cells = self.rows + other.rows, self.nulls + other.nulls, self._cells + other._cells
        self._tallies += other._tallies
        if other._sketch is not None:
            self._sketch = self._sketch or Quantiles()
            self._sketch.merge(other._sketch)
        self._settle()

    def stats(self) -> ColumnStats:
        """Moments (population), extremes and quantile bins over the finite cells."""
        base: dict[str, Any] = {"kind": "numeric", "rows": self.rows, "nulls": self.nulls}
        if not self._cells:
            return ColumnStats(**base, distinct=0)
        if self._sketch is None:
            values, held = tally = combined(self._tallies)
            edges, facts = bin_edges(tally), _facts(tally)
            starts = np.concatenate(([0], np.cumsum(held)))[np.searchsorted(values, edges)]
            starts[-1] = self._cells  # the last bin is closed above
            counts = np.diff(starts)
        else:
            edges, counts = self._sketch.bins(BINS)
            facts = self._sketch.facts()
        facts.update({name: facts[name] if isfinite(facts[name]) else None for name in ("mean", "std")})
        return ColumnStats(**base, **facts, min=float(edges[0]), max=float(edges[-1]), edges=edges.tolist(), counts=counts.tolist())

    def to_row(self) -> dict[str, Any]:
        """What `from_row` reads: exact with at most `TALLIED` values, else sketched, so that no column is more than 40 KB."""
        row = {"kind": self.kind, "rows": self.rows, "nulls": self.nulls, "cells": self._cells}
        if self._sketch is not None:
            return row | self._sketch.to_row()
        if not self._cells:
            return row
        values, counts = tally = combined(self._tallies)
        return row | (_sketched([tally]).to_row() if len(values) > TALLIED else {"numbers": values, "counts": counts})

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """Raises `ValueError` where the sketch is none."""
        found = cls()
        found.rows, found.nulls, found._cells = row["rows"], row["nulls"], row["cells"]
        if row["sketch"] is not None:
            found._sketch = Quantiles.from_row(row)
        elif row["numbers"]:
            found._tallies = [(np.asarray(row["numbers"], dtype=np.float64), np.asarray(row["counts"], dtype=np.int64))]
        return found

    def _take(self, ordered: Floats) -> None:
        self._cells += len(ordered)
        if self._sketch is not None:
            self._sketch.add(ordered)
        else:
            self._tallies.append(tallied(ordered))
            self._settle()

    def _settle(self) -> None:
        """Combine tallies that have become many; sketch them if they are too many even so."""
        if self._sketch is None:
            many, sizes = len(self._tallies) > MANY, [len(values) for values, _ in self._tallies]
            if not many and (self._cells <= self._retained or sum(sizes) <= 4 * TALLIED):
                return
            if many or max(sizes) <= TALLIED:
                self._tallies = [tally := combined(self._tallies)]
                if self._cells <= self._retained or len(tally[0]) <= TALLIED:
                    return
        self._sketch, self._tallies = _sketched(self._tallies, self._sketch), []


def tallied(ordered: Floats) -> Tally:
    """Ascending numbers, at least one, as different values and the rows of each."""
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    if len(starts) == len(ordered):
        return ordered, np.broadcast_to(np.int64(1), len(ordered))  # ones that take no room
    return ordered[starts], np.diff(starts, append=len(ordered))


def combined(tallies: list[Tally]) -> Tally:
    """Several tallies, at least one, as one."""
    if len(tallies) == 1:
        return tallies[0]
    values, counts = (np.concatenate(side) for side in zip(*tallies, strict=True))
    order = np.argsort(values, kind="stable")
    values = values[order]
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return values[starts], np.add.reduceat(counts[order], starts)


def bin_edges(tally: Tally) -> Floats:
    """Ascending edges as `ColumnStats` reads them: each value its own bin while there are at most 64, else quantiles.

    With few values the last one stands twice, because a bin is open above and the last one closed: [0, 1, 1] for 0/1.
    Quantiles interpolate linearly (Hyndman and Fan 1996, type 7).
    """
    values, counts = tally
    if len(values) <= BINS:
        return np.append(values, values[-1])
    ends = np.cumsum(counts)
    at = np.linspace(0, ends[-1] - 1, BINS + 1)
    low = np.floor(at).astype(np.int64)
    high, share = np.minimum(low + 1, ends[-1] - 1), at - low
    below, above = (values[np.searchsorted(ends, rank, side="right")] for rank in (low, high))
    return np.unique(below * (1 - share) + above * share)


def _facts(tally: Tally) -> dict[str, Any]:
    values, counts = tally
    with np.errstate(over="ignore", invalid="ignore"):  # not np.dot: BLAS spins up threads for it
        mean = float((values * counts).sum() / counts.sum())
        std = float(np.sqrt(((values - mean) ** 2 * counts).sum() / counts.sum()))
    return {"mean": mean, "std": std, "distinct": len(values)}


def _sketched(tallies: list[Tally], sketch: Quantiles | None = None) -> Quantiles:
    sketch = sketch or Quantiles()
    for tally in tallies:
        for run in _runs(tally):
            sketch.add(run)
    return sketch


def _runs(tally: Tally) -> Iterator[Floats]:
    """A tally's rows again, ascending, some at a time: a 0/1 column of a billion rows would not fit."""
    values, counts = tally
    ends = np.cumsum(counts)
    for start in range(0, int(ends[-1]), _RUN):
        rows = np.arange(start, min(start + _RUN, int(ends[-1])))
        yield values[np.searchsorted(ends, rows, side="right")]
