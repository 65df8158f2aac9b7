"""A page for Prometheus, by prometheus-client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from turnout.telemetry.measuring import COUNTERS, GAUGES, HISTOGRAMS, SECONDS, Measuring

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from typing_extensions import Self

    from turnout.relay import Relay
    from turnout.router import Router
    from turnout.telemetry.measuring import Pairs

LABELS = {
    "mcp.client.operation.duration": (
        "mcp.method.name", "network.transport", "gen_ai.tool.name", "gen_ai.prompt.name", "error.type",
    ),
    "mcp.server.operation.duration": (
        "mcp.method.name", "network.transport", "gen_ai.tool.name", "gen_ai.prompt.name", "error.type",
    ),
    "mcp.client.session.duration": ("network.transport",),
    "mcp.server.session.duration": ("network.transport",),
    "turnout.cancel.latency": ("cancelled_by",),
    "turnout.outcomes": ("outcome", "cancelled_by", "principal"),
    "turnout.late": ("kind",),
    "turnout.in_flight": ("direction",),
}  # fmt: skip
"""The labels of each metric; it has all of them, and those that mean nothing are empty."""


def spelled(name: str) -> str:
    """A name of OpenTelemetry's as Prometheus has names."""
    return name.replace(".", "_")


class Prometheus:
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
        made: dict[str, Any] = {"registry": self.registry}

        def labels(name: str) -> list[str]:
            return [spelled(label) for label in LABELS.get(name, ())]

        self._histograms = {
            name: Histogram(f"{spelled(name)}_seconds", text, labels(name), buckets=SECONDS, **made)
            for name, text in HISTOGRAMS.items()
        }
        self._counters = {
            name: Counter(spelled(name), text, labels(name), **made) for name, text in COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(spelled(name), text, labels(name), **made) for name, text in GAUGES.items()
        }
        # Each set of labels is looked up once: what they are is bounded.
        self._children: dict[tuple[str, Pairs], Any] = {}
        self._measuring = Measuring(router, relays, self, max_labels)

    def close(self) -> None:
        """Count no more, and leave the registry."""
        self._measuring.close()
        for metrics in (self._histograms, self._counters, self._gauges):
            for metric in metrics.values():
                self.registry.unregister(metric)

    def text(self, accept: str = "") -> tuple[str, bytes]:
        """The page, and its media type.

        Args:
            accept: the `Accept` of the request; empty for Prometheus' text format.

        """
        for name, value, labels in self._measuring.gauges():
            self._child(self._gauges, name, labels).set(value)
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

    # ---- what measurements are kept in ----

    def record(self, name: str, seconds: float, labels: Pairs) -> None:
        """Take a duration."""
        self._child(self._histograms, name, labels).observe(seconds)

    def count(self, name: str, more: int, labels: Pairs) -> None:
        """Count some more."""
        self._child(self._counters, name, labels).inc(more)

    def _child(self, metrics: dict[str, Any], name: str, labels: Pairs) -> Any:
        child = self._children.get((name, labels))
        if child is None:
            named = LABELS.get(name, ())
            given = dict(labels)
            child = metrics[name]
            if named:
                child = child.labels(*(given.get(label, "") for label in named))
            self._children[name, labels] = child
        return child


__all__ = ["Prometheus"]
