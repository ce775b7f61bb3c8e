"""The rows of two manifests met by key, a window of keys at a time, so that memory does not grow with the rows.

A manifest's blobs hold each split's rows in key order. So every split of either side is read in step: a window ends at the
smallest key up to which all of them have been read, and what it holds of one side can only meet what it holds of the other.
At most some 131,072 rows a split are held at once. Called by `diff`; what is read, and from where, comes as batches.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.datasets.table import ascending
from zebra_assets.errors import Refused

Positions = np.ndarray[Any, np.dtype[np.int64]]
AT_LEAST = 65_536  # rows of a split that are read before a window is cut, so that small blobs make no small windows


class Rows(NamedTuple):
    """Rows of one side in one window, and the split of each."""

    table: pa.Table
    splits: "np.ndarray[Any, Any]"


class Met(NamedTuple):
    """Positions in two tables: rows that both have, side by side, then those that only the old one and only the new one has."""

    both: tuple[Positions, Positions]
    removed: Positions
    added: Positions


Batches = Mapping[str, Callable[[], Iterator[pa.Table]]]


def windows(old: Batches, new: Batches, key: list[str]) -> Iterator[tuple[Rows, Rows]]:
    """Both sides' rows by ascending windows of keys; every row comes once, and rows of one key come together.

    Args:
        old, new: per split its rows in key order, as tables without empty ones.

    Raises:
        Refused: rows do not stand in key order.
    """
    sides = [[_Cursor(split, batches(), key) for split, batches in side.items()] for side in (old, new)]
    while waiting := [cursor for side in sides for cursor in side if cursor.fill()]:
        bound = min(waiting, key=lambda cursor: cursor.last).bound
        yield _gather(sides[0], bound), _gather(sides[1], bound)


def meet(old: pa.Table, new: pa.Table, key: list[str]) -> Met:
    """Join two tables by key, which is unique in each."""
    left = old.select(key).append_column("__old", pa.array(np.arange(old.num_rows)))
    right = new.select(key).append_column("__new", pa.array(np.arange(new.num_rows)))
    joined = left.join(right, keys=key, join_type="full outer").select(["__old", "__new"]).combine_chunks()
    here, there = joined["__old"].is_valid(), joined["__new"].is_valid()
    both = joined.filter(pc.and_(here, there)).sort_by("__new")
    return Met(
        (_positions(both["__old"]), _positions(both["__new"])),
        np.sort(_positions(joined["__old"].filter(pc.invert(there)))),
        np.sort(_positions(joined["__new"].filter(pc.invert(here)))),
    )


class _Cursor:
    """One split's rows, read as they are needed."""

    def __init__(self, split: str, batches: Iterator[pa.Table], key: list[str]) -> None:
        self.split, self.key, self._batches = split, key, batches
        self.held: pa.Table | None = None
        self.bound: dict[str, pa.Scalar] = {}  # the key of the last row that is held
        self.last: tuple[Any, ...] = ()  # the same, to be compared

    def fill(self) -> bool:
        """Hold some rows; whether there are any left."""
        if self.held is not None and self.held.num_rows:
            return True
        parts: list[pa.Table] = []
        while sum(part.num_rows for part in parts) < AT_LEAST and (part := next(self._batches, None)) is not None:
            parts.append(part)
        if not parts:
            self.held = None
            return False
        held = pa.concat_tables(parts).combine_chunks()
        before = self.last
        if not ascending(held, self.key) or (before and before >= _comparable({n: held[n][0] for n in self.key})):
            raise Refused(
                f"The rows of split {self.split} do not stand in the order of their key ({', '.join(self.key)}), as a manifest's must.",
                fix="mlops verify MANIFEST   # for both",
            )
        self.held = held
        self.bound = {name: held[name][-1] for name in self.key}
        self.last = _comparable(self.bound)
        return True

    def take(self, bound: Mapping[str, pa.Scalar]) -> pa.Table | None:
        """The held rows up to a key, which are held no more."""
        if self.held is None:
            return None
        within = None  # (a, b) <= (c, d)  is  a < c or (a = c and b <= d)
        for name in reversed(self.key):
            same = pc.equal(self.held[name], bound[name]) if within is None else pc.and_(pc.equal(self.held[name], bound[name]), within)
            within = pc.or_(pc.less(self.held[name], bound[name]), same)
        count = pc.sum(within).as_py() or 0
        taken, self.held = self.held.slice(0, count), self.held.slice(count)
        return taken


def _gather(cursors: list[_Cursor], bound: Mapping[str, pa.Scalar]) -> Rows:
    taken = [(cursor.split, part) for cursor in cursors if (part := cursor.take(bound)) is not None]
    if not taken:  # this side is at its end; only its columns are still asked for
        return Rows(pa.table({}), np.empty(0, dtype=object))
    return Rows(
        pa.concat_tables([part for _, part in taken]), np.repeat([split for split, _ in taken], [part.num_rows for _, part in taken])
    )


def _comparable(key: Mapping[str, pa.Scalar]) -> tuple[Any, ...]:
    """Dates and times as the numbers they are: Python's own end at the year 9999."""
    return tuple(scalar.value if pa.types.is_temporal(scalar.type) else scalar.as_py() for scalar in key.values())


def _positions(values: pa.ChunkedArray) -> Positions:
    return np.asarray(values.to_numpy(), dtype=np.int64)
