"""Judge a window of predictions against the training data of the version that made them.

Pure: summaries and events in, DriftReport out; the verdict is a function of the window, never of the clock. Fetching the
window, storing the report and drawing it are `loop`'s, asking for fresh data is `retrain`'s.
"""

from collections.abc import Sequence
from typing import Any, Literal

from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.events import PredictionEvent
from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.model_spec import DriftSpec, ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.verdicts import ColumnDrift, DriftBin, DriftReport
from zebra_assets.drift.binning import compare
from zebra_assets.drift.metrics import METRICS

NAMED = 5  # columns named in the reason; the report lists them all

State = Literal["stable", "drifted", "unknown"]
_ANSWER: dict[State, Literal["none", "retrain", "wait"]] = {"stable": "none", "drifted": "retrain", "unknown": "wait"}


def monitor(
    spec: ModelSpec,
    manifest: Manifest,
    version: str,
    window: Sequence[PredictionEvent],
    *,
    prediction_baseline: ColumnStats | None = None,
    baseline_id: str | None = None,
) -> DriftReport:
    """Measure every feature of a window, and whether so many drifted that the window did.

    Args:
        spec: the model; `spec.drift` holds metric, thresholds and the least number of rows.
        manifest: what the version was trained on; `stats.columns` of its train split is the baseline.
        version: the model version that predicted.
        window: its predictions, in any order. Those of another version or baseline are left out, repeats count once.
        prediction_baseline: summary of the version's predictions on held-out rows; scores where it is numeric. Reported
            beside the features, outside the share.
        baseline_id: how events name the baseline when that is not `manifest.id` (a bundle of manifests).

    Returns:
        Always a verdict. Below `min_rows` matching events, or with no feature recorded, it is *unknown*: missing data never
        reads as "no drift". A feature that no event carries (sensitive, or unused by the model) is not measured; one that
        only some events carry is null in the others.
    """
    known_as = baseline_id or manifest.id
    unique = {event.event_id: event for event in window}
    events = [e for e in unique.values() if e.manifest_id == known_as and e.version == version]
    features = _recorded(manifest, events)
    drift = spec.drift

    columns: list[ColumnDrift] = []
    prediction: ColumnDrift | None = None
    state: State = "unknown"
    score: float | None = None
    if len(events) < drift.min_rows:
        reason = _too_few(len(events), len(unique) - len(events), drift, version, known_as)
    elif not features:
        reason = f"{len(events):,} predictions of v{version} carry none of the baseline's features: no verdict."
    else:
        columns = [_measure(name, stats, [e.features.get(name) for e in events], drift) for name, stats in features.items()]
        score = sum(c.drifted for c in columns) / len(columns)
        state = "drifted" if score >= drift.share else "stable"
        if prediction_baseline is not None:
            prediction = _measure("prediction", prediction_baseline, _predictions(prediction_baseline, events), drift)
        reason = _verdict(columns, prediction, score, drift)

    times = [e.ts for e in events]
    return DriftReport(
        id=digest_of([spec.name, version, known_as, sorted(unique), drift.model_dump(mode="json")])[:32],
        model=spec.name,
        version=version,
        manifest_id=known_as,
        window_start=min(times, default=None),
        window_end=max(times, default=None),
        rows=len(events),
        state=state,
        score=score,
        columns=columns,
        prediction=prediction,
        recommendation=_ANSWER[state],
        reason=reason,
        created_at=now(),
    )


def _recorded(manifest: Manifest, events: list[PredictionEvent]) -> dict[str, ColumnStats]:
    """The baseline's feature columns that at least one event carries."""
    carried: set[str] = set().union(*(e.features.keys() for e in events))
    stats = manifest.stats.columns
    return {name: stats[name] for name in manifest.columns.features() if name in carried and name in stats and stats[name].rows}


def _measure(name: str, stats: ColumnStats, values: list[Any], drift: DriftSpec) -> ColumnDrift:
    table = compare(stats, values)
    judge, threshold = METRICS[drift.metric], drift.threshold
    if table.kind not in judge.kinds:  # ks has no meaning for categories: they are read by psi and its usual threshold
        judge, threshold = METRICS["psi"], METRICS["psi"].threshold
    score = judge.net(table)
    bars = zip(table.labels, table.baseline / table.baseline.sum(), table.window / table.window.sum(), strict=True)
    return ColumnDrift(
        column=name,
        kind=table.kind,
        score=score,
        threshold=threshold,
        drifted=score > threshold,
        psi=METRICS["psi"].distance(table),
        js=METRICS["js"].distance(table),
        ks=METRICS["ks"].distance(table) if table.kind == "numeric" else None,
        new_values=table.new_values,
        bins=[DriftBin(label=label, baseline=float(base), window=float(seen)) for label, base, seen in bars],
    )


def _predictions(baseline: ColumnStats, events: list[PredictionEvent]) -> list[Any]:
    if baseline.kind == "categorical":
        return [e.prediction for e in events]
    return [e.prediction if e.score is None else e.score for e in events]


def _too_few(matching: int, apart: int, drift: DriftSpec, version: str, known_as: str) -> str:
    said = f"{matching:,} of the {drift.min_rows:,} predictions needed: no verdict yet"
    return f"{said}; {apart:,} more are of another version or baseline than v{version} on {known_as}." if apart else f"{said}."


def _verdict(columns: list[ColumnDrift], prediction: ColumnDrift | None, score: float, drift: DriftSpec) -> str:
    """For example: 6 of 18 features drifted (share 0.33 ≥ 0.30): internet_service PSI 3.1, monthly_charges PSI 1.8 …"""
    worst = sorted((c for c in columns if c.drifted), key=lambda c: (-c.score, c.column))
    head = f"{len(worst)} of {len(columns)} features drifted (share {score:.2f} {'≥' if score >= drift.share else '<'} {drift.share:.2f})"
    named = ", ".join(_figure(c, drift) for c in worst[:NAMED])
    more = f" and {len(worst) - NAMED} more" if len(worst) > NAMED else ""
    said = f"{head}: {named}{more}" if worst else head
    return f"{said}; predictions drifted too ({_figure(prediction, drift)})." if prediction and prediction.drifted else f"{said}."


def _figure(column: ColumnDrift, drift: DriftSpec) -> str:
    metric = drift.metric if column.kind in METRICS[drift.metric].kinds else "psi"
    news = f" (new: {', '.join(column.new_values[:2])})" if column.new_values else ""
    return f"{column.column} {metric.upper()} {column.score:.2g}{news}"
