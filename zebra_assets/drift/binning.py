"""Put a window's values beside a baseline's summary, bin by bin: the one table that every drift metric reads.

Bins come from the baseline alone, so that two windows of one model are comparable. There are few of them, because the
noise of a binned distance grows with bins / rows: at most 10 quantile groups of a number or 20 values of a category, each
expected to hold at least 5 rows of the window (Cochran's rule). Outside the baseline's range, nulls and values never seen
are bins of their own: the baseline has no rows there, and that is what drift looks like. Called by `monitor`, and with
another summary in place of a window when two manifests are compared.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zebra_assets.contracts.manifest import ColumnStats

MAX_GROUPS = 10  # of a number: deciles, the usual PSI table
MAX_VALUES = 20  # of a category
MIN_EXPECTED = 5  # window rows per bin, below which a bin says more about chance than about the world
MAX_NEW = 20  # new values named in a report, and the characters of each that are shown
MAX_TEXT = 80

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Binned:
    """Rows per bin, baseline beside window; bins that are empty on both sides are left out.

    `fine` holds, for numbers, the counts over all baseline edges in ascending order and without nulls, shape (2, cells).
    """

    kind: Literal["numeric", "categorical"]
    labels: list[str]
    baseline: Counts
    window: Counts
    fine: Counts | None = None
    new_values: list[str] = field(default_factory=list)


def compare(stats: ColumnStats, values: Sequence[Any]) -> Binned:
    """Bin one column's window values (None is null) by its baseline summary.

    For a number, whatever is not one (text, NaN) counts as null. Booleans compare as 'true' and 'false', whole floats as
    integers, so that a value that took the way through JSON meets itself.
    """
    return _numeric(stats, values) if stats.kind == "numeric" else _categorical(stats, values)


def compare_summaries(baseline: ColumnStats, other: ColumnStats) -> Binned | None:
    """Bin one summary by another, without any rows; None where they do not say enough: other kinds, or hidden values.

    Exact where `other` keeps each value as a bin of its own. Otherwise its quantile bins are spread evenly over their
    width, which misplaces at most the rows of the bins that a baseline edge cuts: 1/64 of the rows each. In the widest bins,
    the tails, that is worst, and psi reads most into them: rows beyond the baseline's range count in its outermost bins, and
    psi still comes out up to a quarter off (js: a twentieth).
    """
    if baseline.kind != other.kind or any(s.other and not s.values for s in (baseline, other)):
        return None
    if baseline.kind == "categorical":
        seen = Counter(dict(zip(map(as_text, other.values), other.counts, strict=True)))
        return compare_tallied(baseline, seen, other.nulls, rows=other.rows, unlisted=other.other)
    cuts, counts = np.asarray(baseline.edges), np.asarray(other.counts, dtype=np.int64)
    if not len(baseline.counts) or not len(counts):
        return _grouped(baseline, np.asarray([int(counts.sum())]), other.nulls, rows=other.rows) if not len(baseline.counts) else None
    below = np.concatenate(([0.0], _below(other, cuts[:-1]), [_below(other, np.nextafter(cuts[-1:], np.inf))[0], counts.sum()]))
    window = np.diff(np.rint(below)).astype(np.int64)
    if not _exact(other):
        window[1] += window[0]
        window[-2] += window[-1]
        window[[0, -1]] = 0
    return _grouped(baseline, window, other.nulls, rows=other.rows)


def compare_counted(baseline: ColumnStats, cells: Sequence[int], nulls: int, *, rows: int) -> Binned:
    """Bin by counts that somebody made over the baseline's own bins, with every row at hand: exact, unlike two summaries.

    Args:
        cells: of a number the rows below the baseline's range, in its bins, and above; else per value of the baseline's in
            its order, and last all others together.
        rows: all of them, ``nulls`` included.
    """
    if baseline.kind == "numeric":
        return _grouped(baseline, np.asarray(cells, dtype=np.int64), nulls, rows=rows)
    *listed, others = cells
    seen = Counter(dict(zip(map(as_text, baseline.values), listed, strict=True)))
    if not baseline.other:  # the baseline lists all it has, so any other is new
        seen["\0"], others = others, 0
    return compare_tallied(baseline, seen, nulls, rows=rows, unlisted=others)


def _exact(stats: ColumnStats) -> bool:
    """Whether each value is a bin of its own: then the last edge stands twice."""
    return stats.edges[-1] == stats.edges[-2]


def _below(stats: ColumnStats, cuts: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of a summary's numbers are below each cut."""
    edges, held = np.asarray(stats.edges), np.concatenate(([0], np.cumsum(stats.counts)))
    if _exact(stats):
        return np.asarray(held[np.searchsorted(edges[:-1], cuts)], dtype=np.float64)
    return np.interp(cuts, edges, held)


def _numeric(stats: ColumnStats, values: Sequence[Any]) -> Binned:
    numbers = _floats(values)
    present = numbers[~np.isnan(numbers)]
    nulls, counts = len(numbers) - len(present), len(stats.counts)
    if counts == 0:
        return _grouped(stats, np.asarray([len(present)]), nulls, rows=len(values))
    edges = np.asarray(stats.edges, dtype=np.float64)
    low, high = span(stats)
    cells = np.clip(np.searchsorted(edges, present, side="right"), 1, counts)
    cells[present < low], cells[present > high] = 0, counts + 1
    return _grouped(stats, np.bincount(cells, minlength=counts + 2), nulls, rows=len(values))


