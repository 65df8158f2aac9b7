"""Implements the SDK's Dispatcher on a backend, and delegates to inbound, outbound, ordering and background."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Generic

import anyio
import anyio.lowlevel
from mcp.shared import dispatcher as sdk
from mcp.shared.dispatcher import run_notify_intercept
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher, TransportT
from mcp_types import CONNECTION_CLOSED, ErrorData

from turnout.escape import quoted
from turnout.mcp._compat import on_asyncio
from turnout.mcp._sdk import resync_tracer
from turnout.mcp.dispatch.backend import Fault, InboundNotification, InboundRequest
from turnout.mcp.dispatch.background import BackgroundTasks
from turnout.mcp.dispatch.inbound import InboundRequests
from turnout.mcp.dispatch.ordering import DeliveryQueue
from turnout.mcp.dispatch.outbound import OutboundRequests
from turnout.mcp.errors import Lost
from turnout.raised import EXITS, report_exception

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from anyio.abc import TaskGroup, TaskStatus
    from mcp.shared.dispatcher import CallOptions, OnNotify, OnNotifyIntercept, OnRequest
    from mcp_types import RequestId

    from turnout.mcp.dispatch.backend import Backend, Delivery, Outcome
    from turnout.mcp.pending import PendingCall

# The SDK's own, so that those who listen on it go on hearing.
logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")


class SessionDispatcher(sdk.Dispatcher[TransportT], Generic[TransportT]):
    """The SDK's `Dispatcher` on a backend.

    Args:
        backend: carries the messages.
        raise_handler_exceptions: raise what a handler raised out of `run()`, once it was answered.
        inline_methods: requests that are handled before anything behind them.
        on_stream_exception: awaited with what came in and is no message; None drops it.

    """

    def __init__(
        self,
        backend: Backend,
        *,
        raise_handler_exceptions: bool = False,
        inline_methods: frozenset[str] = frozenset(),
        on_stream_exception: Callable[[Exception], Awaitable[None]] | None = None,
    ) -> None:
        self.on_stream_exception = on_stream_exception
        # What anyio makes its scopes of on asyncio; it would look that up for each one.
        self.make_scope: Callable[[], anyio.CancelScope] = anyio.CancelScope
        self._backend = backend
        self._ordering = DeliveryQueue(self._act, backend.queue_budget, inline_methods)
        self._background = BackgroundTasks(
            backend.work_budget,
            eager=backend.starts_eagerly,
            failed=None if backend.contains_failures else self._raise_out,
        )
        self._inbound = InboundRequests(
            backend, self._ordering.ended, self._raise_out if raise_handler_exceptions else None
        )
        self._outbound = OutboundRequests(backend, self._background)
        self._tasks: TaskGroup | None = None
        self._running = self._closed = False
        self._on_notify: OnNotify
        self._intercept: OnNotifyIntercept | None = None
        backend.connect(self)

    @property
    def dropped_notifications(self) -> int:
        """Notifications that reached no handler, because too many waited or were worked on."""
        return self._ordering.budget.dropped + self._background.budget.dropped

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
            opts: the SDK's `CallOptions`; times are in seconds.

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
        return await self._outbound.send(method, params, opts or {}, _related_request_id)

    async def notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None = None,
        *,
        _related_request_id: RequestId | None = None,
    ) -> None:
        """Send a notification; dropped where the connection is over.

        Args:
            method: the method.
            params: its params; None for none.
            opts: the SDK's `CallOptions`, of which headers and resumption hints count.

        """
        await anyio.lowlevel.checkpoint_if_cancelled()
        await self._backend.notify(method, params, opts, _related_request_id)

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
            RuntimeError: the event loop is not asyncio's.
            ExceptionGroup: what a handler raised, with `raise_handler_exceptions`.

        """
        if not on_asyncio():
            raise RuntimeError(
                "turnout's dispatcher runs on asyncio; on trio use the SDK's JSONRPCDispatcher"
            )
        self._inbound.on_request = on_request
        self._on_notify, self._intercept = on_notify, on_notify_intercept
        self.make_scope = type(anyio.CancelScope())
        try:
            async with self._backend.channel(), anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._running = not self._closed
                task_status.started()
                try:
                    self._ordering.release()
                    self._end(await self._backend.receive())
                finally:
                    await self._stop()
        finally:
            self._end("closed")
            self._tasks = None
            await resync_tracer()

    def deliver(self, delivery: Delivery) -> None:
        """Accept a delivery, in the order of arrival."""
        self._ordering.put(delivery)

    async def wait_unblocked(self) -> None:
        """Wait while an inline request is handled."""
        await self._ordering.wait_unblocked()

    def deliver_progress(
        self,
        pending: PendingCall,
        progress: float,
        total: float | None,
        message: str | None,
        context: contextvars.Context | None = None,
    ) -> None:
        """Accept progress of a request of ours."""
        self._outbound.deliver_progress(pending, progress, total, message, context, self.make_scope)

    def _act(self, delivery: Delivery) -> None:
        if isinstance(delivery, InboundRequest):
            self._inbound.start(delivery, self)
        elif isinstance(delivery, InboundNotification):
            self._on_notification(delivery)
        elif isinstance(delivery, Fault):
            if self.on_stream_exception is None:
                logger.debug("dropped what is no message: %s", quoted(delivery.error))
            elif self._background.has_budget(delivery):
                self._background.run_for(
                    delivery, self.tell_exception, delivery.error, scope=self.make_scope()
                )

    def _on_notification(self, notification: InboundNotification) -> None:
        method = notification.method
        try:
            params = notification.params()
        except ValueError:
            params = ()
        if params is not None and type(params) is not dict:
            logger.debug("dropped %s: its params are no object", quoted(method))
            return
        if self._is_consumed(method, params) or not self._background.has_budget(notification):
            return
        try:
            notification.open(self)
        except BaseException as error:
            logger.exception("transport_builder raised; dropping notification %s", quoted(method))
            self._background.release(notification)
            let_exit(error)
            return
        self._background.observe(self._on_notify, notification, params)

    def _is_consumed(self, method: str, params: Mapping[str, Any] | None) -> bool:
        try:
            return run_notify_intercept(self._intercept, method, params)
        except BaseException as error:
            # What the SDK lets through would end the reading, and with it everything in flight.
            logger.exception("notification intercept raised; passing %s through", quoted(method))
            let_exit(error)
            return False

    async def tell_exception(self, error: Exception) -> None:
        """Tell `on_stream_exception`, and wait for it."""
        if self.on_stream_exception is None:
            logger.debug("dropped what is no message: %s", quoted(error))
            return
        try:
            await self.on_stream_exception(error)
        except Exception:
            logger.exception("on_stream_exception observer raised")

    def spawn(
        self,
        function: Callable[..., Coroutine[Any, Any, None]],
        *arguments: object,
        scope: anyio.CancelScope | None = None,
        context: contextvars.Context | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """Run a coroutine function beside the reading, then `ended()`; the end of the session joins it."""
        self._background.spawn(function, *arguments, scope=scope, context=context, ended=ended)

    def request_ended(self, request: InboundRequest) -> None:
        """Take the end of a handler, or of a request whose handler never ran; idempotent."""
        self._inbound.end(request)

    # ---- the end ----

    def channel_ended(self) -> None:
        """Refuse requests of ours from now on."""
        self._closed, self._running = True, False

    def _end(self, outcome: Outcome) -> None:
        """Nothing more comes: wake everyone who waits. Idempotent, and without a suspension."""
        self.channel_ended()
        self._backend.end(outcome)

    def _raise_out(self, error: BaseException) -> None:
        """End `run()` by what a handler raised."""
        if self._tasks is None:
            raise error
        self._tasks.start_soon(_raise, error)

    async def _stop(self) -> None:
        """Stop what is at work, and wait until it ended or the backend's bound passed."""
        self.channel_ended()
        queued = self._ordering.close()
        self._inbound.stop()
        self._background.stop()
        with anyio.CancelScope(shield=True):
            for request in queued:
                await request.fail(ErrorData(code=CONNECTION_CLOSED, message="Connection closed"))
            await self._join()

    async def _join(self) -> None:
        loop, timeout = asyncio.get_running_loop(), self._backend.close_timeout
        end = None if timeout is None else loop.time() + timeout
        while tasks := [
            task for task in (*self._backend.handler_tasks(), *self._background.tasks()) if not task.done()
        ]:
            left = None if end is None else max(end - loop.time(), 0)
            _, pending = await asyncio.wait(tasks, timeout=left)
            if pending:
                break
        # Those that just ended are forgotten in a callback of the loop.
        await asyncio.sleep(0)


def let_exit(error: BaseException) -> None:
    """Let an exit end the loop, once what was read is taken."""
    if isinstance(error, EXITS):
        report_exception(asyncio.get_running_loop(), error)


async def _raise(error: BaseException) -> None:
    raise error


JSONRPCDispatcher.register(SessionDispatcher)
