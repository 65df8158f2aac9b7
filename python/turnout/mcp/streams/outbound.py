"""Outbound: requests of ours and their ends, notifications, answers."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.lowlevel
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    REQUEST_TIMEOUT,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
)

from turnout.escape import escaped, quoted
from turnout.mcp import tracing
from turnout.mcp._sdk import current_clock, plan_outbound
from turnout.mcp.deadline import RequestDeadline
from turnout.mcp.errors import Lost, TimedOut
from turnout.mcp.pending import PendingCall
from turnout.mcp.streams.queues import Writer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from mcp.shared._stream_protocols import WriteStream
    from mcp.shared.dispatcher import CallOptions
    from mcp_types import JSONRPCMessage, RequestId

    from turnout._native import Flights
    from turnout.mcp.pending import End

# The SDK's own, so that those who listen on it go on hearing.
logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

ABANDON_WRITE_TIMEOUT = 5.0
GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError)

PLAIN = plan_outbound(None, None)


class Expired(TimeoutError):
    """The clock of a request ran out; not what a transport may raise, whose write takes too long."""


class StreamOutbound:
    """The outbound half of a dispatcher: sends requests, notifications and answers.

    Args:
        flights: what is in flight.
        write_stream: messages for the peer.
        strict: as for `Dispatcher`.

    """

    def __init__(self, flights: Flights, write_stream: WriteStream[SessionMessage], *, strict: bool) -> None:
        self._flights = flights
        self._writer = Writer(write_stream)
        self._strict = strict
        self._most_updates = flights.max_pending_progress
        self._running = False
        self._closed = False

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
            turnout.LimitExceeded: `max_outbound` is reached; nothing was sent.
            RuntimeError: `run()` was not called yet.

        """
        if self._closed:
            raise Lost(CONNECTION_CLOSED, "Connection closed")
        if not self._running:
            raise RuntimeError("JSONRPCDispatcher.send_raw_request called before run()")
        opts = opts or {}
        sent = dict(params) if params else {}
        meta = dict(sent.get("_meta") or {})
        plan = plan_outbound(_related_request_id, opts) if opts or _related_request_id is not None else PLAIN
        loop = asyncio.get_running_loop()
        pending = PendingCall(
            loop, opts.get("on_progress"), self._most_updates, late_updates=not self._strict
        )
        chosen = opts.get("request_id")
        key = self._open(method, pending, chosen)
        request_id = key if chosen is None else chosen
        started = False
        try:
            if (timeout := opts.get("timeout")) is not None:
                pending.deadline = RequestDeadline(
                    loop, timeout, partial(self._expire, key, pending, timeout)
                )
            if pending.on_progress is not None:
                meta["progressToken"] = request_id
            with tracing.request_span(method, request_id, sent, meta) as span:
                message = _request(request_id, method, sent, meta)
                await anyio.lowlevel.checkpoint_if_cancelled()
                started = True
                end = await self._exchange(key, pending, SessionMessage(message, plan.metadata))
                if span is not None and isinstance(end, ErrorData):
                    tracing.failed(span, end)
        except Expired as expired:
            if plan.cancel_on_abandon:
                await self._last_write(
                    self._notify_cancelled(key, request_id, str(expired), _related_request_id),
                    shield=False,
                    timeout=ABANDON_WRITE_TIMEOUT,
                    what=f"courtesy cancel for timed-out request {quoted(request_id)}",
                )
            raise TimedOut(REQUEST_TIMEOUT, f"Request {method!r} timed out") from None
        except asyncio.CancelledError:
            over = not self._flights.abandon(key, "cancelled", "caller cancelled")
            if not over and started and plan.cancel_on_abandon:
                await self._last_write(
                    self._notify_cancelled(key, request_id, "caller cancelled", _related_request_id),
                    shield=True,
                    timeout=ABANDON_WRITE_TIMEOUT,
                    what=f"courtesy cancel for caller-cancelled request {quoted(request_id)}",
                )
            raise
        except BaseException:
            self._flights.abandon(key, "cancelled", "the request could not be sent")
            raise
        finally:
            pending.stop()
        if isinstance(end, ErrorData):
            raise MCPError(code=end.code, message=end.message, data=end.data)
        if isinstance(end, Exception):
            raise end
        return end

    def _open(self, method: str, pending: PendingCall, request_id: RequestId | None) -> RequestId:
        """Register a request; gives what its id is compared by, which is the id itself where we choose it."""
        wants_progress = pending.on_progress is not None
        if request_id is None:
            return self._flights.open(method, pending, wants_progress)
        return self._flights.open(method, pending, wants_progress, self._key(request_id))

    async def _exchange(self, key: RequestId, pending: PendingCall, item: SessionMessage) -> End:
        """Write a request and wait for its end; the clock runs from the end of the write."""
        deadline: Any = pending.deadline
        token = None if deadline is None and current_clock.get() is None else current_clock.set(deadline)
        try:
            try:
                await self._writer.send(item)
            except GONE:
                self._flights.abandon(key, "peer_closed")
                raise Lost(CONNECTION_CLOSED, "Connection closed") from None
            self._flights.written(key)
            if deadline is not None:
                deadline.start()
            end = await pending.future
        finally:
            if token is not None:
                current_clock.reset(token)
        if isinstance(end, Expired):
            raise end
        return end

    def _expire(self, key: RequestId, pending: PendingCall, timeout: float) -> None:
        expired = Expired(f"timed out after {timeout}s")
        if self._flights.abandon(key, "max_timeout", str(expired)):
            pending.settle(expired)

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
        await self._notify(method, params, opts, _related_request_id)

    async def _notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None,
        related: RequestId | None,
    ) -> bool:
        """Send a notification; False where it was dropped."""
        if self._closed:
            logger.debug("dropped %s: dispatcher closed", escaped(method))
            return False
        message = (
            JSONRPCNotification(jsonrpc="2.0", method=method)
            if params is None
            else JSONRPCNotification(jsonrpc="2.0", method=method, params=dict(params))
        )
        await anyio.lowlevel.checkpoint_if_cancelled()
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
            self._flights.told(key)

    async def _answer(self, request_id: RequestId | None, message: JSONRPCMessage) -> None:
        try:
            await self._writer.send(SessionMessage(message))
        except GONE:
            logger.debug("dropped the answer to %s: write stream closed", quoted(request_id))

    async def _answer_error(self, request_id: RequestId | None, error: ErrorData) -> None:
        await self._answer(request_id, JSONRPCError(jsonrpc="2.0", id=request_id, error=error))

    async def _last_write(
        self, write: Coroutine[Any, Any, None], *, shield: bool, timeout: float, what: str
    ) -> None:
        """Write once more where something ends; a transport that is stuck cannot hold the end up."""
        with anyio.move_on_after(timeout, shield=shield) as scope:
            await write
        if scope.cancelled_caught:
            logger.warning("%s gave up: transport write blocked", what)

    def _end(self, outcome: Literal["closed", "peer_closed"]) -> None:
        """Nothing more comes: wake everyone who waits. Idempotent, and without a suspension."""
        self._running = False
        self._closed = True
        for pending in self._flights.end(outcome):
            pending.settle(Lost(CONNECTION_CLOSED, "Connection closed"))

    def _key(self, request_id: RequestId) -> RequestId:
        """What an id is compared by: itself, or, as the SDK has it, the number that a string spells."""
        if self._strict or type(request_id) is int:
            return request_id
        return coerce_request_id(request_id)


def _request(
    request_id: RequestId, method: str, params: dict[str, Any], meta: dict[str, Any]
) -> JSONRPCRequest:
    """Make a request; what is empty is left out."""
    if meta:
        params["_meta"] = meta
    else:
        params.pop("_meta", None)
    if params:
        return JSONRPCRequest(jsonrpc="2.0", id=request_id, method=method, params=params)
    return JSONRPCRequest(jsonrpc="2.0", id=request_id, method=method)
