"""OpenTelemetry spans of frames, made when a frame has ended from the times noted on its way.

Costs nothing where it is not asked for: the service only knows recorders. Where spans go is for
OpenTelemetry's own variables to say (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, ...).
"""

from __future__ import annotations

import time
from typing import Any

from isthmus.runtime.errors import MissingExtraError
from isthmus.runtime.server.records import FrameRecord, Recorder


class Tracer(Recorder):
    """Makes a span per frame, and within it one per stage: decode, queue, compute, answer."""

    def __init__(self, provider: Any = None) -> None:
        """Trace to an OpenTelemetry tracer `provider`; None: one that exports as the environment says.

        Raises:
            MissingExtraError: If OpenTelemetry is not installed.
        """
        try:
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError:
            raise MissingExtraError("--traces", "otel") from None
        self._provider = exporting_provider() if provider is None else provider
        self._tracer = self._provider.get_tracer("isthmus.server")
        self._propagator = TraceContextTextMapPropagator()
        # Spans are dated by the wall clock, frames by the monotonic one.
        self._zero_ns = time.time_ns() - time.monotonic_ns()

    def frame(self, record: FrameRecord) -> None:
        """See `Recorder.frame`."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        parent = self._propagator.extract({"traceparent": record.parent}) if record.parent else None
        span = self._tracer.start_span(
            "frame",
            context=parent,
            kind=SpanKind.SERVER,
            start_time=self._ns(record.received_s),
            attributes={
                "isthmus.model": record.model,
                "isthmus.frame_id": record.frame_id,
                "isthmus.outcome": record.outcome,
                "isthmus.latents": record.latents,
                "isthmus.request_bytes": record.request_bytes,
            },
        )
        within = set_span_in_context(span)
        for name, start_s, end_s in _stages(record):
            stage = self._tracer.start_span(name, context=within, start_time=self._ns(start_s))
            stage.end(end_time=self._ns(end_s))
        if record.outcome in ("failed", "busy"):
            span.set_status(Status(StatusCode.ERROR, record.outcome))
        span.end(end_time=self._ns(record.ended_s))

    def close(self) -> None:
        """Export what is not yet exported."""
        self._provider.shutdown()

    def _ns(self, at_s: float) -> int:
        return self._zero_ns + round(at_s * 1e9)


def exporting_provider() -> Any:
    """Return a tracer provider that exports over OTLP as OpenTelemetry's variables say.

    Raises:
        MissingExtraError: If the SDK or the exporter is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise MissingExtraError("--traces", "otel") from None
    # The variable OTEL_SERVICE_NAME wins over this.
    provider = TracerProvider(resource=Resource.create({"service.name": "isthmus"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _stages(record: FrameRecord) -> list[tuple[str, float, float]]:
    if record.decoded_s is None:
        return []
    stages = [("decode", record.received_s, record.decoded_s)]
    if record.started_s is not None:
        # A frame computed at once may have started within the clock's step.
        started_s = max(record.started_s, record.decoded_s)
        computed_s = started_s + record.compute_s
        stages.append(("queue", record.decoded_s, started_s))
        stages.append(("compute", started_s, computed_s))
        stages.append(("answer", computed_s, max(record.ended_s, computed_s)))
    return stages
