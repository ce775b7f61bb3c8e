"""Judge a window of predictions against the training data of the version that made them.

Pure: summaries and a window in, DriftReport out; the verdict is a function of the window, never of the clock. The window is
one of events (`observed`) or of sketches (`sketched`), and the policy is the same. Fetching it, storing the report and
drawing it are `loop`'s, asking for fresh data is `retrain`'s.
"""

from collections.abc import Sequence
from typing import Literal

from zebra_assets.contracts.digest import digest_of
from zebra_assets.contracts.events import PredictionEvent
from zebra_assets.contracts.manifest import ColumnStats, Manifest
from zebra_assets.contracts.model_spec import DriftSpec, ModelSpec
from zebra_assets.contracts.noun import now
from zebra_assets.contracts.sketch import WindowSketch
from zebra_assets.contracts.verdicts import ColumnDrift, DriftBin, DriftReport
from zebra_assets.drift.metrics import METRICS
from zebra_assets.drift.observed import Compared, Events, Observed

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
    """Measure every feature of a window of events, and whether so many drifted that the window did.

    Args:
        spec: the model; `spec.drift` holds metric, thresholds and the least number of rows.
        manifest: what the version was trained on; `stats.columns` of its train split is the baseline.
        version: the model version that predicted.
        window: its predictions, in any order. Those of another version or baseline are left out, repeats count once.
        prediction_baseline: summary of the version's predictions on held-out rows; scores where it is numeric. Reported
            beside the features, outside the share.
        baseline_id: how predictions name the baseline when that is not `manifest.id` (a bundle of manifests).

    Returns:
        Always a verdict. Below `min_rows` matching predictions, or with no feature recorded, it is *unknown*: missing data
        never reads as "no drift". A feature that no prediction carries (sensitive, or unused by the model) is not measured,
        and the report names it; one that only some events carry is null in the others.
    """
    return _judge(spec, manifest, version, Events(window, version, baseline_id or manifest.id), prediction_baseline, baseline_id)


def monitor_sketches(
    spec: ModelSpec,
    manifest: Manifest,
    version: str,
    windows: Sequence[WindowSketch],
    *,
    prediction_baseline: ColumnStats | None = None,
    baseline_id: str | None = None,
) -> DriftReport:
    """The same of what servers remember of their predictions; each column says how far off its bars may be.

    Raises:
        DataInvalid: a stored sketch is damaged.
    """
    from zebra_assets.drift.sketched import Sketched  # and with it DataSketches, which events do without

    return _judge(spec, manifest, version, Sketched(windows, version, baseline_id or manifest.id), prediction_baseline, baseline_id)


def _judge(
    spec: ModelSpec, manifest: Manifest, version: str, window: Observed, prediction_baseline: ColumnStats | None, baseline_id: str | None
) -> DriftReport:
    known_as, drift = baseline_id or manifest.id, spec.drift
    columns: list[ColumnDrift] = []
    not_watched: dict[str, str] = {}
    prediction: ColumnDrift | None = None
    state: State = "unknown"
    score: float | None = None
    if window.rows < drift.min_rows:
        reason = _too_few(window.rows, window.apart, drift, version, known_as)
    else:
        columns, not_watched = _columns(spec, manifest, window)
        reason = f"{window.rows:,} predictions of v{version} carry none of the baseline's features: no verdict."
    if columns:
        score = sum(c.drifted for c in columns) / len(columns)
        state = "drifted" if score >= drift.share else "stable"
        answers = "" if prediction_baseline is None else window.answers(prediction_baseline)
        prediction = _measured("prediction", answers, drift) if isinstance(answers, Compared) else None
        reason = _verdict(columns, prediction, score, drift)

    kind = [] if window.source == "events" else [window.source]
    return DriftReport(
        id=digest_of([spec.name, version, known_as, window.parts, drift.model_dump(mode="json"), *kind])[:32],
        model=spec.name,
        version=version,
        manifest_id=known_as,
        window_start=window.between[0] if window.between else None,
        window_end=window.between[1] if window.between else None,
        rows=window.rows,
        source=window.source,
        predictions=window.predictions,
        state=state,
        score=score,
        columns=columns,
        prediction=prediction,
        not_watched=not_watched,
        recommendation=_ANSWER[state],
        reason=reason,
        created_at=now(),
    )


def _columns(spec: ModelSpec, manifest: Manifest, window: Observed) -> tuple[list[ColumnDrift], dict[str, str]]:
    """The baseline's features that are measured, and the others with the reason."""
    measured, left = list[ColumnDrift](), dict[str, str]()
    for name in manifest.columns.features():
        stats = manifest.stats.columns.get(name)
        if stats is None or not stats.rows:
            left[name] = "the baseline has no rows of it"
        elif not window.carries(name) or name in spec.serving.hashed:
            left[name] = _unrecorded(spec, name)
        elif isinstance(found := window.column(name, stats), Compared):
            measured.append(_measured(name, found, spec.drift))
        else:
            left[name] = found
    return measured, left


def _unrecorded(spec: ModelSpec, name: str) -> str:
    """Why no prediction carries a feature's values."""
    if name in spec.sensitive.attributes:
        return "sensitive, so never recorded"
    if name in spec.serving.hashed:
        return "recorded as a keyed hash, while the baseline has the values"
    if spec.serving.fields is not None and name not in spec.serving.fields:
        return "not among serving.fields of model.yaml"
    return "in no prediction of the window: the model does not read it, or it was not recorded"


def _measured(name: str, found: Compared, drift: DriftSpec) -> ColumnDrift:
    table = found.table
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
        error=found.error,
    )


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
