"""Sends calls as OpenTelemetry spans over OTLP/HTTP: the one place that knows the SDK, which is imported only
where tracing is on. Spans are made when a call is over, off the event loop; the SDK's own thread sends them.

All OTEL_* variables that the SDK reads hold here: sampler, limits, resource, batches, and where spans go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind

from telbridge import __version__
from telbridge.call.events import CallFacts
from telbridge.ops.spans import CallTrace, Span, new_id
from telbridge.ops.trace_context import TraceContext, carried

CLOSE_S: Final = 3.0
"""For what waits to be sent, when a worker ends."""


class _Planned(IdGenerator):
    """Gives out the ids that spans have already."""

    trace_id = span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class Tracing:
    """One a process; from here to `close`."""

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        follow_callers: bool = True,
        exporter: SpanExporter | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`endpoint`: where spans are sent, path and all; None: as the environment says. `follow_callers`:
        go on with the trace that a call comes with. `exporter`: another way for the spans."""
        self._follow, self._clock = follow_callers, clock
        self._ids, self._lock = _Planned(), threading.Lock()
        self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint)))
        self._tracer = self._provider.get_tracer("telbridge", __version__)

    def begin(self, facts: CallFacts) -> CallTrace:
        """The trace of a call that has come: whether it will be sent is settled now, by the SDK's sampler."""
        parent = carried(facts) if self._follow else None
        trace_id = parent.trace_id if parent else _new_trace_id()
        verdict = self._provider.sampler.should_sample(_within(parent), trace_id, "call", SpanKind.SERVER)
        context = TraceContext(trace_id, new_id(), verdict.decision is Decision.RECORD_AND_SAMPLE)
        return CallTrace(context, parent, clock=self._clock, wall_ns=time.time_ns())

    def send(self, trace: CallTrace, spans: Iterable[Span]) -> None:
        """They go to the SDK's queue; makes them meanwhile, so not for the event loop. Any thread."""
        if not trace.context.sampled:
            return
        for span in spans:
            self._put(trace, span)

    def close(self) -> None:
        """What waits is sent, as far as that goes in CLOSE_S."""
        closing = threading.Thread(target=self._provider.shutdown, name="close tracing", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _put(self, trace: CallTrace, span: Span) -> None:
        if span.parent_id is None:
            within, kind = _within(trace.parent), SpanKind.SERVER
        else:
            of = TraceContext(trace.context.trace_id, span.parent_id, sampled=True)
            within, kind = _within(of, remote=False), SpanKind.CLIENT if span.asks else SpanKind.INTERNAL
        with self._lock:
            self._ids.trace_id, self._ids.span_id = trace.context.trace_id, span.span_id
            made = self._tracer.start_span(
                span.name,
                within,
                kind,
                span.attributes,
                start_time=span.start_ns,
                record_exception=False,
            )
        for moment in span.moments:
            made.add_event(moment.name, moment.attributes, moment.at_ns)
        if span.error is not None:
            made.set_status(api.Status(api.StatusCode.ERROR, span.error))
        made.end(span.end_ns)


def _within(parent: TraceContext | None, *, remote: bool = True) -> Context:
    """An own context each time: that of the thread is somebody else's."""
    if parent is None:
        return Context()
    flags = api.TraceFlags(api.TraceFlags.SAMPLED if parent.sampled else api.TraceFlags.DEFAULT)
    known = api.SpanContext(parent.trace_id, parent.span_id, is_remote=remote, trace_flags=flags)
    return api.set_span_in_context(api.NonRecordingSpan(known), Context())


def _new_trace_id() -> int:
    return new_id() << 64 | new_id()


def _resource() -> Resource:
    """As the environment says; a name of ours where it says none."""
    known = Resource.create()
    ours = {SERVICE_VERSION: __version__}
    if str(known.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        ours[SERVICE_NAME] = "telbridge"
    return known.merge(Resource(ours))
