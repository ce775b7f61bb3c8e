"""How datasets look to a person: the list, and one manifest with where it came from and what is in it. Never imported for --json."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from zebra_assets.cli.show import fact, say, table
from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.noun import now
from zebra_assets.control.lineage import Told
from zebra_assets.control.queries import DatasetRow

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 12  # cells of a drawn distribution
_TOP = 3  # values of a category that are named
_HIDDEN = "***"
_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_AGES = (("d", 86_400), ("h", 3600), ("min", 60))


def datasets(rows: Sequence[DatasetRow]) -> None:
    """Every dataset with its newest manifest: rows, size, age."""
    cells = [
        [
            r.name,
            r.connector,
            r.owner,
            r.manifests,
            *((r.newest.id, r.newest.stats.rows, size(bytes_of(r.newest)), age(r.newest.created_at)) if r.newest else (None,) * 4),
        ]
        for r in rows
    ]
    titles = ["dataset", "connector", "owner", "manifests", "newest", "rows", "size", "age"]
    table(titles, cells, empty="no datasets yet: manifests/<name>/dataset.yaml")
    for row in rows:
        if row.problem:
            say(row.problem, "red")


def manifest(told: Told) -> None:
    """One manifest: its source, who asked for it, its splits, and each column's summary over the train split."""
    m = told.manifest
    say(f"{m.id}  {m.stats.rows:,} rows, {len(m.columns.columns)} columns, {size(bytes_of(m))}, {age(m.created_at)} old", "bold")
    say(f"source    {m.source.connector} {m.source.location}")
    for name, value in m.source.model_dump(exclude={"connector", "location"}).items():
        if value not in (None, "", {}, []):
            say(f"          {name} {fact(value)}")
    for one in told.ingests:
        said = ", ".join(f"{name} {fact(value)}" for name, value in one.facts.items() if value not in (None, "", [], {}))
        say(f"ingested  {one.at:%Y-%m-%d %H:%M:%S} UTC by {one.by}{f' ({said})' if said else ''}")
    if told.unlisted:
        say(f"          and {told.unlisted:,} times in between")
    if not told.ingests:
        say(f"made      {m.created_at:%Y-%m-%d %H:%M:%S} UTC; the audit log of this project does not know by whom")
    say(f"content   {m.hashes.content} in {len(m.hashes.blocks)} blocks of {m.hashes.block_rows:,} rows")
    splits = {name: value for name, value in m.splits.model_dump().items() if value}
    say(f"splits    {fact(splits)}")
    table(["split", "rows", "share", "blobs", "size"], [_split(m, name) for name in m.stats.rows_by_split])
    titles = ["column", "dtype", "role", "missing", "distinct", "mean", "std", "min", "max", "distribution (train)"]
    table(titles, [_column(m, c.name, c.dtype, hidden=c.name in told.sensitive) for c in m.columns.columns])
    say(f"Next: mlops verify {m.id}; mlops why {m.id}", "dim")


def bytes_of(m: Manifest) -> int:
    """Bytes of a manifest's blobs."""
    return sum(a.bytes for a in m.artifacts)


def _split(m: Manifest, name: str) -> list[Any]:
    blobs = [a for a in m.artifacts if a.split == name]
    rows = m.stats.rows_by_split[name]
    return [name, rows, f"{rows / max(m.stats.rows, 1):.1%}", len(blobs), size(sum(a.bytes for a in blobs))]


def _column(m: Manifest, name: str, dtype: str, *, hidden: bool) -> list[Any]:
    label = m.columns.label.column if m.columns.label else None
    role = "key" if name in m.columns.key else "label" if name == label else ""
    stats = m.stats.columns.get(name)
    share = m.stats.null_fraction.get(name)
    cells = [name, dtype, role, f"{share:.2%}" if share else "-" if share is None else "0"]
    if stats is None:
        return [*cells, *(None,) * 6]
    figures = [stats.mean, stats.std, stats.min, stats.max]
    distinct = stats.distinct if not stats.error else f"~{stats.distinct:,}"
    if hidden:
        return [*cells, distinct, *(None if f is None else _HIDDEN for f in figures), _HIDDEN]
    return [*cells, distinct, *figures, Text(distribution(stats))]


def distribution(stats: ColumnStats) -> str:
    """A number's density in twelve cells of equal width; of anything else the most frequent values with their shares."""
    present = stats.rows - stats.nulls
    if stats.kind == "categorical":
        named = [f"{_short(v)} {n / max(present, 1):.0%}" for v, n in zip(stats.values[:_TOP], stats.counts[:_TOP], strict=True)]
        more = len(stats.values) > _TOP or stats.other
        return ", ".join([*named, *(["..."] if more and named else [])])
    return bars(density(stats)) if stats.counts else ""


def density(stats: ColumnStats) -> list[float]:
    """Rows in each of twelve cells of equal width between a number's first and last edge, as its bins tell."""
    import numpy as np

    edges, counts = np.asarray(stats.edges), np.asarray(stats.counts, dtype=float)
    low, high = edges[0], edges[-1]
    if high <= low:
        return [float(counts.sum())]
    if edges[-1] == edges[-2]:  # each value is a bin of its own
        at = np.minimum(((edges[:-1] - low) / (high - low) * _WIDTH).astype(int), _WIDTH - 1)
        return [float(v) for v in np.bincount(at, counts, minlength=_WIDTH)]
    below = np.interp(np.linspace(low, high, _WIDTH + 1), edges, np.concatenate(([0.0], counts.cumsum())))
    return [float(v) for v in np.diff(below)]


def bars(heights: Sequence[float]) -> str:
    """Heights as block characters; whatever is above 0 is seen."""
    tallest = max(heights, default=0)
    return "".join(_BARS[0 if h <= 0 else max(1, round(h / tallest * 8))] for h in heights)


def size(count: int) -> str:
    """Bytes in three digits or so."""
    unit, scale = next(((name, scale) for name, scale in _UNITS if count >= scale), ("B", 1))
    return f"{count / scale:.3g} {unit}"


def age(since: datetime) -> str:
    """How long ago, in the largest whole unit."""
    seconds = max((now() - since).total_seconds(), 0)
    unit, scale = next(((name, scale) for name, scale in _AGES if seconds >= scale), ("s", 1))
    return f"{seconds / scale:.0f} {unit}"


def _short(value: str) -> str:
    return value if len(value) <= 20 else value[:17] + "..."
