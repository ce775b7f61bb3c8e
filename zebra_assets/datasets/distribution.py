"""Whether a manifest's train split is still distributed as the one before: summaries in, checks out. Called by `ingest`.

A check is broken when the change is large (above the recipe's threshold) and not chance (p below `ALPHA`). With a million
rows every p-value is tiny, with fifty every distance is large; each alone would cry wolf at one end.

Summaries say less than rows. Both distances are therefore the least that the two summaries prove: within a bin, the
distribution may do anything; categories that one side does not list are one lump. What is told has happened; a change of
less than a bin (1/64 of the rows) more than the threshold may go unseen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from typing import Any, Literal

import numpy as np

from zebra_assets.contracts.dataset_spec import DatasetSpec
from zebra_assets.contracts.distribution_spec import Answer, DistributionSpec
from zebra_assets.contracts.manifest import ColumnStats, Stats
from zebra_assets.datasets.table import EXAMPLES, MASK, shorten
from zebra_assets.datasets.validate import Check

Floats = np.ndarray[Any, np.dtype[np.float64]]
ALPHA = 0.001  # per check; small manifests of 50 columns that did not change warn once in 10, with 0.01 they did two in three times
MIN_EXPECTED = 5  # rows per cell below which chi-square's p-value is no longer one (Cochran 1954)


@dataclass(frozen=True)
class Shift:
    """A distance, 0 to 1, and how likely chance alone gives one at least as large."""

    distance: float
    p: float

    def beyond(self, threshold: float) -> bool:
        """Whether it is both large and no chance."""
        return self.distance > threshold and self.p < ALPHA


def distribution_checks(previous: Stats, current: Stats, spec: DatasetSpec) -> list[Check]:
    """Compare two manifests of one dataset by `expectations.distribution`, column by column, in the recipe's order.

    Columns that one side lacks and those under `ignore` are left out. Dates and timestamps are compared by their nulls only,
    hidden ones (sensitive text) too. Values of sensitive columns are masked.
    """
    said = spec.expectations.distribution
    names = [n for n in spec.columns if n in previous.columns and n in current.columns and n not in said.ignore]
    return [check for name in names for check in _column(name, previous, current, spec, said)]


def _column(name: str, previous: Stats, current: Stats, spec: DatasetSpec, said: DistributionSpec) -> Iterator[Check]:
    before, after = previous.columns[name], current.columns[name]
    if said.shifts != "allow":
        yield _nulls(name, previous, current, said)
    if spec.columns[name].dtype in ("date", "timestamp") or _hidden(before) or _hidden(after) or before.kind != after.kind:
        return
    if said.shifts != "allow" and _filled(before) and _filled(after):
        yield _shift(name, before, after, said)
    if before.kind == "categorical":
        mask = name in spec.sensitive
        if said.new_categories != "allow":
            new = new_categories(before, after)
            yield _named("new categories", name, new, said.new_categories, mask, expected=not unexpected(sum(new.values()), before, after))
        if said.vanished_categories != "allow":
            yield _named("vanished categories", name, vanished_categories(before, after), said.vanished_categories, mask)


def _nulls(name: str, previous: Stats, current: Stats, said: DistributionSpec) -> Check:
    was, is_ = (stats.null_fraction.get(name, 0.0) for stats in (previous, current))
    rows = np.array([[was, 1 - was], [is_, 1 - is_]]) * [[previous.rows], [current.rows]]
    shift = Shift(max(is_ - was, 0.0), chi_square(rows))
    broken = shift.beyond(said.max_null_increase)
    detail = f"{is_:.1%} are null, {was:.1%} were before; at most {said.max_null_increase:.1%} more is expected ({_p(shift.p)})"
    count = round((is_ - was) * current.rows) if broken else 0
    return Check(rule="null increase", column=name, passed=not broken, count=count, detail=detail, severity=_severity(said.shifts))


def _shift(name: str, before: ColumnStats, after: ColumnStats, said: DistributionSpec) -> Check:
    if before.kind == "numeric":
        rule, what, threshold, shift = "same distribution", "Kolmogorov-Smirnov distance", said.numeric, ks(before, after)
    else:
        rule, what, threshold, shift = "same categories", "total variation distance", said.categorical, total_variation(before, after)
    broken = shift.beyond(threshold)
    detail = f"{what} from the manifest before {shift.distance:.3f}, at most {threshold:g} is expected ({_p(shift.p)})"
    if before.mean is not None and after.mean is not None:
        detail += f"; mean {after.mean:.4g}, {before.mean:.4g} before"
    count = round(shift.distance * _filled(after)) if broken else 0
    return Check(rule=rule, column=name, passed=not broken, count=count, detail=detail, severity=_severity(said.shifts))


def _named(rule: str, name: str, found: dict[str, int], answer: Answer, mask: bool, *, expected: bool = False) -> Check:
    named = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{MASK if mask else shorten(value)} ({rows:,} row{'' if rows == 1 else 's'})" for value, rows in named[:EXAMPLES]]
    detail = f"{len(found):,}: {', '.join(shown)}{', ...' if len(found) > EXAMPLES else ''}" if found else ""
    passed = expected or not found
    return Check(
        rule=rule, column=name, passed=passed, count=0 if passed else sum(found.values()), detail=detail, severity=_severity(answer)
    )


def ks(before: ColumnStats, after: ColumnStats) -> Shift:
    """The Kolmogorov-Smirnov distance that two numeric summaries prove, and its asymptotic p-value (Kolmogorov's law).

    Each summary bounds its distribution function at the edges of both; the gap between the bounds is at most the distance of
    the rows and short of it by at most the largest share that either has in one bin. Exact where each value is a bin.
    """
    from scipy.special import kolmogorov

    cuts = np.union1d(before.edges, after.edges)
    (low, high), (lower, higher) = _below(before, cuts), _below(after, cuts)
    distance = float(max((low - higher).max(), (lower - high).max()) - before.error - after.error)
    n, m = sum(before.counts), sum(after.counts)
    return Shift(max(distance, 0.0), float(kolmogorov(max(distance, 0.0) * np.sqrt(n * m / (n + m)))))


def _below(stats: ColumnStats, cuts: Floats) -> tuple[Floats, Floats]:
    """The least and the largest share of a column's numbers that can be below each cut."""
    edges = np.asarray(stats.edges)
    held = np.concatenate(([0], np.cumsum(stats.counts))) / sum(stats.counts)
    if edges[-1] == edges[-2]:  # each value is a bin of its own
        exact = held[np.searchsorted(edges[:-1], cuts)]
        return exact, exact
    upper = np.searchsorted(edges, cuts)  # the first edge that is not below the cut
    highest = held[np.minimum(upper, len(held) - 1)]
    at_edge = (upper < len(edges) - 1) & (edges[np.minimum(upper, len(edges) - 1)] == cuts)
    return np.where(at_edge | (upper == len(edges)), highest, held[np.maximum(upper - 1, 0)]), highest


def total_variation(before: ColumnStats, after: ColumnStats) -> Shift:
    """Half the summed differences of the categories' shares, and chi-square's p-value, over what both summaries tell apart.

    Preferred to Cramér's V, which says less the more the two differ in size: of 1,000 rows moved by a tenth, V is 0.1 beside
    1,000 rows and 0.03 beside 100,000.
    """
    was, is_ = (dict(zip(stats.values, stats.counts, strict=True)) for stats in (before, after))
    # What one side does not list is unknown there if it lists only the most frequent.
    told = [v for v in {**was, **is_} if (v in was or not before.other) and (v in is_ or not after.other)]
    table = np.array([[side.get(v, 0) for v in told] for side in (was, is_)], dtype=np.float64).reshape(2, len(told))
    sizes = np.array([_filled(before), _filled(after)], dtype=np.float64)
    expected = table.sum(axis=0) * sizes.min() / sizes.sum()
    table = table[:, expected >= MIN_EXPECTED]  # the others join the lump
    table = np.column_stack((table, sizes - table.sum(axis=1)))
    shares = table / sizes[:, None]
    error = (before.error + after.error) * (table.shape[1] - 1)
    return Shift(max(float(np.abs(shares[0] - shares[1]).sum() / 2 - error), 0.0), chi_square(table))


def chi_square(table: Floats) -> float:
    """The p-value of Pearson's test that the rows of a table of counts have one distribution; 1 where it cannot tell."""
    from scipy.special import chdtrc

    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float(chdtrc(table.shape[1] - 1, ((table - expected) ** 2 / expected).sum()))


def new_categories(before: ColumnStats, after: ColumnStats) -> dict[str, int]:
    """Values that the manifest before did not have, with their rows; known only where it listed all of its values."""
    if before.other or not before.values:
        return {}
    known = set(before.values)
    return {v: n for v, n in zip(after.values, after.counts, strict=True) if v not in known}


def unexpected(rows: int, before: ColumnStats, after: ColumnStats) -> bool:
    """Whether so many rows with new values are more than chance brings.

    The share of rows with values not yet seen is about the share of values seen once (Good 1953, after Turing). Where all
    stand in many rows none is expected and one is news; where each stands in one, as names do, all may be new.
    """
    from scipy.special import pdtrc

    once = before.counts.count(1) / _filled(before) * _filled(after) if _filled(before) else 0.0
    return rows > 0 and float(pdtrc(rows - 1, once)) < ALPHA


def vanished_categories(before: ColumnStats, after: ColumnStats) -> dict[str, int]:
    """Values that are gone, with the rows they had; known only where all of today's are listed, less what chance may take."""
    if after.other or not after.values:
        return {}
    still, scale = set(after.values), _filled(after) / _filled(before)
    # A value expected n times is absent with probability exp(-n).
    return {v: n for v, n in zip(before.values, before.counts, strict=True) if v not in still and exp(-n * scale) < ALPHA}


def _hidden(stats: ColumnStats) -> bool:
    return stats.kind == "categorical" and not stats.values and stats.other > 0


def _filled(stats: ColumnStats) -> int:
    return sum(stats.counts) + stats.other


def _severity(answer: Answer) -> Literal["error", "warn"]:
    return "error" if answer == "fail" else "warn"


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 1e-9 else "p < 1e-9"
