"""OpenTelemetry by its API: metrics of all requests, and the spans of those that a relay traces."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Observation, get_meter_provider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from turnout._native import LateResponse, build_info
from turnout.telemetry.labels import NETWORK_TRANSPORTS, error_type, whole
from turnout.telemetry.measuring import COUNTERS, GAUGES, HISTOGRAMS, SECONDS, Measuring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.metrics import CallbackOptions, MeterProvider
    from opentelemetry.trace import Span, TracerProvider
    from typing_extensions import Self

    from turnout._native import Record
    from turnout.relay import Relay
    from turnout.router import Router
    from turnout.telemetry.measuring import Durations, Pairs

log = logging.getLogger("turnout")

SCOPE = "turnout"

MAX_HELD = 1000
"""Spans of cancelled requests that wait for a late answer; beyond it the oldest ends without one."""

LATE_WAIT = 5.0
"""Seconds that one waits."""

UNITS = {"turnout.outcomes": "{request}", "turnout.late": "{message}", "turnout.progress.dropped": "{update}"}


class OpenTelemetry:
    """The spans and metrics of one router; made by `turnout.telemetry.opentelemetry`."""

    def __init__(
        self,
        router: Router,
        relays: Sequence[Relay],
        *,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        sample: float,
        metrics: bool,
        max_labels: int,
    ) -> None:
        if not 0 <= sample <= 1:
            raise ValueError(f"sample is a share from 0 to 1, not {sample}")
        self._measuring = None
        if metrics:
            instruments = _Instruments(meter_provider or get_meter_provider())
            self._measuring = Measuring(router, relays, max_labels, instruments.heard)
            instruments.observe(self._measuring)
        self._relays = relays
        self._spans = Spans(tracer_provider or trace.get_tracer_provider())
        self._listening = router.records.listen(self._spans.finished)
        router.on_event(self._spans.event)
        for relay in relays:
            relay.trace(sample)

    def close(self) -> None:
        """Measure and trace no more; spans that wait for late answers end."""
        for relay in self._relays:
            relay.trace(None)
        if self._measuring is not None:
            self._measuring.close()
        self._listening.close()
        self._spans.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Instruments:
    """Shows measurements by the instruments of a meter's.

    Args:
        provider: gives the meter.

    """

    def __init__(self, provider: MeterProvider) -> None:
        self._meter = meter = provider.get_meter(SCOPE, build_info()["version"])
        bounds = {"explicit_bucket_boundaries_advisory": list(SECONDS)}
        self._histograms = {
            name: meter.create_histogram(name, "s", text, **bounds) for name, text in HISTOGRAMS.items()
        }
        self._attributes: dict[Durations, dict[str, str]] = {}

    def observe(self, measuring: Measuring) -> None:
        """Show the counts and the gauges of a router, when somebody asks."""

        def counted(wanted: str) -> Any:
            def observations(_: CallbackOptions) -> Iterator[Observation]:
                for (name, labels), count in tuple(measuring.counts.items()):
                    if name == wanted:
                        yield Observation(count, _said(labels))

            return observations

        def shown(wanted: str) -> Any:
            def observations(_: CallbackOptions) -> Iterator[Observation]:
                for name, value, labels in measuring.gauges():
                    if name == wanted:
                        yield Observation(value, _said(labels))

            return observations

        for name, text in COUNTERS.items():
            self._meter.create_observable_counter(name, [counted(name)], UNITS[name], text)
        for name, text in GAUGES.items():
            self._meter.create_observable_gauge(name, [shown(name)], "{request}", text)

    def heard(self, durations: Durations, seconds: float) -> None:
        """Take a duration."""
        attributes = self._attributes.get(durations)
        if attributes is None:
            attributes = self._attributes[durations] = _said(durations.labels)
        self._histograms[durations.name].record(seconds, attributes)


def _said(labels: Pairs) -> dict[str, str]:
    """Attributes: what is empty says nothing."""
    return {name: value for name, value in labels if value}


class _Ids:
    """Gives an SDK's tracer the ids that the relay has told the other ends already."""

    def __init__(self) -> None:
        self.trace = self.span = 0

    def generate_trace_id(self) -> int:
        """The trace of the span that is made now."""
        return self.trace

    def generate_span_id(self) -> int:
        """The span that is made now."""
        return self.span

    def is_trace_id_random(self) -> bool:
        """Whether samplers may take it for random."""
        return True


