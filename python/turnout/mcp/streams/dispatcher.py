"""The SDK's `Dispatcher` over `SessionMessage` streams, on turnout's tables.

The SDK's transports, sessions and servers stay as they are; what lies between them is this file: which answer
belongs to which request, who is told of a cancel, where progress goes, and how a handler is stopped.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, cast

import anyio
import anyio.lowlevel
from mcp.shared import dispatcher as sdk
from mcp.shared.dispatcher import run_notify_intercept
from mcp.shared.jsonrpc_dispatcher import (
    JSONRPCDispatcher,
    TransportT,
    cancelled_request_id_from_params,
    progress_token_from_params,
)
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp.shared.transport_context import TransportContext
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ErrorData,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

import turnout.mcp
from turnout._native import Flights
from turnout.errors import LimitExceeded
from turnout.escape import escaped, quoted
from turnout.mcp._compat import on_asyncio
from turnout.mcp._sdk import resync_tracer
from turnout.mcp.context import Context
from turnout.mcp.streams.inbound import StreamInbound
from turnout.mcp.streams.queues import Reader
from turnout.raised import EXITS, report_exception

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Callable, Mapping

    from anyio.abc import TaskStatus
    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.dispatcher import OnNotify, OnNotifyIntercept, OnRequest
    from mcp.shared.jsonrpc_dispatcher import PeerCancelMode
    from mcp.shared.message import MessageMetadata
    from mcp_types import RequestId

    from turnout._native import Ledger
    from turnout.mcp.pending import PendingCall
    from turnout.records import Records

# The SDK's own, so that those who listen on it go on hearing.
logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

_numbers = itertools.count(1)

DUPLEX = TransportContext(kind="jsonrpc", can_send_request=True)
ONE_WAY = TransportContext(kind="jsonrpc", can_send_request=False)


class Dispatcher(StreamInbound[TransportT], sdk.Dispatcher[TransportT], Generic[TransportT]):
    """A `JSONRPCDispatcher` that keeps what is in flight in turnout's tables. It runs on asyncio.

    Args:
        read_stream: messages of the peer, and the transport's exceptions.
        write_stream: messages for the peer.
        transport_builder: makes each message's `TransportContext` of its metadata; None for one that takes the
            transport's word on whether requests can be sent back.
        peer_cancel_mode: `"interrupt"` stops the handler of a request that the peer cancels, `"signal"` only
            sets `ctx.cancel_requested`; either way the request is not answered (CAN-13).
        raise_handler_exceptions: raise what a handler raised out of `run()`, once it was answered.
        inline_methods: requests that are handled before the next message is read.
        on_stream_exception: awaited with each exception of the transport; None drops them.
        strict: None keeps to the specification wherever the SDK's own tests do not pin the contrary: progress
            that is no finite number is dropped, callbacks are called in order and, unless they take longer
            than a second, before the result. True keeps to it everywhere: progress grows and ends with the
            result, ids are compared by type and value, and a request whose id is in flight is refused. False
            does as the SDK.
        name: what records call the other end; None for `streams-1`, `streams-2` and so on.
        limits: `max_outbound`, `max_inbound`, `max_id_bytes`, `max_text_bytes`, `max_pending_progress` and
            `max_remembered` by name; None, or a name left out, for the default.
        records: where finished records go; None for `turnout.mcp.records`.

    Attributes:
        dropped_notifications: how many reached no handler, because `max_inbound` handlers were at work.

    """

    def __init__(
        self,
        read_stream: ReadStream[SessionMessage | Exception],
        write_stream: WriteStream[SessionMessage],
        *,
        transport_builder: Callable[[MessageMetadata], TransportT] | None = None,
        peer_cancel_mode: PeerCancelMode = "interrupt",
        raise_handler_exceptions: bool = False,
        inline_methods: frozenset[str] = frozenset(),
        on_stream_exception: Callable[[Exception], Awaitable[None]] | None = None,
        strict: bool | None = None,
        name: str | None = None,
        limits: Mapping[str, int] | None = None,
        records: Records | None = None,
    ) -> None:
        self.records = turnout.mcp.records if records is None else records
        flights = Flights(
            f"streams-{next(_numbers)}" if name is None else name,
            ledger=self.records.ledger,
            limits=None if limits is None else dict(limits),
            takes_duplicates=not strict,
            progress_must_increase=bool(strict),
            takes_any_number=strict is False,
            declines_cancels=peer_cancel_mode == "signal",
        )
        self.records.attach(flights)
        super().__init__(flights, write_stream, strict=strict, raises=raise_handler_exceptions)
        self.on_stream_exception = on_stream_exception
        self._read_stream = read_stream
        self._write_stream = write_stream
        self._build_transport = cast(
            "Callable[[MessageMetadata], TransportT]", transport_builder or _transport_context
        )
        self._interrupts = peer_cancel_mode == "interrupt"
        self._inline_methods = inline_methods
        self.dropped_notifications = 0

    # ---- what comes in ----

    async def run(
        self,
        on_request: OnRequest,
        on_notify: OnNotify,
        on_notify_intercept: OnNotifyIntercept | None = None,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Read until the read stream ends, once in a dispatcher's life.

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
        # What anyio makes its scopes of here; it would look that up for each one.
        self._make_scope = type(anyio.CancelScope())
        try:
            # Left last: what is written while handlers stop still goes out.
            async with self._write_stream, anyio.create_task_group() as tasks:
                self._tasks = tasks
                self._running = True
                task_status.started()
                try:
                    async with self._read_stream:
                        end = await self._read(on_request, on_notify, on_notify_intercept)
                    self._end(end)
                finally:
                    self._stop_handlers(tasks)
                    tasks.cancel_scope.cancel()
        finally:
            self._end("closed")
            self._tasks = None
            await resync_tracer()

    async def _read(
        self, on_request: OnRequest, on_notify: OnNotify, intercept: OnNotifyIntercept | None
    ) -> Literal["closed", "peer_closed"]:
        """Take messages until there are no more; gives who ended the stream."""
        reader = Reader(self._read_stream)
        try:
            while True:
                context, item = reader.receive_nowait() or await reader.receive()
                if isinstance(item, Exception):
                    await self._on_exception(item)
                    continue
                message = item.message
                if isinstance(message, JSONRPCResponse):
                    self._on_response(message.id, message.result)
                elif isinstance(message, JSONRPCRequest):
                    handler = self._on_request(message, item.metadata, on_request, context)
                    if handler is not None and message.method in self._inline_methods:
                        await asyncio.wait((handler,))
                elif isinstance(message, JSONRPCNotification):
                    self._on_notification(message, item.metadata, on_notify, intercept, context)
                else:
                    self._on_response(message.id, message.error)
        except anyio.EndOfStream:
            return "peer_closed"
        except anyio.ClosedResourceError:
            logger.debug("read stream closed by transport; treating as EOF")
            return "closed"

    async def _on_exception(self, error: Exception) -> None:
        if self.on_stream_exception is None:
            logger.debug("transport yielded exception: %s", quoted(error))
            return
        try:
            await self.on_stream_exception(error)
        except Exception:
            logger.exception("on_stream_exception observer raised")

    def _on_response(self, request_id: RequestId | None, end: dict[str, Any] | ErrorData) -> None:
        key = None if request_id is None else self._key(request_id)
        pending: PendingCall | None = self._flights.claim(key, isinstance(end, ErrorData))
        if pending is None:
            logger.debug("dropping response for unknown/late request id %s", quoted(request_id))
        else:
            pending.settle(end)

    def _on_notification(
        self,
        message: JSONRPCNotification,
        metadata: MessageMetadata,
        on_notify: OnNotify,
        intercept: OnNotifyIntercept | None,
        context: contextvars.Context | None,
    ) -> None:
        method, params = message.method, message.params
        if method == "notifications/progress":
            self._on_progress(params, context)
        elif method == "notifications/cancelled":
            self._on_cancel(params)
        if self._is_consumed(intercept, method, params):
            return
        if not self._has_capacity():
            logger.debug(
                "dropped %s: max_inbound (%d) handlers are at work", escaped(method), self._max_inbound
            )
            self.dropped_notifications += 1
            return
        try:
            transport = self._build_transport(metadata)
        except BaseException as error:
            logger.exception("transport_builder raised; dropping notification %s", quoted(method))
            _let_exit(error)
            return
        ctx = Context(self, transport, metadata, self._make_scope())
        self._start(ctx, context, self._observe, on_notify, method, params)

    def _is_consumed(
        self, intercept: OnNotifyIntercept | None, method: str, params: Mapping[str, Any] | None
    ) -> bool:
        try:
            return run_notify_intercept(intercept, method, params)
        except BaseException as error:
            # What the SDK lets through would end the reading, and with it everything in flight.
            logger.exception("notification intercept raised; passing %s through", quoted(method))
            _let_exit(error)
            return False

    def _on_cancel(self, params: Mapping[str, Any] | None) -> None:
        request_id = cancelled_request_id_from_params(params)
        if params is None or request_id is None:
            return
        reason = params.get("reason")
        ctx = self._flights.cancel(self._key(request_id), reason if isinstance(reason, str) else None)
        if ctx is not None:
            ctx.cancel(interrupt=self._interrupts)

    def _on_progress(self, params: Mapping[str, Any] | None, context: contextvars.Context | None) -> None:
        if params is None:
            return
        token, progress = params.get("progressToken"), _number(params.get("progress"))
        if not isinstance(token, int | str) or isinstance(token, bool) or progress is None:
            return
        total, message = _number(params.get("total")), params.get("message")
        if total is not None and not self._lenient and not math.isfinite(total):
            total = None
        message = message if isinstance(message, str) else None
        pending: PendingCall | None = self._flights.advance(self._key(token), progress, total, message)
        if pending is None:
            return
        if self._lenient and pending.begin():
            self._spawn(context, pending.call_concurrently, progress, total, message)
        elif pending.push(progress, total, message):
            self._spawn(context, pending.deliver)

    def _on_request(
        self,
        message: JSONRPCRequest,
        metadata: MessageMetadata,
        on_request: OnRequest,
        context: contextvars.Context | None,
    ) -> asyncio.Task[None] | None:
        try:
            transport = self._build_transport(metadata)
        except BaseException as error:
            logger.exception("transport_builder raised; rejecting request %s", quoted(message.id))
            self._refuse(message.id, INTERNAL_ERROR, "transport context unavailable", None, context)
            _let_exit(error)
            return None
        if not self._has_capacity():
            self._counted["overloaded"] += 1
            self._refuse_beyond("max_inbound", self._max_inbound, message.id, context)
            return None
        key = self._key(message.id)
        token = progress_token_from_params(message.params)
        ctx = Context(self, transport, metadata, self._make_scope(), message.id, token, key)
        try:
            self._flights.begin(key, message.method, token, ctx)
        except LimitExceeded as full:
            self._refuse_beyond(full.limit, full.value, message.id, context)
            return None
        except ValueError:
            # An error under the same id would end the first request at the peer.
            data = {"reason": "duplicate_id", "requestId": message.id}
            self._refuse(None, INVALID_REQUEST, "the request id is in flight already", data, context)
            return None
        return self._start(ctx, context, self._handle, key, message, on_request)

    # ---- what is in flight: the names are a Peer's ----

    @property
    def name(self) -> str:
        """What records call the other end."""
        return self._flights.name

    @property
    def ledger(self) -> Ledger:
        """Where finished records go."""
        return self._flights.ledger

    @property
    def in_flight(self) -> tuple[int, int]:
        """Requests in flight: ours, the peer's."""
        return self._flights.in_flight

    @property
    def is_over(self) -> bool:
        """Whether the streams ended, or `run()` did."""
        return self._flights.is_over

    @property
    def memory(self) -> int:
        """Bytes held by the tables."""
        return self._flights.memory

    def entries(self) -> dict[str, int]:
        """Entries in every table that a request can leave behind: all 0 when nothing is in flight (X-08)."""
        return {
            **self._flights.entries(),
            "handlers": len(self._handlers),
            "background": len(self._background),
        }

    def counters(self) -> dict[str, int]:
        """What it counts, beside outcomes."""
        counters = self._flights.counters()
        for name, count in self._counted.items():
            counters[name] += count
        return counters

    @property
    def _pending(self) -> Mapping[RequestId, PendingCall]:
        """Requests of ours, for those who look where the SDK keeps them."""
        return MappingProxyType(self._flights.outbound())

    @property
    def _in_flight(self) -> Mapping[RequestId, Context[TransportT]]:
        """Requests of the peer, likewise."""
        return MappingProxyType(self._flights.inbound())


JSONRPCDispatcher.register(Dispatcher)


def _transport_context(metadata: MessageMetadata) -> TransportContext:
    if isinstance(metadata, ServerMessageMetadata) and not metadata.can_send_request:
        return ONE_WAY
    return DUPLEX


def _let_exit(error: BaseException) -> None:
    """Let an exit end the loop, once what was read is taken."""
    if isinstance(error, EXITS):
        report_exception(asyncio.get_running_loop(), error)


def _number(value: object) -> float | None:
    """A number of the peer's; one that no float holds is infinite, and what is none is None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
