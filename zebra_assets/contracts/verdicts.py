"""Verdicts: EvalReport, GateDecision, DriftReport. Each names exactly what it judged."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from zebra_assets.contracts.names import Digest, ManifestId, Name, Version
from zebra_assets.contracts.noun import Noun


class Scores(Noun):
    """Metrics of one version on one split, with a bootstrap interval where there is one."""

    version: Version
    model_digest: Digest
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict, description="95% bootstrap interval per metric.")


class EvalReport(Noun):
    """A candidate's scores on held-out rows, beside prod's on the same rows. The id is a digest of its inputs."""

    id: str
    model: Name
    run_id: str
    manifest_id: ManifestId
    split: str
    rows: int
    candidate: Scores
    champion: Scores | None = Field(default=None, description="The prod version's scores on the same rows, when there was one.")
    difference: tuple[float, float, float] | None = Field(
        default=None, description="Primary metric, candidate minus champion: (low, point, high), paired bootstrap 95%."
    )
    created_at: datetime
    html_uri: str | None = None


class Rule(Noun):
    """One gate rule with its number."""

    name: str
    passed: bool
    value: float | None
    bound: float | None
    reason: str


class GateDecision(Noun):
    """Whether one version may take an alias. Pins version, bytes, data and report; anything else moved: no longer valid."""

    id: str
    model: Name
    run_id: str
    version: Version
    model_digest: Digest
    manifest_id: ManifestId
    report_id: str
    champion_version: Version | None
    allowed: bool
    rules: list[Rule]
    created_at: datetime

    @property
    def reasons(self) -> list[str]:
        """The sentences of the rules that failed, or of all of them when none did."""
        return [r.reason for r in self.rules if not r.passed] or [r.reason for r in self.rules]


class DriftBin(Noun):
    """One bar of a column's two histograms: its share of the baseline's and of the window's rows, 0 to 1."""

    label: str
    baseline: float
    window: float


class ColumnDrift(Noun):
    """One column's distance from its baseline. `score` is the model's drift metric net of what chance alone gives.

    `error` is how far off the window's bars may be, as a share of its rows and with 99 % confidence: 0 for rows that were
    read themselves, the sketch's bound for a sketch (docs/drift.md).
    """

    column: str
    kind: Literal["numeric", "categorical"]
    score: float
    threshold: float
    drifted: bool
    psi: float
    js: float
    ks: float | None = None
    new_values: list[str] = Field(default_factory=list)
    bins: list[DriftBin] = Field(default_factory=list)
    error: float = 0.0


class DriftReport(Noun):
    """A window of predictions against the baseline manifest of the version that made them.

    Attributes:
        source: what was read: the events of single predictions, or the sketches that servers keep of all of them.
        rows: predictions measured.
        predictions: predictions made in the window, where that is known: a sketch may cover a random part of them.
        not_watched: the baseline's features that were not measured, each with the reason.
    """

    id: str
    model: Name
    version: Version
    manifest_id: ManifestId
    window_start: datetime | None
    window_end: datetime | None
    rows: int
    source: Literal["events", "sketches"] = "events"
    predictions: int | None = None
    state: Literal["stable", "drifted", "unknown"]
    score: float | None = Field(description="Share of drifted feature columns, 0 to 1; None while unknown.")
    columns: list[ColumnDrift]
    prediction: ColumnDrift | None = None
    not_watched: dict[str, str] = Field(default_factory=dict)
    recommendation: Literal["none", "retrain", "wait"]
    reason: str
    created_at: datetime
    html_uri: str | None = None
