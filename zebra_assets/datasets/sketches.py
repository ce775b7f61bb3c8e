"""What stays of a column that is too large to keep: Apache DataSketches for quantiles and frequent text, and distinct counts.

Kilobytes each whatever the rows, mergeable, and as good after a merge as before it (docs/summaries.md has the bounds).
When a column is small enough to be kept exactly is decided in `numbers` and `words`, which call this.
"""

from math import sqrt
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.datasets.row_hash import row_hashes

Floats = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]

KLL_K = 800  # 19 KB; ranks within 0.35 % of the rows, bins within 0.45 %, each with 99 % confidence
KMV_K = 2048  # 16 KB; standard error 1 / sqrt(k - 2) = 2.2 %
FREQUENT_LG = 11  # 1,536 counters; a count is short by at most 0.17 % of the rows, usually far less
ROOM = 2048  # values of a block that may reach the counters
LONGEST = 256  # bytes of a text that is kept; one longer is counted, never listed


class Distinct:
    """How many different values: the `KMV_K` smallest hashes (Bar-Yossef et al. 2002; estimator of Beyer et al. 2007).

    A set of hashes merges in any order to the same. DataSketches has HLL and CPC for this, but their Python bindings take one
    value per call: 0.5 s of interpreter time per column of 2.5 M rows, where this takes 0.03 s.
    """

    def __init__(self, kept: Hashes | None = None) -> None:
        self.kept: Hashes = np.empty(0, dtype=np.uint64) if kept is None else kept

    def add(self, hashes: Hashes) -> None:
        """Count the values behind ``hashes``, in any order and number."""
        if len(self.kept) == KMV_K:
            hashes = hashes[hashes < self.kept[-1]]
        if len(hashes):
            found = np.sort(np.concatenate((self.kept, hashes)))  # np.unique hashes them first: 8 times slower here
            self.kept = found[np.concatenate(([True], found[1:] != found[:-1]))][:KMV_K].copy()

    def estimate(self) -> int:
        """Exact below `KMV_K` values."""
        if len(self.kept) < KMV_K:
            return len(self.kept)
        return round((KMV_K - 1) / (float(self.kept[-1]) / 2.0**64))


