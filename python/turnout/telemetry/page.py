"""A page for Prometheus, by prometheus-client."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from turnout.telemetry.measuring import COUNTERS, GAUGES, HISTOGRAMS, SECONDS, Measuring

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from prometheus_client.metrics_core import Metric
    from typing_extensions import Self

    from turnout.relay import Relay
    from turnout.router import Router
    from turnout.telemetry.measuring import Pairs

OPERATION = (
    "mcp.method.name",
    "network.transport",
    "gen_ai.tool.name",
    "gen_ai.prompt.name",
    "error.type",
)

LABELS = {
    "mcp.client.operation.duration": OPERATION,
    "mcp.server.operation.duration": OPERATION,
    "mcp.client.session.duration": ("network.transport",),
    "mcp.server.session.duration": ("network.transport",),
    "turnout.cancel.latency": ("cancelled_by",),
    "turnout.outcomes": ("outcome", "cancelled_by", "principal"),
    "turnout.late": ("kind",),
    "turnout.in_flight": ("direction",),
}
"""The labels of each metric; it has all of them, and those that mean nothing are empty."""


def spelled(name: str) -> str:
    """A name of OpenTelemetry's as Prometheus has names."""
    return name.replace(".", "_")


class Prometheus(Collector):
    """The metrics of one router; made by `turnout.telemetry.prometheus`.

    It is an ASGI application, which answers every request of HTTP's with the page.

    Attributes:
        registry: where they are registered.

    """

    def __init__(
        self,
        router: Router,
        relays: Sequence[Relay],
        *,
        registry: CollectorRegistry | None,
        max_labels: int,
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._measuring = Measuring(router, relays, max_labels)
        self.registry.register(self)

    def close(self) -> None:
        """Count no more, and leave the registry."""
        self._measuring.close()
        self.registry.unregister(self)

    def text(self, accept: str = "") -> tuple[str, bytes]:
        """The page, and its media type.

        Args:
            accept: the `Accept` of the request; empty for Prometheus' text format.

        """
        encode, media_type = choose_encoder(accept)
        return media_type, encode(self.registry)

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer with the page."""
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        accept = dict(scope.get("headers", ())).get(b"accept", b"").decode("latin-1")
        media_type, body = self.text(accept)
        headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what the registry asks for ----

    def collect(self) -> Iterable[Metric]:
        """The metrics as they stand."""
        families: dict[str, Any] = {
            name: HistogramMetricFamily(f"{spelled(name)}_seconds", text, labels=_names(name))
            for name, text in HISTOGRAMS.items()
        }
        for name, text in COUNTERS.items():
            families[name] = CounterMetricFamily(spelled(name), text, labels=_names(name))
        for name, text in GAUGES.items():
            families[name] = GaugeMetricFamily(spelled(name), text, labels=_names(name))
        for durations in tuple(self._measuring.durations.values()):
            bounds = [*map(str, SECONDS), "+Inf"]
            buckets = list(zip(bounds, accumulate(durations.counts), strict=True))
            family = families[durations.name]
            family.add_metric(_values(durations.name, durations.labels), buckets, durations.total)
        for (name, labels), count in tuple(self._measuring.counts.items()):
            families[name].add_metric(_values(name, labels), count)
        for name, value, labels in self._measuring.gauges():
            families[name].add_metric(_values(name, labels), value)
        return families.values()

    def describe(self) -> Iterable[Metric]:
        """None: what there is may be registered once in a registry."""
        return ()


def _names(name: str) -> list[str]:
    return [spelled(label) for label in LABELS.get(name, ())]


def _values(name: str, labels: Pairs) -> list[str]:
    given = dict(labels)
    return [given.get(label, "") for label in LABELS.get(name, ())]


__all__ = ["Prometheus"]
