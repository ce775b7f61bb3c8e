"""A window of predictions as `monitor` reads it, whatever it was kept as; here: the events of single predictions.

The other way to keep one is `sketched`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from zebra_assets.contracts.events import PredictionEvent
from zebra_assets.contracts.manifest import ColumnStats
from zebra_assets.drift.binning import Binned, compare


@dataclass(frozen=True)
class Compared:
    """One column over the baseline's bins; ``error`` is the share of the window's rows by which a bin may be off."""

    table: Binned
    error: float = 0.0


class Observed(Protocol):
    """Predictions of one version, measured by one baseline.

    Attributes:
        rows: predictions whose columns are known.
        predictions: predictions made, where that is known.
        apart: predictions left out, being of another version or baseline.
        parts: names what the window is made of, sorted: the same parts are the same window.
        between: first and last moment; None without predictions.
    """

    source: Literal["events", "sketches"]
    rows: int
    predictions: int | None
    apart: int
    parts: list[Any]
    between: tuple[datetime, datetime] | None

    def carries(self, column: str) -> bool:
        """Whether anything is known of a feature."""
        ...

    def column(self, name: str, stats: ColumnStats) -> Compared | str:
        """A feature that is carried beside its baseline, or why they cannot be compared."""
        ...

    def answers(self, stats: ColumnStats) -> Compared | str:
        """What was answered beside what the version answered on held-out rows: scores where the baseline is of numbers."""
        ...


class Events:
    """A window of events, in any order; repeats count once."""

    source: Literal["events", "sketches"] = "events"
    predictions: int | None = None

    def __init__(self, window: Sequence[PredictionEvent], version: str, manifest_id: str) -> None:
        unique = {event.event_id: event for event in window}
        self._events = [e for e in unique.values() if (e.manifest_id, e.version) == (manifest_id, version)]
        self._carried: set[str] = set().union(*(e.features.keys() for e in self._events))
        self.rows, self.apart, self.parts = len(self._events), len(unique) - len(self._events), sorted(unique)
        times = [e.ts for e in self._events]
        self.between = (min(times), max(times)) if times else None

    def carries(self, column: str) -> bool:
        return column in self._carried

    def column(self, name: str, stats: ColumnStats) -> Compared:
        """A feature that only some events carry is null in the others."""
        return Compared(compare(stats, [e.features.get(name) for e in self._events]))

    def answers(self, stats: ColumnStats) -> Compared:
        if stats.kind == "categorical":
            return Compared(compare(stats, [e.prediction for e in self._events]))
        return Compared(compare(stats, [e.prediction if e.score is None else e.score for e in self._events]))
