"""The backend on the SDK's streams: its transports, sessions and servers stay, and requests are in turnout's tables."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

import anyio
import anyio.lowlevel
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.jsonrpc_dispatcher import (
    TransportT,
    cancelled_request_id_from_params,
    progress_token_from_params,
)
from mcp.shared.message import SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    REQUEST_TIMEOUT,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

from turnout.errors import LimitExceeded
from turnout.escape import escaped, quoted
from turnout.mcp._sdk import current_clock, plan_outbound
from turnout.mcp.deadline import RequestDeadline
from turnout.mcp.dispatch.dispatcher import let_exit
from turnout.mcp.dispatch.handler_budget import HandlerBudget
from turnout.mcp.dispatch.queues import Reader, Writer
from turnout.mcp.dispatch.stream_messages import GONE, StreamNotification, StreamRequest
from turnout.mcp.errors import Lost, TimedOut

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    from mcp.shared._stream_protocols import ReadStream, WriteStream
    from mcp.shared.dispatcher import CallOptions
    from mcp.shared.jsonrpc_dispatcher import PeerCancelMode
    from mcp.shared.message import MessageMetadata
    from mcp_types import JSONRPCMessage, RequestId

    from turnout._native import Flights
    from turnout.mcp.dispatch.backend import InboundRequest, OutboundRequest, Outcome, Receiver, Serve
    from turnout.mcp.pending import PendingCall

# The SDK's own, so that those who listen on it go on hearing.
logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

ABANDON_WRITE_TIMEOUT = 5.0

PLAIN = plan_outbound(None, None)


class Expired(TimeoutError):
    """The clock of a request ran out; not what a transport may raise, whose write takes too long."""


class StreamsBackend(Generic[TransportT]):
    """Carries messages over `SessionMessage` streams.

    Args:
        read_stream: messages of the peer, and the transport's exceptions.
        write_stream: messages for the peer.
        flights: what is in flight.
        build_transport: makes each message's `TransportContext` of its metadata.
        peer_cancel_mode: as for `Dispatcher`.
        strict: likewise.

    """

    starts_eagerly = False
    contains_failures = False
    # The SDK waits for as long as a handler takes.
    close_timeout = None

    def __init__(
        self,
        read_stream: ReadStream[SessionMessage | Exception],
        write_stream: WriteStream[SessionMessage],
        flights: Flights,
        *,
        build_transport: Callable[[MessageMetadata], TransportT],
        peer_cancel_mode: PeerCancelMode,
        strict: bool | None,
    ) -> None:
        self.receiver: Receiver
        self.flights = flights
        self.build_transport = build_transport
        self.lenient = strict is False
        self.counted: Counter[str] = Counter()
        self._max_updates = flights.max_pending_progress
        self.concurrent_updates = self.lenient
        # A reader waits itself: nothing is ever queued.
        self.queue_budget = HandlerBudget(0)
        self.work_budget = HandlerBudget(flights.max_inbound)
        self._read_stream = read_stream
        self._write_stream = write_stream
        self._writer = Writer(write_stream)
        self._interrupts = peer_cancel_mode == "interrupt"
        self._strict = bool(strict)
        self._max_inbound = flights.max_inbound
        self._refusals = 0

    def connect(self, receiver: Receiver) -> None:
        """Hand over to `receiver` from now on."""
        self.receiver = receiver

    # ---- what comes in ----

    def channel(self) -> AbstractAsyncContextManager[object]:
        """The write stream is left last."""
        return self._write_stream

    async def receive(self) -> Outcome:
        """Read until the read stream ends."""
        async with self._read_stream:
            reader = Reader(self._read_stream)
            try:
                while True:
                    context, item = reader.receive_nowait() or await reader.receive()
                    if isinstance(item, Exception):
                        await self.receiver.tell_exception(item)
                    else:
                        await self._receive_message(item.message, item.metadata, context)
            except anyio.EndOfStream:
                return "peer_closed"
            except anyio.ClosedResourceError:
                logger.debug("read stream closed by transport; treating as EOF")
                return "closed"

    async def _receive_message(
        self, message: JSONRPCMessage, metadata: MessageMetadata, context: contextvars.Context | None
    ) -> None:
        if isinstance(message, JSONRPCResponse):
            self._on_response(message.id, message.result)
        elif isinstance(message, JSONRPCRequest):
            self._on_request(message, metadata, context)
            await self.receiver.wait_unblocked()
        elif isinstance(message, JSONRPCNotification):
            if message.method == "notifications/progress":
                self._on_progress(message.params, context)
            elif message.method == "notifications/cancelled":
                self._on_cancel(message.params)
            self.receiver.deliver(StreamNotification(message, metadata, context, self.build_transport))
        else:
            self._on_response(message.id, message.error)

    def _on_response(self, request_id: RequestId | None, end: dict[str, Any] | ErrorData) -> None:
        key = None if request_id is None else self._key(request_id)
        pending: PendingCall | None = self.flights.claim(key, isinstance(end, ErrorData))
        if pending is None:
            logger.debug("dropping response for unknown/late request id %s", quoted(request_id))
        else:
            pending.settle(end)

    def _on_cancel(self, params: Mapping[str, Any] | None) -> None:
        request_id = cancelled_request_id_from_params(params)
        if params is None or request_id is None:
            return
        reason = params.get("reason")
        request: StreamRequest | None = self.flights.cancel(
            self._key(request_id), reason if isinstance(reason, str) else None
        )
        if request is not None:
            request.ctx.cancel(interrupt=self._interrupts)

    def _on_progress(self, params: Mapping[str, Any] | None, context: contextvars.Context | None) -> None:
        if params is None:
            return
        token, progress = params.get("progressToken"), _number(params.get("progress"))
        if not isinstance(token, int | str) or isinstance(token, bool) or progress is None:
            return
        total, message = _number(params.get("total")), params.get("message")
        if total is not None and not self.lenient and not math.isfinite(total):
            total = None
        message = message if isinstance(message, str) else None
        pending: PendingCall | None = self.flights.advance(self._key(token), progress, total, message)
        if pending is not None:
            self.receiver.deliver_progress(pending, progress, total, message, context)

    def _on_request(
        self, message: JSONRPCRequest, metadata: MessageMetadata, context: contextvars.Context | None
    ) -> None:
        try:
            transport = self.build_transport(metadata)
        except BaseException as error:
            logger.exception("transport_builder raised; rejecting request %s", quoted(message.id))
            self._refuse(message.id, INTERNAL_ERROR, "transport context unavailable", None, context)
            let_exit(error)
            return
        if self.work_budget.is_used_up:
            self.counted["overloaded"] += 1
            self._refuse_beyond("max_inbound", self._max_inbound, message.id, context)
            return
        key = self._key(message.id)
        token = progress_token_from_params(message.params)
        request = StreamRequest(message, metadata, context, transport, self, key, token)
        try:
            self.flights.begin(key, message.method, token, request, message.params)
        except LimitExceeded as full:
            self._refuse_beyond(full.limit, full.value, message.id, context)
        except ValueError:
            # An error under the same id would end the first request at the peer.
            data = {"reason": "duplicate_id", "requestId": message.id}
            self._refuse(None, INVALID_REQUEST, "the request id is in flight already", data, context)
        else:
            self.receiver.deliver(request)

    def start_handler(self, request: InboundRequest, serve: Serve) -> None:
        """Run a handler, in the context of the message's sender."""
        assert isinstance(request, StreamRequest)  # noqa: S101 - it is one that was handed over above
        self.work_budget.try_acquire(request)
        self.receiver.spawn(serve, request, context=request.context, ended=request.forget)

    def handler_tasks(self) -> list[asyncio.Task[None]]:
        """None beside those that the receiver runs."""
        return []

    def _refuse(
        self,
        request_id: RequestId | None,
        code: int,
        message: str,
        data: dict[str, Any] | None,
        context: contextvars.Context | None,
    ) -> None:
        """Answer a request that is not taken, unless `max_inbound` of such answers wait for the transport already."""
        if self._refusals >= self._max_inbound:
            logger.debug("dropped the refusal of request %s: the transport is stuck", quoted(request_id))
            self.counted["replies_dropped"] += 1
            return
        self._refusals += 1
        error = ErrorData(code=code, message=message, data=data)
        receiver = self.receiver
        receiver.spawn(self._write_refusal, request_id, error, scope=receiver.make_scope(), context=context)

    def _refuse_beyond(
        self, limit: str, value: int, request_id: RequestId, context: contextvars.Context | None
    ) -> None:
        """Refuse a request that is beyond a limit, by the limit's name."""
        if limit == "max_inbound":
            data = {"reason": "overloaded", "limit": limit, "value": value}
            self._refuse(request_id, INTERNAL_ERROR, "too many requests in flight", data, context)
        else:
            data = {"reason": limit, "limit": limit, "value": value}
            self._refuse(None, INVALID_REQUEST, f"the id is longer than {limit}", data, context)

    async def _write_refusal(self, request_id: RequestId | None, error: ErrorData) -> None:
        try:
            await self.answer(request_id, JSONRPCError(jsonrpc="2.0", id=request_id, error=error))
        finally:
            self._refusals -= 1

    # ---- what goes out ----

    async def request(self, request: OutboundRequest) -> dict[str, Any] | ErrorData:
        """Send a request and wait for the answer."""
        opts, related = request.opts, request.related
        pending = request.make_pending(self._max_updates, late_updates=not self._strict)
        plan = plan_outbound(related, opts) if opts or related is not None else PLAIN
        key = self._open(request, pending, opts.get("request_id"))
        request_id = opts.get("request_id", key)
        request.note_id(request_id)
        try:
            if (timeout := opts.get("timeout")) is not None:
                expire = partial(self._expire, key, pending, timeout)
                pending.deadline = RequestDeadline(asyncio.get_running_loop(), timeout, expire)
            if pending.on_progress is not None:
                request.meta["progressToken"] = request_id
            params = request.all_params()
            message = (
                JSONRPCRequest(jsonrpc="2.0", id=request_id, method=request.method, params=params)
                if params
                else JSONRPCRequest(jsonrpc="2.0", id=request_id, method=request.method)
            )
            return await self._exchange(key, pending, SessionMessage(message, plan.metadata))
        except Expired as expired:
            if plan.cancel_on_abandon:
                await self.last_write(
                    self._notify_cancelled(key, request_id, str(expired), related),
                    shield=False,
                    timeout=ABANDON_WRITE_TIMEOUT,
                    what=f"courtesy cancel for timed-out request {quoted(request_id)}",
                )
            raise TimedOut(REQUEST_TIMEOUT, f"Request {request.method!r} timed out") from None
        except asyncio.CancelledError:
            over = not self.flights.abandon(key, "cancelled", "caller cancelled")
            if not over and plan.cancel_on_abandon:
                await self.last_write(
                    self._notify_cancelled(key, request_id, "caller cancelled", related),
                    shield=True,
                    timeout=ABANDON_WRITE_TIMEOUT,
                    what=f"courtesy cancel for caller-cancelled request {quoted(request_id)}",
                )
            raise
        except BaseException:
            self.flights.abandon(key, "cancelled", "the request could not be sent")
            raise

    def _open(
        self, request: OutboundRequest, pending: PendingCall, request_id: RequestId | None
    ) -> RequestId:
        """Register a request; gives what its id is compared by, which is the id itself where we choose it."""
        wants_progress = pending.on_progress is not None
        key = None if request_id is None else self._key(request_id)
        return self.flights.open(request.method, pending, wants_progress, key, request.params)

    async def _exchange(
        self, key: RequestId, pending: PendingCall, item: SessionMessage
    ) -> dict[str, Any] | ErrorData:
        """Write a request and wait for its end; the clock runs from the end of the write."""
        deadline: Any = pending.deadline
        token = None if deadline is None and current_clock.get() is None else current_clock.set(deadline)
        try:
            try:
                await self._writer.send(item)
            except GONE:
                self.flights.abandon(key, "peer_closed")
                raise Lost(CONNECTION_CLOSED, "Connection closed") from None
            self.flights.written(key)
            if deadline is not None:
                deadline.start()
            end = await pending.future
        finally:
            if token is not None:
                current_clock.reset(token)
        if isinstance(end, Exception):
            raise end
        return end

    def _expire(self, key: RequestId, pending: PendingCall, timeout: float) -> None:
        expired = Expired(f"timed out after {timeout}s")
        if self.flights.abandon(key, "max_timeout", str(expired)):
            pending.settle(expired)

    async def notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None,
        related: RequestId | None,
    ) -> None:
        """Send a notification."""
        await self._notify(method, params, opts, related)

    async def _notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None,
        related: RequestId | None,
    ) -> bool:
        """Send a notification; False where it was dropped."""
        if self.flights.is_over:
            logger.debug("dropped %s: dispatcher closed", escaped(method))
            return False
        message = (
            JSONRPCNotification(jsonrpc="2.0", method=method)
            if params is None
            else JSONRPCNotification(jsonrpc="2.0", method=method, params=dict(params))
        )
        try:
            await self._writer.send(SessionMessage(message, plan_outbound(related, opts).metadata))
        except GONE:
            logger.debug("dropped %s: write stream closed", escaped(method))
            return False
        return True

    async def _notify_cancelled(
        self, key: RequestId, request_id: RequestId, reason: str, related: RequestId | None
    ) -> None:
        params = {"requestId": request_id, "reason": reason}
        if await self._notify("notifications/cancelled", params, None, related):
            self.flights.told(key)

    async def answer(self, request_id: RequestId | None, message: JSONRPCMessage) -> None:
        """Write an answer; dropped where the connection is over."""
        try:
            await self._writer.send(SessionMessage(message))
        except GONE:
            logger.debug("dropped the answer to %s: write stream closed", quoted(request_id))

    async def last_write(
        self, write: Coroutine[Any, Any, None], *, shield: bool, timeout: float, what: str
    ) -> None:
        """Write once more where something ends; a transport that is stuck cannot hold the end up."""
        with anyio.move_on_after(timeout, shield=shield) as scope:
            await write
        if scope.cancelled_caught:
            logger.warning("%s gave up: transport write blocked", what)

    # ---- the end ----

    def end(self, outcome: Outcome) -> None:
        """End everything in flight."""
        for pending in self.flights.end(outcome):
            pending.settle(Lost(CONNECTION_CLOSED, "Connection closed"))

    def _key(self, request_id: RequestId) -> RequestId:
        """What an id is compared by: itself, or, as the SDK has it, the number that a string spells."""
        if self._strict or type(request_id) is int:
            return request_id
        return coerce_request_id(request_id)


def _number(value: object) -> float | None:
    """A number of the peer's; one that no float holds is infinite, and what is none is None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