def _grouped(stats: ColumnStats, window: Counts, nulls: int, *, rows: int) -> Binned:
    """Merge fine cells into groups; ``window`` counts below the range, per baseline bin, and above the range."""
    counts, edges = np.asarray(stats.counts, dtype=np.int64), np.asarray(stats.edges, dtype=np.float64)
    if len(counts) == 0:  # the baseline is all null: a number is news, whichever it is
        return _table("numeric", ["any number", "(null)"], [0, stats.nulls], [int(window.sum()), nulls])
    low, high = span(stats)
    baseline = np.concatenate(([0], counts, [0]))
    starts = _group_starts(counts, least=MIN_EXPECTED * stats.rows / max(rows, 1))
    stops = np.append(starts[1:], len(counts))
    labels = [f"below {low:.4g}", *(_interval(edges, a, b) for a, b in zip(starts, stops, strict=True)), f"above {high:.4g}", "(null)"]
    at = np.concatenate(([0], starts + 1, [len(counts) + 1]))
    return _table(
        "numeric",
        labels,
        [*np.add.reduceat(baseline, at), stats.nulls],
        [*np.add.reduceat(window, at), nulls],
        fine=np.stack([baseline, window]),
    )


def span(stats: ColumnStats) -> tuple[float, float]:
    """The smallest and the largest number of a baseline that has any."""
    first, last = stats.edges[0], stats.edges[-1]
    return (first if stats.min is None else min(first, stats.min)), (last if stats.max is None else max(last, stats.max))


def _categorical(stats: ColumnStats, values: Sequence[Any]) -> Binned:
    seen: Counter[str] = Counter()
    nulls = 0
    for value, rows in _tally(values).items():
        if value is None or value != value:
            nulls += rows
        else:
            seen[as_text(value)] += rows
    return compare_tallied(stats, seen, nulls, rows=len(values))


def compare_tallied(stats: ColumnStats, seen: Counter[str], nulls: int, *, rows: int, unlisted: int = 0) -> Binned:
    """Bin counted values, rare ones merged; ``unlisted`` rows of the window have values that nobody kept."""
    known = [as_text(v) for v in stats.values]
    # With an unlisted rest on either side, an unlisted value is not proven new.
    strange = {v: n for v, n in seen.items() if v not in set(known)}
    strange_rows = sum(strange.values())
    new_rows, other_rows = (0, strange_rows) if stats.other else (strange_rows, 0)

    pairs = sorted(zip(known, stats.counts, strict=True), key=lambda p: (-p[1], p[0]))
    kept = [(v, n) for v, n in pairs if n * rows >= MIN_EXPECTED * stats.rows][:MAX_VALUES]
    pooled = pairs[len(kept) :]
    return _table(
        "categorical",
        [*(v for v, _ in kept), "(other)", "(new)", "(null)"],
        [*(n for _, n in kept), stats.other + sum(n for _, n in pooled), 0, stats.nulls],
        [*(seen[v] for v, _ in kept), unlisted + other_rows + sum(seen[v] for v, _ in pooled), new_rows, nulls],
        new_values=[] if stats.other else [v[:MAX_TEXT] for v in sorted(strange, key=lambda v: (-strange[v], v))[:MAX_NEW]],
    )


def _table(
    kind: Literal["numeric", "categorical"],
    labels: list[str],
    baseline: Sequence[int],
    window: Sequence[int],
    *,
    fine: Counts | None = None,
    new_values: list[str] | None = None,
) -> Binned:
    base, now = np.asarray(baseline, dtype=np.int64), np.asarray(window, dtype=np.int64)
    used = base + now > 0
    return Binned(kind, [label for label, keep in zip(labels, used, strict=True) if keep], base[used], now[used], fine, new_values or [])


def _group_starts(counts: Counts, least: float) -> NDArray[np.int64]:
    """First bin of each group: neighbours merged into up to 10 groups of like mass, none below ``least`` baseline rows.

    Each group takes its share of what is left, so beside one frequent value (0 in 90 % of the rows) the tail keeps several.
    """
    ends = counts.cumsum()
    starts, held = [0], 0
    for left in range(MAX_GROUPS, 1, -1):
        due = max((ends[-1] - held) / left, least)
        last = int(np.searchsorted(ends, held + due * (1 - 1e-9)))
        if last >= len(counts) - 1 or ends[-1] - ends[last] < least:
            break
        starts.append(last + 1)
        held = int(ends[last])
    return np.asarray(starts, dtype=np.int64)


def _interval(edges: NDArray[np.float64], start: int, stop: int) -> str:
    low, high = edges[start], edges[stop]
    if low == high:
        return f"{low:.4g}"
    return f"{low:.4g} to {high:.4g}" if stop == len(edges) - 1 else f"{low:.4g} to <{high:.4g}"


def as_text(value: Any) -> str:
    """A category's one spelling: 'true' for True and 'True', '1' for 1 and 1.0, else the text itself."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return text.lower() if text in ("True", "False") else text


def _tally(values: Sequence[Any]) -> Counter[Any]:
    try:
        return Counter(values)
    except TypeError:  # a list or dict where a value was expected: compared by its text
        return Counter(v if v is None else str(v) for v in values)


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    try:
        return np.array(values, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError, OverflowError):
        return np.array([_float(v) for v in values], dtype=np.float64)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
