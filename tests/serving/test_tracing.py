"""Spans: a caller's trace goes on through the server, stage by stage, to a real collector's door; without one nothing is loaded."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.serving.conftest import ROW, Bench
from zebra_serving.stages import STAGES

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A door for OTLP over HTTP; its URL, and the spans that came."""
    spans: list[Any] = []

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["content-type"] == "application/x-protobuf" and self.path == "/v1/traces"
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
            for resource in request.resource_spans:
                assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "zebra-serving"
                spans.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", spans
        finally:
            server.shutdown()
            thread.join()


def traced(bench: Bench, endpoint: str, share: float) -> Bench:
    return Bench(bench.settings.model_copy(update={"serving_otlp_endpoint": endpoint, "serving_trace_share": share}), bench.shelf)


def said(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_caller_s_trace_goes_on_and_has_every_stage_below_the_request(bench: Bench) -> None:
    bench.promote("1")
    with collector() as (url, spans):
        with traced(bench, url, 0.0).client("1") as client:
            headers = {"traceparent": CALLER, "x-request-id": "order-4711"}
            assert client.post("/predict", json=ROW, headers=headers).status_code == 200
            client.post("/predict", json={"tenure": "x"}, headers={"traceparent": CALLER})
            client.post("/predict", json=ROW)
            client.post("/predict", json=ROW, headers={"traceparent": CALLER[:-1] + "0"})
            client.post("/predict", json=ROW, headers={"traceparent": "no trace"})
            page = client.get("/metrics").text
        first, second = sorted((s for s in spans if s.name == "POST /predict"), key=lambda s: s.start_time_unix_nano)
    assert 'zebra_request_stage_seconds_count{stage="predict"} 0.0' in page  # traced ones are not counted beside the sampled ones
    assert (first.trace_id.hex(), first.parent_span_id.hex(), first.kind) == (CALLER[3:35], CALLER[36:52], 2)
    assert said(first) == {
        "http.request.method": "POST", "http.route": "/predict", "zebra.request_id": "order-4711", "http.response.status_code": 200,
    }  # fmt: skip
    assert said(second)["http.response.status_code"] == 422
    below = sorted((s for s in spans if s.parent_span_id == first.span_id), key=lambda s: s.start_time_unix_nano)
    assert [s.name for s in below] == list(STAGES) and len(spans) == 2 + len(STAGES)
    for one, following in itertools.pairwise(below):
        assert one.end_time_unix_nano <= following.start_time_unix_nano + 1
    assert all(s.trace_id == first.trace_id for s in below)
    assert first.start_time_unix_nano <= below[0].start_time_unix_nano + 1_000_000
    assert below[-1].end_time_unix_nano <= first.end_time_unix_nano + 1_000_000


def test_a_share_of_the_requests_without_a_caller_s_trace_begins_one(bench: Bench) -> None:
    bench.promote("1")
    with collector() as (url, spans), traced(bench, url, 0.5).client("1") as client:
        for _ in range(60):
            client.post("/predict", json=ROW)
    roots = [s for s in spans if s.name == "POST /predict"]
    assert 10 < len(roots) < 50 and all(s.parent_span_id == b"" for s in roots)


def test_a_collector_that_is_away_costs_no_request(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.promote("1")
    with traced(bench, "http://127.0.0.1:1/v1/traces", 1.0).client("1") as client:
        for _ in range(20):
            assert client.post("/predict", json=ROW).status_code == 200
    assert caplog.text.count("takes no spans") == 1


def test_without_an_endpoint_opentelemetry_s_sdk_is_not_even_imported(bench: Bench) -> None:
    code = (
        "import sys; from pathlib import Path; from zebra_assets.settings import Settings; from zebra_serving.app import create_app\n"
        f"create_app(Settings(project_dir=Path({str(bench.settings.project_dir)!r})), 'churn')\n"
        "assert not [m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.proto'))]"  # FastAPI imports the API
    )
    done = subprocess.run([sys.executable, "-c", code], env=bench.environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
