"""OpenTelemetry as the SDK does it, at no cost where nobody traces."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, StatusCode

from turnout.mcp._sdk import otel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from mcp_types import ErrorData
    from opentelemetry.trace import Span

NOTHING: AbstractContextManager[None] = nullcontext()


def request_span(
    method: str, params: dict[str, Any], meta: dict[str, Any]
) -> AbstractContextManager[Span | None]:
    """Open the span of a request, and put its trace context into `meta`; its id is set once it is known.

    Args:
        method: what is asked.
        params: the params; a `name` in them becomes part of the span's.
        meta: the `_meta` that will be sent.

    """
    return NOTHING if nobody_traces() else _span(method, params.get("name"), meta)


def failed(span: Span, error: ErrorData) -> None:
    """Mark a span with the peer's error."""
    code = str(error.code)
    span.set_attributes({"error.type": code, "rpc.response.status_code": code})
    span.set_status(StatusCode.ERROR, error.message)


@contextmanager
def _span(method: str, target: object, meta: dict[str, Any]) -> Iterator[Span]:
    name = f"MCP send {method} {target}" if isinstance(target, str) else f"MCP send {method}"
    attributes = {"mcp.method.name": method}
    with otel.otel_span(name, kind=SpanKind.CLIENT, attributes=attributes) as span:
        otel.inject_trace_context(meta)
        yield span


def nobody_traces() -> bool:
    """Whether a span would record nothing and there is no context to pass on; asked anew at every request."""
    tracer: object = getattr(otel, "_tracer", None)
    if isinstance(tracer, trace.ProxyTracer):
        tracer = tracer._tracer  # noqa: SLF001
    return type(tracer) is trace.NoOpTracer and not context.get_current()
