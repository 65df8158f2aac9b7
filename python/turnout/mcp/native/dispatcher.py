"""Implements the SDK's Dispatcher on a turnout Peer and delegates to inbound, outbound and background."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from mcp.shared import dispatcher as sdk
from mcp.shared.dispatcher import run_notify_intercept
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED

from turnout._native import Notification, Refused, Request
from turnout.budget import Budget
from turnout.errors import ConnectionClosed
from turnout.escape import escaped, quoted
from turnout.mcp import tracing
from turnout.mcp.context import Context
from turnout.mcp.errors import Lost, TimedOut
from turnout.mcp.native.background import BackgroundTasks
from turnout.mcp.native.inbound import DUPLEX, NativeInbound
from turnout.mcp.native.ordering import DeliveryQueue
from turnout.mcp.native.outbound import NativeOutbound
from turnout.mcp.native.values import to_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anyio.abc import TaskStatus
    from mcp.shared.dispatcher import CallOptions, OnNotify, OnNotifyIntercept, OnRequest
    from mcp_types import RequestId

    from turnout.handlers import Event
    from turnout.mcp.native.peer import SessionPeer

# The SDK's own, so that those who listen on it go on hearing.
logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")


class NativeDispatcher(sdk.Dispatcher[TransportContext]):
    """The SDK's `Dispatcher` on a turnout peer; made by `open_dispatcher` and the `serve_` functions.

    Notifications that wait, and those that handlers are at work on, are bounded by the router's `max_inbound` and
    `max_inbound_bytes` each; `dropped_notifications` counts what came beyond.

    Args:
        peer: the connection; whoever made it closes it.
        raise_handler_exceptions: raise what a handler raised out of `run()`, once it was answered.
        inline_methods: requests that are handled before anything behind them.

    """

    def __init__(
        self,
        peer: SessionPeer,
        *,
        raise_handler_exceptions: bool = False,
        inline_methods: frozenset[str] = frozenset(),
    ) -> None:
        self.peer = peer
        self.on_stream_exception: Callable[[Exception], Awaitable[None]] | None = None
        # The scopes of asyncio's backend, which anyio would look for at every request; it finds them in tasks only.
        self.make_scope: type[anyio.CancelScope] = anyio.CancelScope
        self._ordering = DeliveryQueue(self._act, Budget(peer), inline_methods)
        self._background = BackgroundTasks(Budget(peer))
        self._inbound = NativeInbound(
            self, self._ordering.ended, self._fail if raise_handler_exceptions else None
        )
        self._outbound = NativeOutbound(peer, self._background)
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running = self._closed = False
        self._on_notify: OnNotify
        self._intercept: OnNotifyIntercept | None = None
        peer.session = self

    @property
    def dropped_notifications(self) -> int:
        """Notifications that reached no handler, because there was no room for them to wait or to be worked on."""
        return (
            self._ordering.budget.dropped + self._background.budget.dropped + self.peer.dropped_notifications
        )

    # ---- what goes out ----

    async def send_raw_request(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        *,
        _related_request_id: RequestId | None = None,
    ) -> dict[str, Any]:
        """Send a request and wait for its result.

        Args:
            method: the method.
            params: its params; None for none.
            opts: the SDK's `CallOptions`; times are in seconds. What is for HTTP only is left aside.

        Raises:
            MCPError: the peer answered with an error; `TimedOut` or `Lost` where the end is ours.
            ValueError: `opts["request_id"]` is in flight.
            turnout.LimitExceeded: `max_outbound` or `max_output_bytes` is reached; nothing was sent.
            RuntimeError: `run()` was not called yet.

        """
        if self._closed:
            raise Lost(CONNECTION_CLOSED, "Connection closed")
        if not self._running:
            raise RuntimeError("send_raw_request called before run()")
        await anyio.lowlevel.checkpoint_if_cancelled()
        if tracing.nobody_traces():
            return await self._outbound.exchange(method, params, opts or {})
        meta = dict((params or {}).get("_meta") or {})
        with tracing.request_span(method, None, dict(params or {}), meta) as span:
            sent = {**(params or {}), "_meta": meta}
            try:
                return await self._outbound.exchange(method, sent, opts or {}, span)
            except MCPError as error:
                if span is not None and not isinstance(error, Lost | TimedOut):
                    tracing.failed(span, error.error)
                raise

    async def notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,  # noqa: ARG002
        *,
        _related_request_id: RequestId | None = None,
    ) -> None:
        """Send a notification; dropped where the connection is over.

        Progress and cancels go the way of `ctx.progress()` and of a cancelled call, so that they are on record and
        never come after the end: they are dropped where nothing in flight is meant (CAN-05, PRG-10).

        Args:
            method: the method.
            params: its params; None for none.
            opts: of no meaning here: what it says of notifications is for HTTP.

        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        if method == "notifications/progress":
            self._inbound.report(params or {})
            return
        if method == "notifications/cancelled":
            self._outbound.cancel(params or {})
            return
        await self.peer.link.wait_writable()
        try:
            try:
                self.peer.notify(method, params)
            except TypeError:
                self.peer.notify(method, to_json(params))
        except ConnectionClosed:
            logger.debug("dropped %s: dispatcher closed", escaped(method))

    # ---- what comes in ----

    async def run(
        self,
        on_request: OnRequest,
        on_notify: OnNotify,
        on_notify_intercept: OnNotifyIntercept | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Handle what comes in until the channel ends, once in a dispatcher's life.

        Args:
            on_request: handles requests of the peer, each in a task of its own.
            on_notify: takes notifications, likewise.
            on_notify_intercept: is shown every notification first, in the order in which they came; True
                consumes it. None for nothing.
            task_status: told when requests can be sent.

        Raises:
            Exception: what a handler raised, with `raise_handler_exceptions`.

        """
        self._inbound.on_request = on_request
        self._on_notify, self._intercept = on_notify, on_notify_intercept
        self.make_scope = type(anyio.CancelScope())
        self._running = True
        task_status.started()
        try:
            self._ordering.release()
            await self._over
        finally:
            await self._finish()

    def receive_delivery(self, delivery: Request | Notification | Event) -> None:
        """Accept a delivery, in the order of arrival."""
        self._ordering.put(delivery)

    def _act(self, delivery: Request | Notification | Event) -> None:
        if isinstance(delivery, Request):
            self._inbound.start(delivery)
        elif isinstance(delivery, Notification):
            self._on_notification(delivery)
        elif isinstance(delivery, Refused):
            logger.debug("refused a frame: %s", delivery.message)
            callback = self.on_stream_exception
            if callback is not None:
                self._background.report_refused(callback, delivery)
        else:
            logger.debug("dropping %s", quoted(delivery))

    def _on_notification(self, notification: Notification) -> None:
        method = notification.method
        try:
            params = notification.params
        except ValueError:
            params = ()
        if params is not None and type(params) is not dict:
            logger.debug("dropped %s: its params are no object", quoted(method))
            return
        if run_notify_intercept(self._intercept, method, params):
            return
        self._background.observe(self._on_notify, self._context, notification, params)

    def _context(self) -> Context[TransportContext]:
        return Context(self, DUPLEX, None, self.make_scope())  # type: ignore[arg-type]

    # ---- the end ----

    def connection_lost(self) -> None:
        """The channel ended, or was closed."""
        self._closed, self._running = True, False
        if not self._over.done():
            self._over.set_result(None)

    def _fail(self, raised: Exception) -> None:
        """End `run()` by what a handler raised."""
        if not self._over.done():
            self._over.set_exception(raised)

    async def _finish(self) -> None:
        """Stop what is at work, within the router's bound, and end what is in flight."""
        self._closed, self._running = True, False
        self._ordering.close()
        tasks = [*self._inbound.stop(), *self._background.stop()]
        if tasks:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(tasks, timeout=self.peer.router.close_timeout)
        if not self.peer.connection.is_over:
            self.peer.connection.flush()
            self.peer.connection.end("closed")


JSONRPCDispatcher.register(NativeDispatcher)
