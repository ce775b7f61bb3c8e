"""The rows of two manifests met as wholes, for want of a common key: by a 128-bit hash of their cells, equal ones one by one.

16 bytes a row are kept, in memory up to a million rows and beyond on scratch disk (`spill`), and met a 256th at a time. Two
different rows meet by chance once in 10**21 among 10**9. Called by `diff`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from zebra_assets.datasets.row_hash import row_hashes
from zebra_assets.datasets.spill import Spill
from zebra_assets.datasets.table import EXAMPLES

PAIR = np.dtype([("first", np.uint64), ("second", np.uint64)])
Pairs = np.ndarray[Any, Any]


class Leftover(NamedTuple):
    """Rows that found no partner: how many, and the hashes of the first few."""

    rows: int
    some: Pairs


class Meeting(NamedTuple):
    """What two sets of rows, repeats counted, have in common and what not."""

    both: int
    removed: Leftover
    added: Leftover


def pairs_of(table: pa.Table) -> Pairs:
    """A row's two hashes, side by side."""
    out = np.empty(table.num_rows, dtype=PAIR)
    out["first"], out["second"] = row_hashes(table, "diff"), row_hashes(table, "again")
    return out


def meet(old: Iterator[pa.Table], new: Iterator[pa.Table], scratch: Path) -> Meeting:
    """Cancel equal rows out one by one: of three equal ones here and one there, two are left.

    Raises:
        Unavailable: the scratch folder is full.
    """
    spills = Spill(scratch), Spill(scratch)
    try:
        for spill, tables in zip(spills, (old, new), strict=True):
            for table in tables:
                pairs = pairs_of(table)
                spill.add(pairs["first"].copy(), pairs["second"].astype(np.int64))
        both, left = 0, [_Left(), _Left()]
        for a, b in _aligned(*spills):
            every = np.concatenate([a, b])
            order = np.lexsort((every["second"], every["first"]))
            every, ours = every[order], (order < len(a)).astype(np.int64)
            starts = np.flatnonzero(np.concatenate(([True], every[1:] != every[:-1])))
            mine = np.add.reduceat(ours, starts)
            theirs = np.diff(np.append(starts, len(every))) - mine
            both += int(np.minimum(mine, theirs).sum())
            left[0].add(every[starts], mine - theirs)
            left[1].add(every[starts], theirs - mine)
    finally:
        for spill in spills:
            spill.close()
    return Meeting(both, left[0].told(), left[1].told())


class _Left:
    def __init__(self) -> None:
        self.count, self.some = 0, np.empty(0, dtype=PAIR)

    def add(self, pairs: Pairs, more: "np.ndarray[Any, np.dtype[np.int64]]") -> None:
        self.count += int(np.maximum(more, 0).sum())
        self.some = np.concatenate([self.some, pairs[more > 0]])[:EXAMPLES]

    def told(self) -> Leftover:
        return Leftover(self.count, self.some)


def _aligned(a: Spill, b: Spill) -> Iterator[tuple[Pairs, Pairs]]:
    """Both sides' partitions, ascending; one is empty where only the other has rows."""
    ours, theirs, none = _partitions(a), _partitions(b), np.empty(0, dtype=PAIR)
    mine, yours = next(ours, None), next(theirs, None)
    while mine is not None or yours is not None:
        at = min(part[0] for part in (mine, yours) if part is not None)
        left, right = none, none
        if mine is not None and mine[0] == at:
            left, mine = mine[1], next(ours, None)
        if yours is not None and yours[0] == at:
            right, yours = yours[1], next(theirs, None)
        yield left, right


def _partitions(spill: Spill) -> Iterator[tuple[int, Pairs]]:
    for pieces in spill.partitions():
        held = []
        for first, second in pieces:
            pairs = np.empty(len(first), dtype=PAIR)
            pairs["first"], pairs["second"] = first, second.astype(np.uint64)
            held.append(pairs)
        every = np.concatenate(held)
        yield int(every["first"][0] >> np.uint64(56)), every
