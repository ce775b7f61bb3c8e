"""Captured rows on their way from a request to the event store: kept as they came, made events by the capture's thread."""

from dataclasses import dataclass
from datetime import datetime
from sys import getsizeof
from typing import Any

from zebra_assets.contracts.events import Event, PredictionEvent
from zebra_assets.contracts.promotion import Promotion
from zebra_serving.recording import Recording
from zebra_serving.schema import RowSchema

Taken = list[tuple[int, tuple[Any, ...], Any, float | None]]


@dataclass(slots=True)
class Offered:
    """The captured rows of one request, still as cheap as they came.

    Attributes:
        promotion: of the version that answered; not the version with its model, which may be gone long before the store takes this.
        rows: place, values, label and score of each.
        text: `text_of` the rows; 0 where nobody looked.
    """

    prefix: str
    ts: datetime
    promotion: Promotion
    request_id: str | None
    schema: RowSchema
    rows: Taken
    text: int

    def events(self, recording: Recording) -> list[Event]:
        """The rows as events, of what may be recorded."""
        p, shown = self.promotion, [(j, name) for j, name in enumerate(self.schema.recorded) if recording.shows(name)]
        drawn = getattr(self.request_id, "drawn", None)  # a routed request's id knows its lot
        # Not validated again: the values come out of our own decoder, and reading an event back validates it.
        return [
            PredictionEvent.model_construct(
                type="prediction_event", event_id=f"{self.prefix}-{i}", ts=self.ts, model=p.model, version=p.version,
                manifest_id=p.manifest_id, request_id=self.request_id,
                features={name: recording.kept(name, values[j]) for j, name in shown if values[j] is not None or j < self.schema.width},
                prediction=label, score=score, drawn=drawn,
            )
            for i, values, label, score in self.rows
        ]  # fmt: skip


def text_of(rows: Taken) -> int:
    """Bytes of the rows' texts. Costs more than a microsecond a row."""
    return sum([getsizeof(value) for _, values, _, _ in rows for value in values if type(value) is str])
