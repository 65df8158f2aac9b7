"""What a gateway tells Prometheus and OpenTelemetry, where what that needs is installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from turnout import telemetry

if TYPE_CHECKING:
    import turnout
    from turnout.gateway.configuration import Telemetry

MISSING_OTEL = "opentelemetry-api is not installed: pip install 'turnout[otel]', and an SDK"

MISSING_PROMETHEUS = "prometheus-client is not installed: pip install 'turnout[prometheus]'"


def has_otel() -> bool:
    """Whether OpenTelemetry's API is installed."""
    return importlib.util.find_spec("opentelemetry") is not None


def has_prometheus() -> bool:
    """Whether prometheus-client is installed."""
    return importlib.util.find_spec("prometheus_client") is not None


class GatewayTelemetry:
    """The telemetry of one gateway, until it is closed.

    Args:
        router: the gateway's.
        relay: the gateway's.
        said: what its configuration says; None for nothing.
        has_page: whether anybody can ask for the page of Prometheus'.

    """

    def __init__(
        self, router: turnout.Router, relay: turnout.Relay, said: Telemetry | None, *, has_page: bool
    ) -> None:
        self._page = telemetry.prometheus(router, relay) if has_page and has_prometheus() else None
        self._otel = None
        if said is not None and said.opentelemetry:
            self._otel = telemetry.opentelemetry(router, relay, sample=said.sample, metrics=said.metrics)

    def page(self, accept: str) -> tuple[str, bytes] | None:
        """The page of Prometheus', and its media type; None where that is not installed.

        Args:
            accept: the `Accept` of the request.

        """
        return None if self._page is None else self._page.text(accept)

    def close(self) -> None:
        """Measure and trace no more."""
        for each in (self._page, self._otel):
            if each is not None:
                each.close()


__all__ = ["MISSING_OTEL", "MISSING_PROMETHEUS", "GatewayTelemetry", "has_otel"]
