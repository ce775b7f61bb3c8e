"""The summary of a column of text, bools, dates or times while rows stream by: every value with its rows, or a sketch.

Called by `summary`; what the sketch is is in `sketches`. Neither holds a value of a column that is hidden.
"""

from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.manifest import ColumnStats
from zebra_assets.datasets import cells
from zebra_assets.datasets.dtypes import ARROW
from zebra_assets.datasets.numbers import MANY, RETAINED, TALLIED
from zebra_assets.datasets.sketches import LONGEST, Counts, Distinct, Frequent, hashes

TOP = 50
MOSTLY = 0.5  # of a block's values differ: then to hash them all takes less than to find the different ones first
MAX_BYTES = 4 << 20  # of different values kept exactly
_TYPES = {str(kind): kind for kind in ARROW.values()}

Tally = tuple[pa.Array, Counts]  # different values without nulls, and the rows of each


class Words:
    """The most frequent values as text (true and false for bool, ISO 8601 for dates) and how many there are."""

    kind = "categorical"

    def __init__(self, retained: int = RETAINED, *, hide: bool = False) -> None:
        self.rows = self.nulls = 0
        self._retained, self._hide = retained, hide
        self._cells = 0  # rows in the tallies, or once there
        self._different = 0.0  # share of the last block's rows
        self._long = Distinct()
        self._tallies: list[Tally] = []
        self._sketch: Frequent | None = None

    def add(self, values: pa.Array) -> None:
        """Count values; hidden ones by their number alone. No Python per row: a block is counted by value first."""
        self.rows += len(values)
        self.nulls += values.null_count
        if self._hide or len(values) == values.null_count:
            return
        if self._sketch is not None and self._different > MOSTLY and not isinstance(values, pa.DictionaryArray) and not _long(values):
            self._cells += len(values) - values.null_count
            self._different = self._sketch.add_rows(values.drop_null() if values.null_count else values)
            return
        if isinstance(values, pa.DictionaryArray):
            self._take(*_counted(values))
            return
        different, counts = pc.value_counts(values).flatten()
        self._different = len(different) / len(values)
        if different.null_count:
            different, counts = different.drop_null(), counts.filter(different.is_valid())
        self._take(different, cells.numbers(counts))

    def merge(self, other: "Words") -> None:
        """Count all that ``other`` counted."""
        self.rows, self.nulls, self._cells = self.rows + other.rows, self.nulls + other.nulls, self._cells + other._cells
        self._long.add(other._long.kept)
        self._tallies += other._tallies
        if other._sketch is not None:
            self._sketch = self._sketch or Frequent()
            self._sketch.merge(other._sketch)
        self._settle()

    def stats(self) -> ColumnStats:
        """Up to `TOP` values, ties by text; the rest is in `other`."""
        filled = self.rows - self.nulls
        base: dict[str, Any] = {"kind": "categorical", "rows": self.rows, "nulls": self.nulls}
        if self._hide:
            return ColumnStats(**base, other=filled)
        if self._sketch is None:
            different, pairs = _top(self._tallies)
            error = 0.0
        else:
            different, pairs = self._sketch.distinct(), self._sketch.top(TOP)
            error = self._sketch.short() / filled
        values, counts = [value for value, _ in pairs], [count for _, count in pairs]
        different += self._long.estimate()
        return ColumnStats(**base, values=values, counts=counts, other=filled - sum(counts), distinct=different, error=error)

    def to_row(self) -> dict[str, Any]:
        """What `from_row` reads: exact with at most `TALLIED` values, else sketched."""
        row = {"kind": self.kind, "rows": self.rows, "nulls": self.nulls, "cells": self._cells, "hide": self._hide}
        row["long_hashes"] = self._long.kept
        if self._sketch is not None:
            return row | self._sketch.to_row()
        if not self._tallies:
            return row
        tally = combined(self._tallies)
        return row | (_sketched([tally]).to_row() if len(tally[0]) > TALLIED else _exactly(tally))

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """Raises `ValueError` where the sketch is none."""
        found = cls(hide=row["hide"])
        found.rows, found.nulls, found._cells = row["rows"], row["nulls"], row["cells"]
        found._long = Distinct(np.asarray(row["long_hashes"], dtype=np.uint64))
        if row["sketch"] is not None:
            found._sketch = Frequent.from_row(row)
        elif row["texts"]:
            values = pa.array(row["texts"], pa.string()).cast(_TYPES[row["type"]])
            found._tallies = [(values, np.asarray(row["counts"], dtype=np.int64))]
        return found

    def _take(self, values: pa.Array, counts: Counts) -> None:
        if values.type == pa.string():
            long = pc.greater(pc.binary_length(values), pa.scalar(LONGEST, pa.int32()))
            if pc.any(long).as_py():
                self._long.add(hashes(values.filter(long)))
                short = pc.invert(long)
                values, counts = values.filter(short), counts[cells.truths(short)]
        self._cells += int(counts.sum())
        if self._sketch is not None:
            self._sketch.add(values, counts)
        else:
            self._tallies.append((values, counts))
            self._settle()

    def _settle(self) -> None:
        """Combine tallies that have become many; sketch them if they are too many even so."""
        if self._sketch is None:
            many, sizes = len(self._tallies) > MANY, [len(values) for values, _ in self._tallies]
            large = sum(values.nbytes for values, _ in self._tallies) > MAX_BYTES
            if not (many or large) and (self._cells <= self._retained or sum(sizes) <= 4 * TALLIED):
                return
            if many or large or max(sizes) <= TALLIED:
                self._tallies = [tally := combined(self._tallies)]
                if tally[0].nbytes <= MAX_BYTES and (self._cells <= self._retained or len(tally[0]) <= TALLIED):
                    return
        self._sketch, self._tallies = _sketched(self._tallies, self._sketch), []


