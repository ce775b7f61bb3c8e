"""Spans of requests and their stages, for those who set `serving_otlp_endpoint`; imported for nobody else.

A request is traced when the caller's `traceparent` (W3C Trace Context) says so, and without one at random, `serving_trace_share`
of them. Its span becomes a child of the caller's; the stages that `stages` times are children of its own. OpenTelemetry's SDK
gathers spans and hands them over in a thread of its own (`otlp`), so that a collector that is away costs spans and no request.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from zebra_serving.otlp import OtlpExporter
from zebra_serving.stages import Timed


@dataclass(frozen=True, slots=True)
class Trace:
    """One request's open span, and by what id its stages are found."""

    span: Span
    request_id: str


class Tracing:
    """Begins and ends the spans of requests. Event loop only.

    Args:
        endpoint: URL that takes OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces.
        share: of the requests without a `traceparent` that are traced, 0 to 1.

    Attributes:
        open: requests that are traced now; `Stages.traced` of every model is this.
    """

    def __init__(self, endpoint: str, share: float) -> None:
        self._share, self._reads = share, TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create({"service.name": "zebra-serving"}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(OtlpExporter(endpoint)))
        self._tracer = self._provider.get_tracer("zebra_serving")
        self.open: dict[str, Timed | None] = {}

    def begin(self, headers: Mapping[bytes, bytes], method: str, route: str, request_id: str) -> Trace | None:
        """Open a request's span; None for a request that is not traced."""
        said = headers.get(b"traceparent")
        parent = None
        if said is not None:
            carrier = {"traceparent": said.decode("latin-1"), "tracestate": headers.get(b"tracestate", b"").decode("latin-1")}
            parent = self._reads.extract(carrier)
            caller = get_current_span(parent).get_span_context()
            if caller.is_valid and not caller.trace_flags.sampled:
                return None
            parent = parent if caller.is_valid else None
        if parent is None and random.random() >= self._share:  # noqa: S311 - a sample
            return None
        attributes = {"http.request.method": method, "http.route": route, "zebra.request_id": request_id}
        self.open[request_id] = None
        return Trace(self._tracer.start_span(f"{method} {route}", context=parent, kind=SpanKind.SERVER, attributes=attributes), request_id)

    def end(self, trace: Trace, status: int) -> None:
        """Close a request's span, with its stages below it."""
        timed, span = self.open.pop(trace.request_id, None), trace.span
        if timed is not None:
            below, at = set_span_in_context(span), timed.ended_ns - int(1e9 * sum(timed.seconds.values()))
            for stage, seconds in timed.seconds.items():
                part = self._tracer.start_span(stage, context=below, start_time=at)
                at += int(1e9 * seconds)
                part.end(at)
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(time.time_ns())

    def close(self) -> None:
        """Hand over what is gathered; waits for the collector some seconds at most."""
        self._provider.shutdown()
