"""A window of predictions as the sketches that servers keep of all of them: any number of rows, and none of them stored.

The windows of hours and servers are merged, column by column, and the merged sketch is asked how many rows lie in each bin of
the baseline. A number's bins are then as far off as KLL says (1.66 % of the rows in 99 of 100 cases for its k of 200, and not
at all below 200 rows); other values are exact up to 768 different ones. Called by `monitor`.
"""

import base64
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import datasketches as ds

from zebra_assets.contracts.manifest import ColumnStats
from zebra_assets.contracts.sketch import ColumnSketch, WindowSketch
from zebra_assets.drift.binning import as_text, compare_counted, compare_tallied, span
from zebra_assets.drift.observed import Compared
from zebra_assets.errors import DataInvalid

MAX_TEXT = 200  # characters that servers keep of a value (zebra_serving/sketches)


class Sketched:
    """A window of sketches, in any order."""

    source: Literal["events", "sketches"] = "sketches"

    def __init__(self, windows: Sequence[WindowSketch], version: str, manifest_id: str) -> None:
        mine = [w for w in windows if (w.manifest_id, w.version) == (manifest_id, version)]
        self._windows = mine
        self.rows = sum(w.sketched for w in mine)
        self.predictions: int | None = sum(w.rows for w in mine)
        self.apart = sum(w.rows for w in windows) - self.predictions
        self.parts: list[Any] = sorted([w.id, w.rows] for w in windows)
        self.between = (min(w.window_start for w in mine), max(w.window_end for w in mine)) if mine else None

    def carries(self, column: str) -> bool:
        return any(column in w.columns for w in self._windows)

    def column(self, name: str, stats: ColumnStats) -> Compared | str:
        """Of a feature that only some windows carry, those are compared."""
        return self._compared(name, [(w.id, w.columns[name]) for w in self._windows if name in w.columns], stats)

    def answers(self, stats: ColumnStats) -> Compared | str:
        return self._compared("prediction", [(w.id, w.prediction) for w in self._windows if w.prediction.rows], stats)

    def _compared(self, name: str, kept: list[tuple[str, ColumnSketch]], stats: ColumnStats) -> Compared | str:
        kinds = {sketch.kind for _, sketch in kept if sketch.nulls < sketch.rows} or {stats.kind}
        if kinds != {stats.kind}:
            return f"kept as {' and '.join(sorted(kinds))}, {stats.kind} in the baseline"
        rows, nulls = sum(s.rows for _, s in kept), sum(s.nulls for _, s in kept)
        measure = _numbers if stats.kind == "numeric" else _words
        return measure(stats, [_opened(stats.kind, s, name, window) for window, s in kept if s.sketch], rows, nulls)


def _numbers(stats: ColumnStats, sketches: list[Any], rows: int, nulls: int) -> Compared:
    kll = ds.kll_doubles_sketch(200)
    for sketch in sketches:
        kll.merge(sketch)
    cells = [kll.n]
    if stats.counts:
        low, high = span(stats)
        cuts = [low, *stats.edges[1:-1]]
        below = [0 if kll.is_empty() else round(kll.get_rank(cut, inclusive=False) * kll.n) for cut in cuts]
        below.append(0 if kll.is_empty() else round(kll.get_rank(high, inclusive=True) * kll.n))
        cells = [b - a for a, b in zip([0, *below], [*below, kll.n], strict=True)]
    error = kll.normalized_rank_error(True) if kll.is_estimation_mode() else 0.0
    return Compared(compare_counted(stats, cells, nulls, rows=rows), error)


def _words(stats: ColumnStats, sketches: list[Any], rows: int, nulls: int) -> Compared:
    items = ds.frequent_strings_sketch(10)
    for sketch in sketches:
        items.merge(sketch)
    found = items.get_frequent_items(ds.frequent_items_error_type.NO_FALSE_NEGATIVES)
    # Servers cut long values; a baseline keeps more of them, and its spelling is the one that bins go by.
    whole = {as_text(value)[:MAX_TEXT]: as_text(value) for value in stats.values}
    seen: Counter[str] = Counter()
    for text, _, at_least, _ in found:
        seen[whole.get(as_text(text), as_text(text))] += at_least
    error = max((most - at_least for _, _, at_least, most in found), default=0) / max(rows, 1)
    return Compared(compare_tallied(stats, seen, nulls, rows=rows, unlisted=rows - nulls - seen.total()), error)


def _opened(kind: str, sketch: ColumnSketch, name: str, window: str) -> Any:
    family = ds.kll_doubles_sketch if kind == "numeric" else ds.frequent_strings_sketch
    try:
        return family.deserialize(base64.b64decode(sketch.sketch, validate=True))
    except (ValueError, RuntimeError, IndexError) as error:
        raise DataInvalid(
            f"The sketch of '{name}' in window {window} cannot be read: {error}.",
            fix="the window was damaged: delete its row in `sketches`",
        ) from error
