"""What changed between two manifests: rows by key, cells by column, definitions, distributions.

Both are read once, batch by batch, so memory is bounded by the batches and not by the rows; nothing loops over rows. Where
both declare the same key, rows meet by it (`keyed`); else as wholes (`keyless`), and then a changed row is one removed and one
added. Distributions of the train split are counted over the older summary's bins meanwhile (`tally`). Called by `loop`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.ports import ObjectStore
from zebra_assets.contracts.provenance import ColumnDiff, Definition, ManifestDiff, RowExample
from zebra_assets.contracts.verdicts import DriftBin
from zebra_assets.datasets import keyed, keyless
from zebra_assets.datasets.dtypes import ARROW
from zebra_assets.datasets.stored import Stored
from zebra_assets.datasets.table import EXAMPLES, MASK, shorten
from zebra_assets.datasets.tally import Counted

_FIRST_CELLS = 6  # of a row without a key, shown as an example


class Distance(NamedTuple):
    """How far two distributions of a column are apart, and the bins that show it."""

    psi: float
    js: float
    shifted: bool
    bins: list[DriftBin]


Distances = Callable[[ColumnStats, Counted, Counted], Distance | None]


@dataclass
class _Found:
    """What the rows showed so far."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    unchanged: int = 0
    moved: int | None = None
    cells: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[RowExample]] = field(default_factory=lambda: {"added": [], "removed": [], "changed": []})

    def wants(self, kind: str) -> int:
        """How many more examples of a kind are to be shown."""
        return EXAMPLES - len(self.examples[kind])


def diff(before: Manifest, after: Manifest, store: ObjectStore, *, sensitive: frozenset[str], distances: Distances) -> ManifestDiff:
    """Compare two manifests with their rows.

    Args:
        sensitive: columns whose values are masked in examples, and whose bins are not told.
        distances: what two counts over a summary's bins come to; None where they cannot be compared.

    Raises:
        NotFound: a blob is gone.
        Refused: rows do not stand in key order.
        Unavailable: the store cannot be reached, or scratch space is full.
    """
    shared_bins = {n: s for n, s in before.stats.columns.items() if (t := after.stats.columns.get(n)) and t.kind == s.kind}
    old, new = Stored(before, store, shared_bins), Stored(after, store, shared_bins)
    key = _common_key(old, new)
    with store.scratch() as scratch:
        found = _by_key(old, new, key, sensitive) if key else _by_row(old, new, scratch, sensitive)
    return ManifestDiff(
        before=before.id,
        after=after.id,
        by="key" if key else "row",
        rows_before=before.stats.rows,
        rows_after=after.stats.rows,
        splits_before=before.stats.rows_by_split,
        splits_after=after.stats.rows_by_split,
        added=found.added,
        removed=found.removed,
        changed=found.changed,
        unchanged=found.unchanged,
        moved=found.moved,
        definitions=list(_definitions(before, after)),
        columns=list(_columns(old, new, found.cells, shared_bins, sensitive, distances)),
        examples=[one for kind in ("added", "removed", "changed") for one in found.examples[kind]],
    )


def _common_key(old: Stored, new: Stored) -> list[str]:
    """The key both declare over the same dtypes, or none."""
    key = new.manifest.columns.key
    same = old.manifest.columns.key == key and all(old.dtypes[name] == new.dtypes[name] for name in key)
    return key if same else []


def _shared(old: Stored, new: Stored) -> list[str]:
    """Columns of both with the same dtype, in the older one's order."""
    return [name for name, dtype in old.dtypes.items() if new.dtypes.get(name) == dtype]


def _by_key(old: Stored, new: Stored, key: list[str], sensitive: frozenset[str]) -> _Found:
    columns = [*key, *(name for name in _shared(old, new) if name not in key)]
    found = _Found(moved=0, cells=dict.fromkeys(columns, 0))
    sides = [{split: partial(side.batches, split, columns) for split in side.splits} for side in (old, new)]
    empty = pa.schema([(name, ARROW[old.dtypes[name]]) for name in columns]).empty_table()
    for a, b in keyed.windows(sides[0], sides[1], key):
        _window(a.table if a.table.num_rows else empty, b.table if b.table.num_rows else empty, a.splits, b.splits, key, sensitive, found)
    return found


