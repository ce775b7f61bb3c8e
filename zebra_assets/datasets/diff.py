"""What changed between two manifests: rows by key, cells by column, definitions, distributions.

Pure and without a loop over rows: keys are joined by Arrow, columns compared whole, one at a time, so that beside the two
tables a few columns are held. Without a common key rows are compared as wholes, by a 128-bit hash of their cells: then a
changed row is one removed and one added. Called by `loop`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.provenance import ColumnDiff, Definition, ManifestDiff, RowExample
from zebra_assets.datasets.split import row_hashes
from zebra_assets.datasets.table import EXAMPLES, MASK, shorten

Positions = np.ndarray[Any, np.dtype[np.int64]]
Truth = np.ndarray[Any, np.dtype[np.bool_]]
_FIRST_CELLS = 6  # of a row without a key, shown as an example


class Distance(NamedTuple):
    """How far two summaries of a column are apart."""

    psi: float
    js: float
    shifted: bool


Distances = Callable[[ColumnStats, ColumnStats], Distance | None]


@dataclass(frozen=True)
class Side:
    """One manifest with its rows by split."""

    manifest: Manifest
    splits: Mapping[str, pa.Table]

    def table(self) -> pa.Table:
        """All rows, split after split."""
        return pa.concat_tables(self.splits.values())

    def split_of_rows(self) -> "np.ndarray[Any, Any]":
        """The split's name per row of `table`."""
        return np.repeat(np.asarray(list(self.splits)), [t.num_rows for t in self.splits.values()])


class _Rows(NamedTuple):
    """Which rows are whose: positions in both tables of rows that both have, and of those only one has."""

    both: tuple[Positions, Positions]
    removed: Positions
    added: Positions


def diff(before: Side, after: Side, *, sensitive: frozenset[str], distances: Distances) -> ManifestDiff:
    """Compare two manifests with their rows.

    Args:
        sensitive: columns whose values are masked in examples.
        distances: psi and js of two column summaries; None where they cannot be compared.
    """
    old, new = before.table(), after.table()
    key = _common_key(before.manifest, after.manifest)
    rows = _by_key(old, new, key) if key else _by_row(old, new)
    shared = [
        n for n in old.column_names if n in new.column_names and n not in key and old.schema.field(n).type == new.schema.field(n).type
    ]
    changes: dict[str, Truth] = {}
    if key:
        changes = {name: truth for name in shared if (truth := _changed(old[name], new[name], rows)).any()}
    changed = np.logical_or.reduce(list(changes.values())) if changes else np.zeros(len(rows.both[0]), dtype=bool)
    moved = int((before.split_of_rows()[rows.both[0]] != after.split_of_rows()[rows.both[1]]).sum()) if key else None
    cells = {name: int(changes[name].sum()) if name in changes else 0 for name in [*key, *shared]} if key else {}
    show = key or old.column_names[:_FIRST_CELLS]
    return ManifestDiff(
        before=before.manifest.id,
        after=after.manifest.id,
        by="key" if key else "row",
        rows_before=old.num_rows,
        rows_after=new.num_rows,
        splits_before=before.manifest.stats.rows_by_split,
        splits_after=after.manifest.stats.rows_by_split,
        added=len(rows.added),
        removed=len(rows.removed),
        changed=int(changed.sum()),
        unchanged=len(changed) - int(changed.sum()),
        moved=moved,
        definitions=list(_definitions(before.manifest, after.manifest)),
        columns=list(_columns(before.manifest, after.manifest, cells, distances)),
        examples=[
            *_examples("added", new, rows.added, show, sensitive),
            *_examples("removed", old, rows.removed, show, sensitive),
            *_changed_examples(old, new, rows, changes, changed, show, sensitive),
        ],
    )


def _common_key(before: Manifest, after: Manifest) -> list[str]:
    """The key both declare over the same dtypes, or none."""
    key = after.columns.key
    dtypes = [{c.name: c.dtype for c in m.columns.columns} for m in (before, after)]
    same = before.columns.key == key and all(dtypes[0][name] == dtypes[1][name] for name in key)
    return key if same else []


def _by_key(old: pa.Table, new: pa.Table, key: list[str]) -> _Rows:
    """Keys are unique in a manifest, so the join is one to one."""
    left = old.select(key).append_column("__old", pa.array(np.arange(old.num_rows)))
    right = new.select(key).append_column("__new", pa.array(np.arange(new.num_rows)))
    joined = left.join(right, keys=key, join_type="full outer").select(["__old", "__new"]).combine_chunks()
    here, there = joined["__old"].is_valid(), joined["__new"].is_valid()
    both = joined.filter(pc.and_(here, there)).sort_by("__new")
    return _Rows(
        (_positions(both["__old"]), _positions(both["__new"])),
        np.sort(_positions(joined["__old"].filter(pc.invert(there)))),
        np.sort(_positions(joined["__new"].filter(pc.invert(here)))),
    )


