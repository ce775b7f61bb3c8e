"""A request's seconds by stage, and its id from the header to the event and the log."""

import logging
import re
import shutil
import subprocess
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.serving.conftest import MODEL, ROW, Bench, rows
from zebra_serving.schema import Rows
from zebra_serving.served import Scored
from zebra_serving.stages import ONE_IN, STAGES


def by_stage(page: str, figure: str) -> dict[str, float]:
    return {m[1]: float(m[2]) for m in re.finditer(rf'zebra_request_stage_seconds_{figure}{{stage="(\w+)"}} (\S+)', page)}


def test_every_sixteenth_quick_request_is_timed_and_counts_for_sixteen(bench: Bench) -> None:
    bench.promote("1")
    with bench.client("1") as client:
        for _ in range(3 * ONE_IN + 5):
            client.post("/predict", json=ROW)
        client.post("/predict", json={"tenure": "x"})  # refused: no answer, no stages
        page = client.get("/metrics").text
        [seconds] = re.findall(r'zebra_request_seconds_sum{route="/predict"} (\S+)', page)
    assert by_stage(page, "count") == dict.fromkeys(STAGES, 3.0 * ONE_IN)
    spent = by_stage(page, "sum")
    assert all(spent[stage] > 0 for stage in ("parse", "predict", "serialise")) and spent["queue"] < spent["parse"]
    assert sum(spent.values()) <= ONE_IN * float(seconds)


class Slow:
    form, quick = "slow", False

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def predict(self, given: Rows) -> Scored:
        time.sleep(0.02)
        found: Scored = self._inner.predict(given)
        return found


@pytest.mark.parametrize("count", [1, 3000], ids=["by the worker", "in a thread of its own"])
def test_requests_that_wait_for_a_turn_are_all_timed(bench: Bench, count: int) -> None:
    bench.promote("1")
    app = bench.app()
    app.loader.poll()
    assert app.loader.current is not None
    app.loader.current = replace(app.loader.current, model=Slow(app.loader.current.model))
    with bench.running(app) as client:
        for _ in range(3):
            assert client.post("/predict", json={"rows": rows(count)}).status_code == 200
        page = client.get("/metrics").text
    assert by_stage(page, "count") == dict.fromkeys(STAGES, 3.0)
    assert by_stage(page, "sum")["predict"] >= 0.06


def test_the_request_id_of_a_client_is_in_the_answer_the_event_and_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Slow):
        def predict(self, given: Rows) -> Scored:
            raise RuntimeError("broken")

    bench.promote("1")
    app = bench.app()
    app.loader.poll()
    assert app.loader.current is not None
    with bench.running(app) as client, caplog.at_level(logging.ERROR):
        named = client.post("/predict", json=ROW, headers={"x-request-id": "order-4711"})
        unnamed = client.post("/predict", json=ROW, headers={"x-request-id": "not an id"})
        app.loader.current = replace(app.loader.current, model=Broken(None))
        failed = client.post("/predict", json=ROW, headers={"x-request-id": "order-4712"})
    assert named.headers["x-request-id"] == "order-4711" and unnamed.headers["x-request-id"] != "not an id"
    assert [e.request_id for e in bench.events.predictions(MODEL)] == ["order-4711", unnamed.headers["x-request-id"]]
    assert (failed.status_code, failed.json()["request_id"]) == (500, "order-4712")
    assert "request order-4712 failed" in caplog.text and "broken" in caplog.text


def test_promtool_finds_nothing_wrong_with_the_metrics_of_a_server_that_answered(bench: Bench) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    bench.promote("1")
    with bench.client("1") as client:
        for _ in range(ONE_IN):
            client.post("/predict", json=ROW)
        page = client.get("/metrics").text
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
