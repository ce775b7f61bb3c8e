"""Exact shares per stratum of a table that no memory holds: which hash is the first to fall into the next split.

Within each value of the stratum's column rows are dealt in the order of their hashes: of n rows the cuts stand at
floor(share * n + 0.5), and equal hashes stay together with the first of them. A row's place therefore hangs on two things
only: its hash, and one threshold per stratum and cut. One pass spills (hash, stratum), one walk over the spill finds the
thresholds; after that any block can be dealt by itself, on any machine. Called by `split`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.datasets import cells
from zebra_assets.datasets.row_hash import Words
from zebra_assets.datasets.spill import RUN, Companions, Spill

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Strata:
    """First `observe` every block, then `settle`, then `deal` each block.

    Memory: the spill's 40 MB, and about 150 bytes for each distinct value of the stratum's column.

    Args:
        upper: where the cuts stand, as shares that ascend: 0.7, 0.85 for 70:15:15.
        scratch: where the spill goes; None keeps 16 bytes a row in memory.
        run: rows in memory before they go there.
    """

    def __init__(self, upper: Floats, scratch: Path | None, *, run: int = RUN) -> None:
        self._upper = upper
        self._spill: Spill | None = Spill(scratch, run=run)
        self._codes: dict[Any, int] = {}
        self._most: Words | None = None  # per stratum and cut the highest hash below the cut ...
        self._open: np.ndarray[Any, np.dtype[np.bool_]] | None = None  # ... unless the cut stands before all rows

    def observe(self, hashes: Words, strata: pa.ChunkedArray) -> None:
        """Take note of one block's rows. Call in one thread; the order of blocks does not matter."""
        assert self._spill is not None, "settled already"
        encoded = _encoded(strata)
        for value in encoded.dictionary.to_pylist():
            self._codes.setdefault(value, len(self._codes))
        self._spill.add(hashes, self._coded(encoded))

    def settle(self) -> None:
        """Turn what was observed into thresholds, and let go of the rest."""
        if self._spill is None:
            return
        sizes = np.zeros(len(self._codes), dtype=np.int64)
        for pieces in self._spill.partitions():
            for _, codes in pieces:
                sizes += np.bincount(codes, minlength=len(sizes))
        cuts = np.floor(self._upper * sizes[:, None] + 0.5).astype(np.int64)
        self._open, self._most = cuts == 0, self._thresholds(self._spill, cuts)
        self._spill.close()
        self._spill = None

    def deal(self, hashes: Words, strata: pa.ChunkedArray) -> Companions:
        """The number of the split for each row of a block that was observed."""
        assert self._most is not None and self._open is not None, "settle first"
        codes = self._coded(_encoded(strata))
        at = np.zeros(len(hashes), dtype=np.int64)
        for cut in range(len(self._upper)):
            at += self._open[codes, cut] | (hashes > self._most[codes, cut])
        return at

    def _coded(self, encoded: pa.DictionaryArray) -> Companions:
        known = np.array([self._codes[value] for value in encoded.dictionary.to_pylist()], dtype=np.int64)
        return known[cells.numbers(encoded.indices)]

    def _thresholds(self, spill: Spill, cuts: Companions) -> Words:
        """Walk hashes upwards; where a stratum's running count passes a cut, the hash there is the threshold."""
        most = np.zeros(cuts.shape, dtype=np.uint64)
        before = np.zeros(len(cuts), dtype=np.int64)
        for pieces in spill.partitions():
            hashes, codes, counts = np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64)
            for more, of in pieces:
                hashes, codes = np.concatenate([hashes, more]), np.concatenate([codes, of])
                hashes, codes, counts = _tally(hashes, codes, np.concatenate([counts, np.ones_like(of)]))
            ranks = np.cumsum(counts) - counts
            first = np.flatnonzero(np.diff(codes, prepend=-1))
            ranks += (before[codes[first]] - ranks[first]).repeat(np.diff(np.append(first, len(codes))))
            for cut in range(cuts.shape[1]):
                last = cuts[codes, cut] - 1  # the last row below the cut
                hit = (ranks <= last) & (last < ranks + counts)
                most[codes[hit], cut] = hashes[hit]
            np.add.at(before, codes, counts)
        return most


def _encoded(strata: pa.ChunkedArray) -> pa.DictionaryArray:
    # A null is a stratum too: the first pass may come before validation has refused it.
    return pc.dictionary_encode(strata, null_encoding="encode").combine_chunks()


def _tally(hashes: Words, codes: Companions, counts: Companions) -> tuple[Words, Companions, Companions]:
    """Each (stratum, hash) once, ascending, with its counts summed."""
    if not len(hashes):
        return hashes, codes, counts
    order = np.argsort(hashes)  # with the codes' radix sort after it 4 times as fast as lexsort
    order = order[np.argsort(codes[order].astype(np.min_scalar_type(int(codes.max()))), kind="stable")]
    hashes, codes, counts = hashes[order], codes[order], counts[order]
    new = np.flatnonzero((np.diff(codes, prepend=-1) != 0) | (np.diff(hashes, prepend=~hashes[:1]) != 0))
    return hashes[new], codes[new], np.add.reduceat(counts, new)