class Spans:
    """Makes the spans of requests that were traced, once they have ended.

    Args:
        provider: gives the tracer.

    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = tracer = provider.get_tracer(SCOPE, build_info()["version"])
        self._ids = _Ids()
        self._held: OrderedDict[Record, tuple[Span, int]] = OrderedDict()
        self._closed = False
        if hasattr(tracer, "id_generator"):
            # This tracer is ours alone: a provider makes another one for whoever asks.
            tracer.id_generator = self._ids
        elif not isinstance(tracer, (trace.NoOpTracer, trace.ProxyTracer)):
            log.warning("the tracer makes ids of its own, so servers' spans are not below those of the relay")

    def finished(self, record: Record) -> None:
        """Make the spans of a request, and of its legs."""
        context = record.traceparent
        if context is None:
            return
        self._span(record, SpanKind.SERVER, record.parent_span)
        for leg in record.legs:
            if leg.ended is not None:
                # One that Python asked for, as for a part of a merged list, has the context that came.
                self._span(leg, SpanKind.CLIENT, leg.parent_span or context[36:52], context)

    def event(self, event: object) -> None:
        """Add an answer that came late to the span of its request."""
        if not isinstance(event, LateResponse):
            return
        held = self._held.pop(event.record, None)
        if held is not None:
            span, ended = held
            late = event.record.late_at
            told = {"turnout.late": event.record.late_response or ""}
            span.add_event("late.response", told, None if late is None else _nanoseconds(late))
            span.end(ended)

    def close(self) -> None:
        """End the spans that wait."""
        self._closed = True
        self._end_held(float("inf"))

    def _span(self, record: Record, kind: SpanKind, parent: str | None, above: str = "") -> None:
        told = record.traceparent or f"{above[:36]}{secrets.token_hex(8)}-01"
        self._ids.trace, self._ids.span = int(told[3:35], 16), int(told[36:52], 16)
        context = Context()
        if parent is not None:
            remote = SpanContext(
                self._ids.trace,
                int(parent, 16),
                is_remote=kind is SpanKind.SERVER,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            )
            context = trace.set_span_in_context(NonRecordingSpan(remote), context)
        target = record.target
        method = record.method
        span = self._tracer.start_span(
            whole(method if target is None or method not in NAMED else f"{method} {target}"),
            context,
            kind,
            _attributes(record, target),
            start_time=_nanoseconds(record.created),
        )
        self._end(span, record)

    def _end(self, span: Span, record: Record) -> None:
        error = error_type(record)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))
        requested = record.cancel_requested
        if requested is not None:
            at = _nanoseconds(requested)
            told = {"turnout.cancelled_by": record.cancelled_by or ""}
            reason = record.cancel_reason
            span.add_event(
                "cancel.requested", told if reason is None else {**told, "reason": whole(reason)}, at
            )
            if record.cancel_written:
                span.add_event("cancel.written", None, at)
        ended = _nanoseconds(record.ended or record.created)
        is_late = record.late_response is not None
        if is_late and record.late_at is not None:
            span.add_event(
                "late.response", {"turnout.late": record.late_response or ""}, _nanoseconds(record.late_at)
            )
        if record.cancel_written and record.direction == "outbound" and not is_late and not self._closed:
            self._hold(record, span, ended)
        else:
            span.end(ended)

    def _hold(self, record: Record, span: Span, ended: int) -> None:
        """Keep the span of a cancelled request for the answer that may still come."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            span.end(ended)
            return
        self._held[record] = (span, ended)
        if len(self._held) > MAX_HELD:
            _, (oldest, its_end) = self._held.popitem(last=False)
            oldest.end(its_end)
        if len(self._held) == 1:
            loop.call_later(LATE_WAIT, self._look)

    def _look(self) -> None:
        """End the spans that waited long enough."""
        self._end_held(time.time() - LATE_WAIT)
        if self._held:
            asyncio.get_running_loop().call_later(LATE_WAIT, self._look)

    def _end_held(self, until: float) -> None:
        while self._held:
            record, (span, ended) = next(iter(self._held.items()))
            if ended > until * 1e9:
                return
            del self._held[record]
            span.end(ended)


NAMED = frozenset({"tools/call", "prompts/get"})
"""Methods whose spans are called after what they name, too."""

TARGETS = {
    "tools/call": "gen_ai.tool.name",
    "prompts/get": "gen_ai.prompt.name",
    "resources/read": "mcp.resource.uri",
}
"""What an attribute says of the target of a method."""


def _attributes(record: Record, target: str | None) -> dict[str, str | int]:
    """What a span says of a request."""
    method, number = record.method, record.id
    told: dict[str, str | int | None] = {
        "mcp.method.name": method,
        "mcp.session.id": record.session,
        "jsonrpc.request.id": number.decode("ascii", "backslashreplace")
        if isinstance(number, bytes)
        else str(number),
        "network.transport": NETWORK_TRANSPORTS.get(record.transport, record.transport),
        "error.type": error_type(record),
        "http.response.status_code": record.status,
        "client.address": record.address,
        "turnout.peer": record.peer,
        "turnout.principal": record.principal,
        "turnout.outcome": record.outcome,
        "gen_ai.operation.name": "execute_tool" if method == "tools/call" else None,
    }
    if method in TARGETS:
        told[TARGETS[method]] = target
    return {
        name: whole(value) if isinstance(value, str) else value
        for name, value in told.items()
        if value is not None
    }


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


__all__ = ["OpenTelemetry", "Spans"]
