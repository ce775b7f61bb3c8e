"""The pages people look at, drawn and put into the object store below `reports/<model>/<report id>/`."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zebra_assets.contracts.events import PredictionEvent
from zebra_assets.contracts.manifest import Manifest
from zebra_assets.contracts.model_spec import ModelSpec
from zebra_assets.contracts.rows import files_of
from zebra_assets.contracts.verdicts import DriftReport, EvalReport, GateDecision
from zebra_assets.errors import DataInvalid
from zebra_assets.loop.predictions import predictions
from zebra_assets.parts import Parts

if TYPE_CHECKING:
    import pyarrow as pa

EVIDENTLY = "evidently.html"


def store_evaluation(
    parts: Parts, spec: ModelSpec, report: EvalReport, decision: GateDecision, candidate: "pa.Table", champion: "pa.Table | None"
) -> EvalReport:
    """Draw the evaluation and store it with its JSON beside it; the report with the page's URI."""
    from zebra_assets.adapters.reports import evaluation_html

    folder = _folder(report)
    page = evaluation_html(spec, report, candidate, champion, decision)
    report = report.model_copy(update={"html_uri": parts.store.put(f"{folder}/evaluation.html", page.encode(), overwrite=True)})
    parts.store.put(f"{folder}/evaluation.json", report.to_json().encode(), overwrite=True)
    return report


def report_picture(parts: Parts, spec: ModelSpec, report: EvalReport) -> bytes:
    """A small PNG of an evaluation, for places that show images only."""
    from zebra_assets.adapters.reports import metrics_plot_png

    manifest, who = parts.manifests.get(report.manifest_id), report.candidate
    return metrics_plot_png(report, predictions(parts, spec.name, who.version, who.model_digest, manifest, report.split))


def store_drift(parts: Parts, report: DriftReport) -> DriftReport:
    """Draw the drift report and store it; the report with the page's URI. Evidently's page is linked where one was drawn, ever."""
    from zebra_assets.adapters.drift_page import drift_summary_html

    page = drift_summary_html(report, evidently_href=EVIDENTLY if parts.store.exists(evidently_key(report)) else None)
    return report.model_copy(update={"html_uri": parts.store.put(f"{_folder(report)}/drift.html", page.encode(), overwrite=True)})


def store_evidently(parts: Parts, report: DriftReport, *, spec: ModelSpec, baseline: Manifest, window: list[PredictionEvent]) -> None:
    """Draw Evidently's page of the same window, store it beside ours, and link it there.

    Raises:
        DataInvalid: nothing to compare, or the events' values have no common types.
        UsageError, Unavailable: Evidently is not installed, or did not draw it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from zebra_assets.adapters.evidently_report import drift_html

    if not baseline.blobs("train") or not window:
        raise DataInvalid(f"Evidently has nothing to compare for {report.id}.", fix=f"mlops serve {spec.name}, and send it requests")
    try:
        hashed = spec.serving.hashed
        rows = pa.Table.from_pylist([{k: v for k, v in event.features.items() if k not in hashed} for event in window])
    except pa.ArrowInvalid as error:
        raise DataInvalid(f"Events of '{spec.name}' differ in the types of a feature: {error}.", fix="read the summary page") from error
    with tempfile.TemporaryDirectory(prefix="zebra-") as scratch:
        out = Path(scratch) / EVIDENTLY
        drift_html(pq.read_table(files_of(baseline, "train", parts.store)), rows, out, share=spec.drift.share)
        parts.store.put(evidently_key(report), out, overwrite=True)
    store_drift(parts, report)


def evidently_key(report: DriftReport) -> str:
    """Where in the object store Evidently's page of a report is, once it was drawn."""
    return f"{_folder(report)}/{EVIDENTLY}"


def _folder(report: EvalReport | DriftReport) -> str:
    return f"reports/{report.model}/{report.id}"
