"""Requests and notifications that came in on the SDK's streams."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.message import ServerMessageMetadata
from mcp_types import CONNECTION_CLOSED, ErrorData, JSONRPCError, JSONRPCResponse

from turnout.escape import quoted
from turnout.mcp.dispatch.backend import InboundNotification, InboundRequest

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from mcp.shared.message import MessageMetadata
    from mcp.shared.transport_context import TransportContext
    from mcp_types import JSONRPCNotification, JSONRPCRequest, ProgressToken, RequestId

    from turnout.mcp.dispatch.streams import StreamsBackend

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

SHUTDOWN_WRITE_TIMEOUT = 1.0
GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class StreamNotification(InboundNotification):
    """A notification.

    Args:
        source: the notification.
        metadata: what the transport attached to it.
        context: the context of its sender.
        build_transport: makes its `TransportContext`.

    """

    __slots__ = ("_build_transport", "_metadata", "context")

    def __init__(
        self,
        source: JSONRPCNotification,
        metadata: MessageMetadata,
        context: contextvars.Context | None,
        build_transport: Callable[[MessageMetadata], TransportContext],
    ) -> None:
        super().__init__(source, source.method)
        self.context = context
        self._metadata = metadata
        self._build_transport = build_transport

    def params(self) -> Any:
        """The params."""
        return self.source.params

    def metadata(self) -> MessageMetadata:
        """What the transport attached."""
        return self._metadata

    def transport(self) -> TransportContext:
        """Ask the transport builder."""
        return self._build_transport(self._metadata)


class StreamRequest(InboundRequest):
    """A request.

    Args:
        source: the request.
        metadata: what the transport attached to it.
        context: the context of its sender.
        transport: what the transport builder made of that.
        backend: registers its end, and writes its answer.
        key: what its id is compared by.
        token: the progress token; None where the peer wants no progress.

    """

    __slots__ = ("_answering", "_backend", "_key", "_metadata", "_token", "_transport", "context")

    def __init__(
        self,
        source: JSONRPCRequest,
        metadata: MessageMetadata,
        context: contextvars.Context | None,
        transport: TransportContext,
        backend: StreamsBackend[Any],
        key: RequestId,
        token: ProgressToken | None,
    ) -> None:
        super().__init__(source, source.method)
        self.context = context
        self._metadata = metadata
        self._transport = transport
        self._backend = backend
        self._key = key
        self._token = token
        self._answering = False

    @property
    def request_id(self) -> RequestId:
        """The id."""
        request_id: RequestId = self.source.id
        return request_id

    def params(self) -> Any:
        """The params."""
        return self.source.params

    def metadata(self) -> MessageMetadata:
        """What the transport attached."""
        return self._metadata

    def transport(self) -> TransportContext:
        """What the transport builder made."""
        return self._transport

    async def report(self, progress: float, total: float | None, message: str | None) -> None:
        """Send progress, unless the peer is not to hear of it (PRG-07, PRG-17, TRS-06)."""
        if self._token is None:
            return
        flights, lenient = self._backend.flights, self._backend.lenient
        if not flights.report(self._key, self, progress, total, message) and not lenient:
            return
        params: dict[str, Any] = {"progressToken": self._token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None:
            params["message"] = message
        await self.ctx.notify("notifications/progress", params)

    async def respond(self, result: dict[str, Any]) -> None:
        """Answer with a result."""
        self._backend.flights.finish(self._key, self, "result")
        if not self.ctx.cancelled:
            # From here on the answer may have left, even if the write is interrupted.
            self._answering = True
            message = JSONRPCResponse(jsonrpc="2.0", id=self.request_id, result=result)
            await self._backend.answer(self.request_id, message)

    async def fail(self, error: ErrorData) -> None:
        """Answer with an error."""
        self._backend.flights.finish(self._key, self, "error")
        if not self.ctx.cancelled:
            self._answering = True
            await self._answer_error(error)

    async def settle(self) -> None:
        """Answer where the connection ends, or tell the transport that no answer comes."""
        self._backend.flights.finish(self._key, self, "stopped")
        if self._answering:
            return
        if self.ctx.stopping and not self.ctx.cancelled:
            await self._answer_lost()
        else:
            await self._tell_unanswered()

    async def interrupted(self) -> None:
        """Answer a request whose handler raised a cancel of its own, or was cancelled by others."""
        self._backend.flights.finish(self._key, self, "stopped")
        if not self.ctx.cancelled and not self._answering:
            await self._answer_lost()

    def forget(self) -> None:
        """Take the end of its task, also where that was cancelled before it began."""
        self._backend.work_budget.release(self)
        self._backend.flights.finish(self._key, self, "stopped")
        self._backend.receiver.request_ended(self)

    async def _answer_error(self, error: ErrorData) -> None:
        message = JSONRPCError(jsonrpc="2.0", id=self.request_id, error=error)
        await self._backend.answer(self.request_id, message)

    async def _answer_lost(self) -> None:
        lost = ErrorData(code=CONNECTION_CLOSED, message="Connection closed")
        await self._backend.last_write(
            self._answer_error(lost),
            shield=True,
            timeout=SHUTDOWN_WRITE_TIMEOUT,
            what=f"shutdown error response for request {quoted(self.request_id)}",
        )

    async def _tell_unanswered(self) -> None:
        """Tell the transport that no answer comes: its wire may have to end the request all the same."""
        metadata = self._metadata
        if not isinstance(metadata, ServerMessageMetadata) or metadata.on_request_unanswered is None:
            return
        try:
            await metadata.on_request_unanswered()
        except GONE:
            logger.debug("on_request_unanswered dropped: connection closing")
        except Exception:
            logger.exception("on_request_unanswered hook raised")
