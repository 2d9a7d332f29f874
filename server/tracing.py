"""OpenTelemetry traces of requests, when the operator names a collector: one span per request, one per stage inside it.

The packages are the extra `otel` and are imported when traces are asked for, not before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.types import Scope

from core.errors import ConfigError
from core.telemetry import Measurement
from server import __version__
from server.settings import Settings
from server.trace import RequestTrace

if TYPE_CHECKING:
    from opentelemetry.trace import Span

UNTRACED_PATHS = frozenset({"/health", "/ready", "/metrics"})
"""Asked every few seconds by machines; a trace of each would bury the others."""

_FACTS = {
    "model": "gen_ai.request.model",
    "completion_id": "gen_ai.response.id",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "num_media": "bindchat.num_media",
    "num_choices": "bindchat.num_choices",
    "num_inputs": "bindchat.num_inputs",
}
"""Facts of a request by the names that OpenTelemetry's conventions for generative models give them, else our own."""


class RequestTracer:
    """Spans of one app."""

    def __init__(self, settings: Settings) -> None:
        """Raise `ConfigError` when the packages are missing."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        except ImportError:
            raise ConfigError(
                "otlp_endpoint needs the extra otel: pip install 'bindchat[otel]', or leave otlp_endpoint out",
                param="otlp_endpoint",
            ) from None
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "bindchat", "service.version": __version__}),
            sampler=ParentBased(TraceIdRatioBased(settings.trace_share)),
        )
        endpoint = f"{(settings.otlp_endpoint or '').rstrip('/')}/v1/traces"
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("bindchat", __version__)

    @contextmanager
    def span(self, scope: Scope, trace: RequestTrace) -> Iterator[Span | None]:
        """Hold the span of one request open; it goes on the trace that the client's `traceparent` header names."""
        from opentelemetry import context
        from opentelemetry import trace as otel
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if scope["path"] in UNTRACED_PATHS:
            yield None
            return
        parent = TraceContextTextMapPropagator().extract(dict(Headers(scope=scope)), context=context.Context())
        span = self._tracer.start_span(scope["method"], context=parent, kind=otel.SpanKind.SERVER)
        trace.facts["trace_id"] = otel.format_trace_id(span.get_span_context().trace_id)
        token = context.attach(otel.set_span_in_context(span, parent))
        try:
            yield span
        finally:
            context.detach(token)
            span.end()

    def describe(self, span: Span, trace: RequestTrace, *, method: str, route: str, status: int) -> None:
        """Say on a request's span what became of it, and add a span for each of its stages."""
        from opentelemetry import trace as otel

        span.update_name(f"{method} {route}")
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            "bindchat.request_id": trace.request_id,
            **{name: trace.facts[fact] for fact, name in _FACTS.items() if fact in trace.facts},
        }
        if trace.error_code is not None:
            attributes["error.type"] = trace.error_code
            span.set_status(otel.Status(otel.StatusCode.ERROR if status >= 500 else otel.StatusCode.UNSET))
        span.set_attributes(attributes)
        inside = otel.set_span_in_context(span)
        for stage, started_ns in trace.timer.started_ns.items():
            child = self._tracer.start_span(stage, context=inside, start_time=started_ns)
            child.end(started_ns + round(trace.timer.milliseconds[stage] * 1e6))

    def observe(self, measurement: Measurement) -> None:
        """Add a span for what a layer below timed, in the request on whose behalf it ran.

        What runs for several requests at once, such as preparing a batch, belongs to none of them.
        """
        from opentelemetry import trace as otel

        if not measurement.is_duration or not otel.get_current_span().is_recording():
            return
        child = self._tracer.start_span(measurement.name, start_time=measurement.started_ns)
        child.set_attributes({f"bindchat.{name}": value for name, value in measurement.labels.items()})
        child.end(measurement.started_ns + round(measurement.value * 1e9))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
