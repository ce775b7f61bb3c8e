"""Spans to a collector: OTLP 1.x as protobuf over HTTP, with the messages of `opentelemetry-proto`. Used by `tracing` alone."""

import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

TIMEOUT_S = 3.0


class OtlpExporter(SpanExporter):
    """Posts batches of spans to one URL; what it does not take is lost, and the log says so once an outage."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint, self._client, self._away = endpoint, httpx.Client(timeout=TIMEOUT_S), False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        try:
            answer = self._client.post(self._endpoint, content=encoded(spans), headers={"content-type": "application/x-protobuf"})
            answer.raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if not self._away:
                log.warning("%s takes no spans: %s", self._endpoint, error)
            self._away = True
            return SpanExportResult.FAILURE
        self._away = False
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the connection."""
        self._client.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held back here."""
        return True


def encoded(spans: Sequence[ReadableSpan]) -> bytes:
    """The spans as an `ExportTraceServiceRequest`, by resource."""
    request = ExportTraceServiceRequest()
    for resource, some in groupby(spans, key=lambda span: span.resource):
        of = request.resource_spans.add(resource=Resource(attributes=_pairs(resource.attributes)))
        of.scope_spans.add(scope=InstrumentationScope(name="zebra_serving"), spans=[_span(span) for span in some])
    return request.SerializeToString()


def _span(span: ReadableSpan) -> trace_pb2.Span:
    context = span.get_span_context()
    assert context is not None  # only a span made by hand has none
    return trace_pb2.Span(
        trace_id=context.trace_id.to_bytes(16, "big"),
        span_id=context.span_id.to_bytes(8, "big"),
        parent_span_id=span.parent.span_id.to_bytes(8, "big") if span.parent else b"",
        trace_state=context.trace_state.to_header(),
        flags=int(context.trace_flags),
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Value(f"SPAN_KIND_{span.kind.name}"),
        start_time_unix_nano=span.start_time or 0,
        end_time_unix_nano=span.end_time or 0,
        attributes=_pairs(span.attributes or {}),
        status=trace_pb2.Status(code=trace_pb2.Status.StatusCode.Value(f"STATUS_CODE_{span.status.status_code.name}")),
    )


def _pairs(attributes: Any) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in attributes.items()]


def _value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=str(value))