def _by_row(old: pa.Table, new: pa.Table) -> _Rows:
    """Equal rows cancel out one by one; columns that only one side has are left out, so that a new column is not all new rows."""
    shared = [n for n in old.column_names if n in new.column_names and old.schema.field(n).type == new.schema.field(n).type]
    codes = np.unique(np.concatenate([_wide_hashes(t.select(shared)) for t in (old, new)]), return_inverse=True)[1].reshape(-1)
    a, b = codes[: old.num_rows], codes[old.num_rows :]
    # A row's identity is its content and which of its repeats it is: the second of two equal rows meets the other side's second.
    ours, theirs = (np.stack([side, _repeat(side)], axis=1).astype(np.int64) for side in (a, b))
    merged = np.unique(np.concatenate([ours, theirs]), axis=0, return_inverse=True)[1].reshape(-1)
    x, y = merged[: old.num_rows], merged[old.num_rows :]
    _, at_old, at_new = np.intersect1d(x, y, assume_unique=True, return_indices=True)
    return _Rows((at_old, at_new), np.flatnonzero(~np.isin(x, y)), np.flatnonzero(~np.isin(y, x)))


def _wide_hashes(table: pa.Table) -> "np.ndarray[Any, Any]":
    """128 bits a row, from two salts: among 10**9 rows two different ones meet with a chance of about 10**-21."""
    both = np.stack([row_hashes(table, salt) for salt in ("diff", "again")], axis=1)
    return np.ascontiguousarray(both).view([("first", np.uint64), ("second", np.uint64)]).reshape(-1)


def _repeat(codes: Positions) -> Positions:
    """For each row how many equal ones stand before it."""
    order = np.argsort(codes, kind="stable")
    ranked = codes[order]
    starts = np.flatnonzero(np.diff(ranked, prepend=-1))
    run = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    out = np.empty(len(codes), dtype=np.int64)
    out[order] = run
    return out


def _positions(values: pa.ChunkedArray) -> Positions:
    return np.asarray(values.to_numpy(), dtype=np.int64)


def _changed(old: pa.ChunkedArray, new: pa.ChunkedArray, rows: _Rows) -> Truth:
    """Cells that differ; null is equal to null, and NaN to NaN."""
    a, b = old.take(pa.array(rows.both[0])), new.take(pa.array(rows.both[1]))
    same = pc.fill_null(pc.equal(a, b), False)
    if a.null_count and b.null_count:
        same = pc.or_(same, pc.and_(pc.is_null(a), pc.is_null(b)))
    if pa.types.is_floating(a.type):
        same = pc.or_(same, pc.fill_null(pc.and_(pc.is_nan(a), pc.is_nan(b)), False))
    return ~np.asarray(same.to_numpy(), dtype=bool)


def _definitions(before: Manifest, after: Manifest) -> Iterator[Definition]:
    pairs = (
        ("key", ", ".join(before.columns.key), ", ".join(after.columns.key)),
        ("label", *(m.columns.label.model_dump_json() if m.columns.label else "" for m in (before, after))),
        ("splits", before.splits.model_dump_json(), after.splits.model_dump_json()),
    )
    for what, was, is_ in pairs:
        if was != is_:
            yield Definition.model_validate({"what": what, "before": was or "none", "after": is_ or "none"})


def _columns(before: Manifest, after: Manifest, cells: Mapping[str, int], distances: Distances) -> Iterator[ColumnDiff]:
    """Every column of either, in the order of the newer one, vanished ones last."""
    old, new = ({c.name: f"{c.dtype}{'?' if c.nullable else ''}" for c in m.columns.columns} for m in (before, after))
    for name in [*new, *(n for n in old if n not in new)]:
        was, is_ = before.stats.columns.get(name), after.stats.columns.get(name)
        far = distances(was, is_) if was and is_ else None
        yield ColumnDiff(
            name=name,
            before=old.get(name),
            after=new.get(name),
            cells=cells.get(name),
            nulls_before=before.stats.null_fraction.get(name),
            nulls_after=after.stats.null_fraction.get(name),
            psi=far.psi if far else None,
            js=far.js if far else None,
            shifted=bool(far and far.shifted),
        )


def _examples(kind: str, table: pa.Table, at: Positions, names: list[str], sensitive: frozenset[str]) -> Iterator[RowExample]:
    for row in table.select(names).take(pa.array(at[:EXAMPLES])).to_pylist():
        yield RowExample.model_validate({"kind": kind, "key": {n: _shown(n, v, sensitive) for n, v in row.items()}})


def _changed_examples(
    old: pa.Table, new: pa.Table, rows: _Rows, changes: Mapping[str, Truth], changed: Truth, key: list[str], sensitive: frozenset[str]
) -> Iterator[RowExample]:
    for at in np.flatnonzero(changed)[:EXAMPLES]:
        a, b = int(rows.both[0][at]), int(rows.both[1][at])
        names = [name for name, cells in changes.items() if cells[at]]
        yield RowExample(
            kind="changed",
            key={n: _shown(n, new[n][b].as_py(), sensitive) for n in key},
            cells={n: (_shown(n, old[n][a].as_py(), sensitive), _shown(n, new[n][b].as_py(), sensitive)) for n in names},
        )


def _shown(name: str, value: Any, sensitive: frozenset[str]) -> str:
    if value is None:
        return "null"
    return MASK if name in sensitive else shorten(value) if isinstance(value, str | int | float | bool) else str(value)