def _window(
    old: pa.Table,
    new: pa.Table,
    was: "np.ndarray[Any, Any]",
    is_: "np.ndarray[Any, Any]",
    key: list[str],
    sensitive: frozenset[str],
    found: _Found,
) -> None:
    """Count one window of keys."""
    met = keyed.meet(old, new, key)
    changes = {name: truth for name in old.column_names if name not in key and (truth := _changed(old[name], new[name], met)).any()}
    changed = np.logical_or.reduce(list(changes.values())) if changes else np.zeros(len(met.both[0]), dtype=bool)
    found.added += len(met.added)
    found.removed += len(met.removed)
    found.changed += int(changed.sum())
    found.unchanged += len(changed) - int(changed.sum())
    found.moved = (found.moved or 0) + int((was[met.both[0]] != is_[met.both[1]]).sum())
    for name, truth in changes.items():
        found.cells[name] += int(truth.sum())
    for kind, table, rows in (("added", new, met.added), ("removed", old, met.removed)):
        found.examples[kind] += _examples(kind, table.select(key).take(pa.array(rows[: found.wants(kind)])), sensitive)
    for at in np.flatnonzero(changed)[: found.wants("changed")]:
        a, b = int(met.both[0][at]), int(met.both[1][at])
        names = [name for name, truth in changes.items() if truth[at]]
        found.examples["changed"].append(
            RowExample(
                kind="changed",
                key={n: _shown(n, new[n][b].as_py(), sensitive) for n in key},
                cells={n: (_shown(n, old[n][a].as_py(), sensitive), _shown(n, new[n][b].as_py(), sensitive)) for n in names},
            )
        )


def _changed(old: pa.ChunkedArray, new: pa.ChunkedArray, met: keyed.Met) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Cells that differ; null is equal to null, and NaN to NaN."""
    a, b = old.take(pa.array(met.both[0])), new.take(pa.array(met.both[1]))
    same = pc.fill_null(pc.equal(a, b), False)
    if a.null_count and b.null_count:
        same = pc.or_(same, pc.and_(pc.is_null(a), pc.is_null(b)))
    if pa.types.is_floating(a.type):
        same = pc.or_(same, pc.fill_null(pc.and_(pc.is_nan(a), pc.is_nan(b)), False))
    return ~np.asarray(same.to_numpy(), dtype=bool)


def _by_row(old: Stored, new: Stored, scratch: Path, sensitive: frozenset[str]) -> _Found:
    """Columns that only one side has are left out, so that a new column is not all new rows."""
    shared = _shared(old, new)
    met = keyless.meet(old.every(shared), new.every(shared), scratch)
    found = _Found(added=met.added.rows, removed=met.removed.rows, unchanged=met.both)
    for kind, side, left in (("added", new, met.added), ("removed", old, met.removed)):
        found.examples[kind] += _searched(kind, side, shared, left.some, sensitive)
    return found


def _searched(kind: str, side: Stored, shared: list[str], some: keyless.Pairs, sensitive: frozenset[str]) -> Iterator[RowExample]:
    """Read again until the rows with these hashes have come."""
    show = list(side.dtypes)[:_FIRST_CELLS]
    wanted = {pair.tobytes() for pair in some}
    if not wanted:
        return
    for table in side.every([*shared, *(name for name in show if name not in shared)], count=False):
        pairs = keyless.pairs_of(table.select(shared))
        for row in np.flatnonzero(np.isin(pairs["first"], some["first"])):
            if pairs[row].tobytes() in wanted:
                wanted.discard(pairs[row].tobytes())
                yield from _examples(kind, table.select(show).slice(int(row), 1), sensitive)
        if not wanted:
            return


def _examples(kind: str, rows: pa.Table, sensitive: frozenset[str]) -> Iterator[RowExample]:
    for row in rows.to_pylist():
        yield RowExample.model_validate({"kind": kind, "key": {n: _shown(n, v, sensitive) for n, v in row.items()}})


def _shown(name: str, value: Any, sensitive: frozenset[str]) -> str:
    if value is None:
        return "null"
    return MASK if name in sensitive else shorten(value) if isinstance(value, str | int | float | bool) else str(value)


def _definitions(before: Manifest, after: Manifest) -> Iterator[Definition]:
    pairs = (
        ("key", ", ".join(before.columns.key), ", ".join(after.columns.key)),
        ("label", *(m.columns.label.model_dump_json() if m.columns.label else "" for m in (before, after))),
        ("splits", before.splits.model_dump_json(), after.splits.model_dump_json()),
    )
    for what, was, is_ in pairs:
        if was != is_:
            yield Definition.model_validate({"what": what, "before": was or "none", "after": is_ or "none"})


def _columns(
    old: Stored, new: Stored, cells: Mapping[str, int], bins: Mapping[str, ColumnStats], sensitive: frozenset[str], distances: Distances
) -> Iterator[ColumnDiff]:
    """Every column of either, in the order of the newer one, vanished ones last."""
    told = [{c.name: f"{c.dtype}{'?' if c.nullable else ''}" for c in side.manifest.columns.columns} for side in (old, new)]
    for name in [*told[1], *(n for n in told[0] if n not in told[1])]:
        far = distances(bins[name], old.tallies[name].counted(), new.tallies[name].counted()) if name in bins else None
        yield ColumnDiff(
            name=name,
            before=told[0].get(name),
            after=told[1].get(name),
            cells=cells.get(name),
            nulls_before=old.manifest.stats.null_fraction.get(name),
            nulls_after=new.manifest.stats.null_fraction.get(name),
            psi=far.psi if far else None,
            js=far.js if far else None,
            shifted=bool(far and far.shifted),
            bins=far.bins if far and name not in sensitive else [],
        )
