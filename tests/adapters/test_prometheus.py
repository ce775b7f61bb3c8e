"""Drift figures: what is said, and a push to a real Pushgateway where one is installed."""

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from zebra_assets.adapters.prometheus import drift_metrics_text, push
from zebra_assets.contracts.verdicts import ColumnDrift, DriftReport
from zebra_assets.errors import Unavailable


def _report(
    state: str = "drifted", version: str = "1", columns: tuple[str, ...] = ("tenure", 'a "quoted"\n column'), **more: Any
) -> DriftReport:
    figures = {"kind": "numeric", "score": 0.4, "threshold": 0.2, "drifted": True, "psi": 0.41, "js": 0.2}
    return DriftReport.model_validate(
        {
            "id": "report-0001",
            "model": "churn",
            "version": version,
            "manifest_id": "telco-0123456789abcdef",
            "window_start": None,
            "window_end": None,
            "rows": 500,
            "state": state,
            "score": None if state == "unknown" else 0.5,
            "columns": [] if state == "unknown" else [ColumnDrift(column=name, **figures) for name in columns],  # type: ignore[arg-type]
            "recommendation": "wait",
            "reason": "",
            "created_at": "2026-11-21T12:00:00Z",
            **more,
        }
    )


def _samples(text: str) -> dict[tuple[str, str], float]:
    """(metric, its own label) to value."""
    return {
        (s.name, s.labels.get("state") or s.labels.get("column") or ""): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_the_figures_of_a_report_read_back_as_they_were() -> None:
    samples = _samples(drift_metrics_text(_report()))
    assert samples["zebra_drift_score", ""] == 0.5
    assert samples["zebra_drift_column_score", 'a "quoted"\n column'] == 0.4
    assert samples["zebra_drift_window_rows", ""] == 500
    assert samples["zebra_drift_checked_timestamp_seconds", ""] == _report().created_at.timestamp()
    assert [samples["zebra_drift_state", s] for s in ("stable", "drifted", "unknown")] == [0, 1, 0]


def test_an_unknown_window_has_no_score_that_could_read_as_no_drift() -> None:
    samples = _samples(drift_metrics_text(_report("unknown")))
    assert samples["zebra_drift_state", "unknown"] == 1
    assert not [name for name, _ in samples if "score" in name]


@pytest.mark.parametrize("url", [None, ""])
def test_without_a_gateway_nothing_is_sent_and_nothing_is_wrong(url: str | None) -> None:
    assert push(_report(), url) is False


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:none", "gopher://x"])
def test_a_gateway_that_cannot_be_reached_says_so_and_what_to_set(url: str) -> None:
    with pytest.raises(Unavailable, match="did not take the drift figures of 'churn'") as caught:
        push(_report(), url)
    assert "ZEBRA_PUSHGATEWAY_URL" in str(caught.value.fix)


def _page(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    binary = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
    if binary is None:
        pytest.skip("no Pushgateway here (Debian: apt-get install prometheus-pushgateway)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([binary, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                _page(url)
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_a_push_replaces_the_models_figures_and_leaves_those_of_others(gateway: str) -> None:
    assert push(_report(version="1", columns=("gone", "stays")), gateway)
    assert push(_report(model="prices", columns=("other",)), gateway)
    assert push(_report(version="2", columns=("stays",)), gateway)
    lines = [line for line in _page(gateway).splitlines() if line.startswith("zebra_drift_column_score")]
    assert sorted(line.partition("}")[0].partition("column=")[2].split('"')[1] for line in lines) == ["other", "stays"]
    assert 'version="2"' in next(line for line in lines if '"stays"' in line)


def test_a_window_that_became_unknown_takes_its_old_score_along(gateway: str) -> None:
    push(_report(model="fraud"), gateway)
    push(_report("unknown", model="fraud"), gateway)
    assert not [line for line in _page(gateway).splitlines() if "score" in line and 'model="fraud"' in line]