class Quantiles:
    """Moments, extremes, quantiles and distinct count of finite numbers.

    The binding's coin is not seeded, so equal numbers give slightly different quantiles each time, within the bound.
    """

    def __init__(self) -> None:
        from datasketches import kll_doubles_sketch

        self._kll = kll_doubles_sketch(KLL_K)
        self._distinct = Distinct()
        self.cells, self._mean, self._m2 = 0, 0.0, 0.0

    def add(self, ordered: Floats) -> None:
        """Count at least one number, ascending: 32 ms per 2.5 M with the sort, where KLL takes 80 ms for unsorted ones."""
        self._kll.update(ordered)
        self._distinct.add(row_hashes(pa.table({"": pa.array(ordered)})))
        with np.errstate(over="ignore", invalid="ignore"):
            self._shift(len(ordered), float(ordered.mean()), float(ordered.var()) * len(ordered))

    def merge(self, other: "Quantiles") -> None:
        """Count all that ``other`` counted."""
        self._kll.merge(other._kll)
        self._distinct.add(other._distinct.kept)
        self._shift(other.cells, other._mean, other._m2)

    def bins(self, count: int) -> tuple[Floats, Counts]:
        """Ascending edges of about ``count`` bins of equal mass, at most count + 1 edges, and the numbers in each bin."""
        inner = self._kll.get_quantiles(np.linspace(0, 1, count + 1)[1:-1].tolist())
        edges = np.unique([self._kll.get_min_value(), *inner, self._kll.get_max_value()])  # the extremes are exact
        shares = [0.0, *(self._kll.get_cdf(edges[1:-1].tolist()) if len(edges) > 2 else [1.0])]
        return edges, np.diff(np.rint(np.array(shares) * self.cells)).astype(np.int64)

    def facts(self) -> dict[str, Any]:
        """Mean, standard deviation (population), distinct estimate, and the error of `bins`."""
        std = sqrt(self._m2 / self.cells) if self._m2 >= 0 else self._m2  # NaN after an overflow
        return {"mean": self._mean, "std": std, "distinct": self._distinct.estimate(), "error": self._kll.normalized_rank_error(True)}

    def to_row(self) -> dict[str, Any]:
        """What `from_row` reads."""
        return {
            "cells": self.cells,
            "mean": self._mean,
            "m2": self._m2,
            "sketch": self._kll.serialize(),
            "hashes": self._distinct.kept,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """Raises `ValueError` where the bytes are no sketch."""
        found = cls()
        found._kll = _deserialised(type(found._kll), row["sketch"])
        found._distinct = Distinct(np.asarray(row["hashes"], dtype=np.uint64))
        found.cells, found._mean, found._m2 = row["cells"], row["mean"], row["m2"]
        return found

    def _shift(self, cells: int, mean: float, m2: float) -> None:
        """Chan, Golub and LeVeque 1979: moments of two parts from the moments of each."""
        total, delta = self.cells + cells, mean - self._mean
        if total:
            self._mean += delta * cells / total
            self._m2 += m2 + delta * delta * self.cells / total * cells
        self.cells = total


class Frequent:
    """The most frequent values and the distinct count of text, bools, dates or times."""

    def __init__(self) -> None:
        from datasketches import frequent_strings_sketch

        self._frequent = frequent_strings_sketch(FREQUENT_LG)
        self._distinct = Distinct()
        self._dropped = 0

    def add(self, values: pa.Array, counts: Counts) -> None:
        """Count different ``values`` without nulls, each with its rows.

        Only the block's `ROOM` most frequent reach the sketch, one call each: with 65,536 different values per block the calls
        for all would take 10 ms a block. A value that is left out is short by at most the block's 2,049th largest count.
        """
        self._distinct.add(hashes(values))
        if len(counts) > ROOM:
            floor = int(np.partition(counts, -ROOM - 1)[-ROOM - 1])
            kept = counts > floor
            values, counts = values.filter(pa.array(kept)), counts[kept]
            self._dropped += floor
        self._count(values, counts)

    def _count(self, values: pa.Array, counts: Counts | pa.Array) -> None:
        for text, count in zip(values.cast(pa.string()).to_pylist(), counts.tolist(), strict=True):
            self._frequent.update(text, count)

    def add_rows(self, values: pa.Array) -> float:
        """Count rows without nulls, none longer than `LONGEST`: to the same end as `add` of their different values.

        Equal hashes tell which values are frequent, and only those are looked at: where all differ, none is.

        Returns:
            The share of values that differ, 0 to 1.
        """
        found = hashes(values)
        ordered = np.sort(found)
        starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
        different, counts = ordered[starts], np.diff(starts, append=len(ordered))
        self._distinct.add(different)
        share = len(different) / len(values)
        if len(counts) > ROOM:
            floor = int(np.partition(counts, -ROOM - 1)[-ROOM - 1])
            different = different[counts > floor]
            self._dropped += floor
            if not len(different):
                return share
            nearest = np.minimum(np.searchsorted(different, found), len(different) - 1)
            values = values.filter(pa.array(different[nearest] == found))
        self._count(*pc.value_counts(values).flatten())
        return share

    def merge(self, other: "Frequent") -> None:
        """Count all that ``other`` counted."""
        self._frequent.merge(other._frequent)
        self._distinct.add(other._distinct.kept)
        self._dropped += other._dropped

    def short(self) -> int:
        """By how many rows a count may be below the truth; it is never above."""
        return int(self._frequent.get_upper_bound("") - self._frequent.get_lower_bound("") + self._dropped)

    def top(self, most: int) -> list[tuple[str, int]]:
        """Up to ``most`` values with their counts, most frequent first, ties by text; none that error alone could have listed."""
        from datasketches import frequent_items_error_type

        found = self._frequent.get_frequent_items(frequent_items_error_type.NO_FALSE_POSITIVES)
        least = self.short()
        pairs = [(text, low) for text, _, low, _ in found if low > least]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:most]

    def distinct(self) -> int:
        """About how many different values."""
        return self._distinct.estimate()

    def to_row(self) -> dict[str, Any]:
        """What `from_row` reads."""
        return {"dropped": self._dropped, "sketch": self._frequent.serialize(), "hashes": self._distinct.kept}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """Raises `ValueError` where the bytes are no sketch."""
        found = cls()
        found._frequent = _deserialised(type(found._frequent), row["sketch"])
        found._distinct = Distinct(np.asarray(row["hashes"], dtype=np.uint64))
        found._dropped = row["dropped"]
        return found


def hashes(values: pa.Array) -> Hashes:
    """One hash per value; a text longer than `LONGEST` is told from others by its first 256 characters and its length."""
    if values.type != pa.string() or not len(values):
        return row_hashes(pa.table({"": values}))
    lengths = pc.binary_length(values)
    if pc.max(lengths).as_py() <= LONGEST:
        return row_hashes(pa.table({"": values}))
    long = pc.greater(lengths, pa.scalar(LONGEST, pa.int32()))
    heads = pc.utf8_slice_codeunits(values.filter(long), 0, LONGEST)
    return np.concatenate(
        (row_hashes(pa.table({"": values.filter(pc.invert(long))})), row_hashes(pa.table({"": heads, "length": lengths.filter(long)})))
    )


def _deserialised(kind: Any, raw: bytes) -> Any:
    try:
        return kind.deserialize(raw)
    except Exception as error:  # the binding raises RuntimeError, IndexError or ValueError, depending on where it stumbles
        raise ValueError(f"no {kind.__name__}: {error}") from error