def _counted(values: pa.DictionaryArray) -> Tally:
    codes = values.indices.drop_null() if values.null_count else values.indices
    counts = np.bincount(cells.numbers(codes), minlength=len(values.dictionary))
    used = counts > 0
    return values.dictionary.filter(pa.array(used)), counts[used]


def _long(values: pa.Array) -> bool:
    return values.type == pa.string() and bool(pc.max(pc.binary_length(values)).as_py() > LONGEST)


def combined(tallies: list[Tally]) -> Tally:
    """Several tallies, at least one, as one."""
    if len(tallies) == 1:
        return tallies[0]
    # Not by `group_by`: its engine is imported with `pyarrow.dataset`, and that with pandas, 0.35 s in which no block is worked on.
    found = cells.one(pa.chunked_array([values for values, _ in tallies])).dictionary_encode()
    rows = np.concatenate([counts for _, counts in tallies])
    summed = np.bincount(cells.numbers(found.indices), weights=rows, minlength=len(found.dictionary))  # exact to 2**53 rows
    return found.dictionary, summed.astype(np.int64)


def _exactly(tally: Tally) -> dict[str, Any]:
    values, counts = tally
    return {"texts": values.cast(pa.string()).to_pylist(), "type": str(values.type), "counts": counts}


def _top(tallies: list[Tally]) -> tuple[int, list[tuple[str, int]]]:
    """How many different values, and the most frequent ones with their rows."""
    if not tallies:
        return 0, []
    values, counts = combined(tallies)
    table = pa.table({"value": values.cast(pa.string()), "count": counts})
    top = table.take(pc.select_k_unstable(table, k=TOP, sort_keys=[("count", "descending"), ("value", "ascending")]))
    return len(values), list(zip(top["value"].to_pylist(), top["count"].to_pylist(), strict=True))


def _sketched(tallies: list[Tally], sketch: Frequent | None = None) -> Frequent:
    sketch = sketch or Frequent()
    for values, counts in tallies:
        sketch.add(values, counts)
    return sketch
