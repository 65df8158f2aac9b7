"""Outbound: sends requests, delivers their progress, waits for their results."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, REQUEST_TIMEOUT

from turnout.errors import (
    CallCancelled,
    CallTimedOut,
    ConnectionClosed,
    Error,
    InvalidResponse,
    PeerLost,
    RemoteError,
)
from turnout.mcp.errors import Lost, TimedOut
from turnout.mcp.native.values import to_json
from turnout.mcp.pending import PendingCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp.shared.dispatcher import CallOptions
    from mcp_types import RequestId
    from opentelemetry.trace import Span

    from turnout._native import Call, Progress
    from turnout.mcp.native.background import BackgroundTasks
    from turnout.mcp.native.peer import SessionPeer

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")


class NativeOutbound:
    """Our requests in flight.

    Args:
        peer: the peer.
        observers: runs progress callbacks.

    """

    def __init__(self, peer: SessionPeer, observers: BackgroundTasks) -> None:
        self._peer = peer
        self._observers = observers
        self._loop = asyncio.get_running_loop()
        self._most_updates = peer.router.limit("max_pending_progress")
        self._in_flight: dict[RequestId, Call] = {}

    async def exchange(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions, span: Span | None = None
    ) -> dict[str, Any]:
        """Send a request; wait until it ended and its progress was told. Raises as `send_raw_request` does."""
        on_progress = opts.get("on_progress")
        pending = None
        if on_progress is not None:
            pending = PendingCall(self._loop, on_progress, self._most_updates, late_updates=True)
        try:
            call = self._send(method, params, opts, pending)
        except ConnectionClosed:
            raise Lost(CONNECTION_CLOSED, "Connection closed") from None
        if span is not None:
            span.set_attribute("jsonrpc.request.id", str(call.id))
        self._in_flight[call.id] = call
        try:
            await call.wait_ended()
        except asyncio.CancelledError:
            call.cancel("caller cancelled")
            raise
        finally:
            del self._in_flight[call.id]
        if self._observers.starting:
            # Notifications before the answer are looked at before it is (in the order in which they came).
            await asyncio.sleep(0)
        try:
            result: dict[str, Any] = call.result()
        except Error as error:
            raise _of_the_sdk(error, method) from None
        if type(result) is not dict:
            raise MCPError(INTERNAL_ERROR, "the peer answered with a result that is no object")
        if pending is not None:
            pending.settle(result)
            await pending.future
        if method == "initialize":
            self._peer.note_revision(result)
        return result

    def _send(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions, pending: PendingCall | None
    ) -> Call:
        options: dict[str, Any] = {"timeout": None, "max_timeout": opts.get("timeout"), "progress": False}
        if not opts.get("cancel_on_abandon", True):
            options["notify_peer"] = False
        if (chosen := opts.get("request_id")) is not None:
            options["request_id"] = chosen
        if params and "_meta" in params:
            params = _with_plain_meta(params, asks_progress=pending is not None)
        if pending is not None:
            options["progress"] = True
            options["on_progress"] = self._progress_of(pending)
        send = self._peer.send
        try:
            return send(method, params or None, **options)
        except TypeError:
            return send(method, to_json(params), **options)

    def _progress_of(self, pending: PendingCall) -> Callable[[Progress], None]:
        def push(update: Progress) -> None:
            if pending.push(update.progress, update.total, update.message):
                self._observers.spawn(pending.deliver())

        return push

    def cancel(self, params: Mapping[str, Any]) -> None:
        """Take a cancel that was written by hand: what it names is cancelled, if it is in flight (CAN-05)."""
        call = self._in_flight.get(params.get("requestId"))  # type: ignore[arg-type]
        if call is None:
            logger.debug("dropped a cancel: no request of ours that is in flight has this id")
            return
        call.cancel(params.get("reason"))


def _of_the_sdk(error: Error, method: str) -> Exception:
    """What the SDK's callers expect in place of an error of ours."""
    if isinstance(error, RemoteError):
        # A code that no int holds is none that the SDK has.
        code = error.code if isinstance(error.code, int) else INTERNAL_ERROR
        return MCPError(code=code, message=error.message, data=error.data)
    if isinstance(error, CallTimedOut):
        return TimedOut(REQUEST_TIMEOUT, f"Request {method!r} timed out")
    if isinstance(error, PeerLost | CallCancelled):
        return Lost(CONNECTION_CLOSED, "Connection closed")
    if isinstance(error, InvalidResponse):
        return MCPError(INTERNAL_ERROR, "the peer's answer breaks the protocol")
    return error


def _with_plain_meta(params: Mapping[str, Any], *, asks_progress: bool) -> Mapping[str, Any]:
    """Leave out an empty `_meta`, and a token that ours takes the place of."""
    meta = params["_meta"]
    if meta and not (asks_progress and "progressToken" in meta):
        return params
    kept = {key: value for key, value in (meta or {}).items() if key != "progressToken"}
    rest = {key: value for key, value in params.items() if key != "_meta"}
    return {**rest, "_meta": kept} if kept else rest
