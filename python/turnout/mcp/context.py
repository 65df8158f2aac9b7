"""What a handler is given beside its params: where the message came from, and the way back."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import anyio
from mcp.shared.exceptions import NoBackChannelError
from mcp.shared.jsonrpc_dispatcher import TransportT

from turnout.escape import escaped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcp.shared.dispatcher import CallOptions
    from mcp.shared.message import MessageMetadata
    from mcp_types import RequestId

    from turnout.mcp.dispatch.backend import Receiver

    Report: TypeAlias = Callable[[float, float | None, str | None], Awaitable[None]]

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")


class Context(Generic[TransportT]):
    """The SDK's `DispatchContext` of one message that came in.

    Args:
        receiver: where requests and notifications of the handler go.
        transport: what the transport builder made of the metadata.
        metadata: what the transport attached to the message.
        scope: what the handler runs in.
        request_id: the peer's id; None for a notification.

    """

    __slots__ = (
        "_cancel_event",
        "_receiver",
        "cancelled",
        "closed",
        "message_metadata",
        "report",
        "request_id",
        "scope",
        "stopping",
        "transport",
    )

    def __init__(
        self,
        receiver: Receiver,
        transport: TransportT,
        metadata: MessageMetadata,
        scope: anyio.CancelScope,
        request_id: RequestId | None = None,
    ) -> None:
        self.transport = transport
        self.message_metadata = metadata
        self.request_id = request_id
        self.scope = scope
        self.cancelled = False
        self.closed = False
        self.stopping = False
        self.report: Report | None = None
        self._receiver = receiver
        self._cancel_event: anyio.Event | None = None

    @property
    def can_send_request(self) -> bool:
        """Whether the handler may ask the peer something now."""
        return self.transport.can_send_request and not self.closed

    @property
    def cancel_requested(self) -> anyio.Event:
        """Set when the peer cancels this request; made when somebody looks."""
        if self._cancel_event is None:
            self._cancel_event = anyio.Event()
            if self.cancelled:
                self._cancel_event.set()
        return self._cancel_event

    def cancel(self, *, interrupt: bool) -> None:
        """Take the peer's cancel (CAN-13); it is seen once, and stays.

        Args:
            interrupt: whether the handler is stopped, or only told.

        """
        self.cancelled = True
        if self._cancel_event is not None:
            self._cancel_event.set()
        if interrupt:
            self.scope.cancel()

    def close(self) -> None:
        """The handler has ended: nothing of it leaves any more."""
        self.closed = True
        self.report = None

    def stop(self) -> None:
        """The connection ends: stop the handler."""
        self.stopping = True
        self.scope.cancel()

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        """Send a notification that belongs to this request; dropped when the request is over."""
        if self.closed:
            logger.debug("dropped %s: dispatch context closed", escaped(method))
            return
        await self._receiver.notify(method, params, opts, _related_request_id=self.request_id)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Ask the peer something for this request.

        Raises:
            NoBackChannelError: the transport has no way back, or the request is over.
            MCPError: as for `SessionDispatcher.send_raw_request`.

        """
        if not self.can_send_request:
            raise NoBackChannelError(method)
        return await self._receiver.send_raw_request(
            method, params, opts, _related_request_id=self.request_id
        )

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, if the peer asked for it (PRG-05)."""
        if self.report is not None:
            await self.report(progress, total, message)
