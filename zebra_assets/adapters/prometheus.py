"""Drift figures in Prometheus' words, and the push to a Pushgateway that a batch job needs.

A drift check ends before anyone could scrape it, so its figures are pushed and rest in the gateway, one group per model; a
push replaces the whole group, so no column and no version outlives its report. The server's own figures are scraped from
the server (`zebra_serving/metrics`). Called by `loop`.
"""

from http.client import HTTPException

from prometheus_client import CollectorRegistry, Gauge, generate_latest, push_to_gateway

from zebra_assets.contracts.verdicts import DriftReport
from zebra_assets.errors import Unavailable

JOB = "zebra_drift"
TIMEOUT_S = 5.0
_STATES = ("stable", "drifted", "unknown")


def push(report: DriftReport, gateway_url: str | None) -> bool:
    """Replace the model's group in the gateway; whether anything was sent (not without a URL).

    Raises:
        Unavailable: the gateway did not take it. The report itself is stored elsewhere; the caller logs and goes on.
    """
    if not gateway_url:
        return False
    try:
        push_to_gateway(gateway_url, job=JOB, registry=_registry(report), grouping_key={"model": report.model}, timeout=TIMEOUT_S)
    # OSError: refused, timed out or an HTTP error (URLError is one); the other two: not a URL, or not an HTTP server.
    except (OSError, ValueError, HTTPException) as error:
        raise Unavailable(
            f"The Pushgateway at {gateway_url} did not take the drift figures of '{report.model}': {error}.",
            fix="start it, or set ZEBRA_PUSHGATEWAY_URL (empty: nothing is pushed)",
        ) from error
    return True


def drift_metrics_text(report: DriftReport) -> str:
    """The same figures in the text exposition format.

    `zebra_drift_state` is 1 for the state the window is in. `zebra_drift_score` and `zebra_drift_column_score` are absent
    while the state is unknown: a missing figure must not read as 0.
    """
    return generate_latest(_registry(report)).decode()


def _registry(report: DriftReport) -> CollectorRegistry:
    registry = CollectorRegistry()
    names, values = ["model", "version"], [report.model, report.version]

    def gauge(name: str, about: str, *extra: str) -> Gauge:
        return Gauge(name, about, [*names, *extra], registry=registry)

    state = gauge("zebra_drift_state", "1 for the state of the newest window: stable, drifted or unknown.", "state")
    for one in _STATES:
        state.labels(*values, one).set(one == report.state)
    gauge("zebra_drift_window_rows", "Predictions in the newest window.").labels(*values).set(report.rows)
    checked = gauge("zebra_drift_checked_timestamp_seconds", "When the newest window was judged, in Unix seconds.")
    checked.labels(*values).set(report.created_at.timestamp())
    if report.score is not None:
        gauge("zebra_drift_score", "Share of drifted feature columns, 0 to 1.").labels(*values).set(report.score)
    if report.columns:
        score = gauge("zebra_drift_column_score", "A column's drift metric, net of chance.", "column")
        drifted = gauge("zebra_drift_column_drifted", "1 where a column's score is above its threshold.", "column")
        for column in report.columns:
            score.labels(*values, column.column).set(column.score)
            drifted.labels(*values, column.column).set(column.drifted)
    return registry
