"""The six typed facts from production. `event_id` makes a retry harmless; `ts` informs, and orders only labels of one prediction."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter

from zebra_assets.contracts.names import ManifestId, Name, Version
from zebra_assets.contracts.noun import Noun


def _utc(ts: datetime) -> datetime:
    return ts.astimezone(UTC) if ts.tzinfo else ts.replace(tzinfo=UTC)


# In UTC always, so that the stored text of two moments compares as they do.
Moment = Annotated[datetime, AfterValidator(_utc)]


class _Event(Noun):
    event_id: str = Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")
    ts: Moment
    model: Name


class Drawn(Noun):
    """The lot by which a request came to its version; kept only where the lot alone decided.

    Attributes:
        route: seq of the route in force.
        arm: name of the arm.
        shares: with which chance each version was drawn.
        unit: hash of what the lot was drawn for, a key or a request; the same unit always draws the same under one salt.
    """

    route: int
    arm: Name
    shares: dict[Version, float]
    unit: str


@dataclass(frozen=True)
class Outcome:
    """A drawn prediction and the label that holds for it."""

    version: str
    drawn: Drawn
    prediction: str | float | int | bool
    score: float | None
    label: str | float | int | bool


class PredictionEvent(_Event):
    """One prediction: the features it saw, and which baseline they should resemble."""

    type: Literal["prediction_event"] = "prediction_event"
    version: Version
    manifest_id: ManifestId
    request_id: str | None = None
    features: dict[str, Any]
    prediction: str | float | int | bool
    score: float | None = None
    drawn: Drawn | None = None


class DataQualityEvent(_Event):
    """Rows broke the recipe."""

    type: Literal["data_quality_event"] = "data_quality_event"
    dataset: Name
    column: str | None
    rule: str
    count: int


class DriftEvent(_Event):
    """A window was judged drifted."""

    type: Literal["drift_event"] = "drift_event"
    report_id: str
    score: float


class LabelEvent(_Event):
    """The truth about an earlier prediction, arrived later. Of several, the one with the latest `ts` holds: since then it was known."""

    type: Literal["label_event"] = "label_event"
    prediction_event_id: str
    label: str | float | int | bool


class PerformanceEvent(_Event):
    """A metric over labelled predictions."""

    type: Literal["performance_event"] = "performance_event"
    version: Version
    metric: str
    value: float
    rows: int


class IncidentEvent(_Event):
    """Something in production needs a person."""

    type: Literal["incident_event"] = "incident_event"
    severity: Literal["info", "warning", "critical"]
    summary: str


Event = Annotated[
    PredictionEvent | DataQualityEvent | DriftEvent | LabelEvent | PerformanceEvent | IncidentEvent, Field(discriminator="type")
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
