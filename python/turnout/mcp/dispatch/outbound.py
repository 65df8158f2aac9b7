"""Outbound: sends requests, delivers their progress, waits for their results."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import ErrorData

from turnout.mcp import tracing
from turnout.mcp.dispatch.backend import OutboundRequest

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Mapping

    from mcp.shared.dispatcher import CallOptions
    from mcp_types import RequestId

    from turnout.mcp.dispatch.backend import Backend
    from turnout.mcp.dispatch.background import BackgroundTasks
    from turnout.mcp.pending import PendingCall


class OutboundRequests:
    """Our requests.

    Args:
        backend: sends them, and matches their answers.
        background: runs progress callbacks.

    """

    def __init__(self, backend: Backend, background: BackgroundTasks) -> None:
        self._backend = backend
        self._background = background

    async def send(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions, related: RequestId | None
    ) -> dict[str, Any]:
        """Send a request and wait for its result. Raises as `send_raw_request` does."""
        sent = dict(params) if params else {}
        meta = dict(sent.pop("_meta", None) or {})
        if opts.get("on_progress") is not None:
            # Ours takes its place.
            meta.pop("progressToken", None)
        with tracing.request_span(method, sent, meta) as span:
            request = OutboundRequest(method, sent, meta, opts, related, span)
            try:
                end = await self._backend.request(request)
            finally:
                if request.pending is not None:
                    request.pending.stop()
            if span is not None and isinstance(end, ErrorData):
                tracing.failed(span, end)
        if self._background.is_starting:
            # Notifications before the answer are looked at before it is (in the order in which they came).
            await asyncio.sleep(0)
        if isinstance(end, ErrorData):
            raise MCPError(code=end.code, message=end.message, data=end.data)
        return end

    def deliver_progress(
        self,
        pending: PendingCall,
        progress: float,
        total: float | None,
        message: str | None,
        context: contextvars.Context | None,
        scope: Any,
    ) -> None:
        """Call the callback of a request with an update, one after the other or beside each other."""
        spawn = self._background.spawn
        if self._backend.concurrent_updates and pending.begin():
            spawn(pending.call_concurrently, progress, total, message, scope=scope(), context=context)
        elif pending.push(progress, total, message):
            spawn(pending.deliver, scope=scope(), context=context)
