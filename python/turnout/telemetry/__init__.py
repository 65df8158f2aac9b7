"""Telemetry of a router and its relays, by extras: OpenTelemetry's spans and metrics, and a page for Prometheus.

Nothing here runs for a message: records of requests that ended, events that came late, and the gauges that are asked
for are all that is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from prometheus_client import CollectorRegistry

    from turnout.relay import Relay
    from turnout.router import Router
    from turnout.telemetry.otel import OpenTelemetry
    from turnout.telemetry.page import Prometheus

MAX_LABELS = 100
"""Distinct tools, and distinct principals, that are told apart in metrics; those beyond are `other`."""


def opentelemetry(
    router: Router,
    *relays: Relay,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    sample: float = 1.0,
    metrics: bool = True,
    max_labels: int = MAX_LABELS,
) -> OpenTelemetry:
    """Give the spans and metrics of OpenTelemetry's conventions for MCP, from now on until `close`.

    Each request of a relay's client gets a span of kind server, as its caller's trace context says, and each request to
    an upstream one of kind client, whose context goes on to the upstream in `params._meta`. What comes with
    `tracestate` and `baggage` goes on as it is. Spans are made when their requests have ended.

    Args:
        router: whose requests are measured.
        relays: those whose requests have spans; they belong to the router.
        tracer_provider: where spans go; None for the global one, which is none until an SDK is set up.
        meter_provider: where metrics go, likewise.
        sample: the share of traces that have spans, of those that begin here; where a caller began one, it has said.
        metrics: whether there are metrics, too: an SDK takes each duration by itself, which costs more than all else
            here; `prometheus` keeps sums.
        max_labels: distinct tools, and distinct principals, that are told apart; those beyond are `other`.

    Raises:
        ImportError: opentelemetry-api is not installed: `pip install 'turnout[otel]'`.
        ValueError: `sample` is not from 0 to 1.

    """
    from turnout.telemetry.otel import OpenTelemetry  # noqa: PLC0415 - an extra

    return OpenTelemetry(
        router,
        relays,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        sample=sample,
        metrics=metrics,
        max_labels=max_labels,
    )


def prometheus(
    router: Router,
    *relays: Relay,
    registry: CollectorRegistry | None = None,
    max_labels: int = MAX_LABELS,
) -> Prometheus:
    """Count for a page of Prometheus', from now on until `close`.

    Args:
        router: whose requests are counted.
        relays: those whose queues are shown; they belong to the router.
        registry: where the metrics are registered, beside others; None for one of their own.
        max_labels: distinct tools, and distinct principals, that are told apart; those beyond are `other`.

    Returns:
        the page: `page.text()`, or the page itself as an ASGI application.

    Raises:
        ImportError: prometheus-client is not installed: `pip install 'turnout[prometheus]'`.

    """
    from turnout.telemetry.page import Prometheus  # noqa: PLC0415 - an extra

    return Prometheus(router, relays, registry=registry, max_labels=max_labels)


__all__ = ["MAX_LABELS", "opentelemetry", "prometheus"]
