"""The backend on a turnout peer: from bytes to the typed layer, with nothing in between.

Frames are read, matched and written by the native part; what reaches Python is a request to handle, a
notification to look at, or the decoded result of a call. No `SessionMessage`, no model of a frame, no stream.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pydantic_core
from mcp.shared.exceptions import MCPError
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_PARAMS, REQUEST_TIMEOUT, ErrorData

from turnout import json
from turnout._native import Notification, Refused, Request
from turnout.budget import Budget
from turnout.errors import (
    CallCancelled,
    CallTimedOut,
    ConnectionClosed,
    InvalidResponse,
    PeerLost,
    RemoteError,
)
from turnout.escape import escaped, quoted
from turnout.mcp.context import Context
from turnout.mcp.dispatch.backend import Fault, InboundNotification, InboundRequest
from turnout.mcp.errors import Lost, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from contextlib import AbstractAsyncContextManager

    from mcp.shared.dispatcher import CallOptions
    from mcp_types import RequestId

    from turnout._native import Call, Progress
    from turnout.handlers import Event
    from turnout.mcp.dispatch.backend import OutboundRequest, Outcome, Receiver, Serve
    from turnout.mcp.dispatch.session_peer import SessionPeer
    from turnout.mcp.pending import PendingCall

logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

AT_ONCE = 1e-6
"""Seconds: a timeout of 0 passes as soon as the request is sent."""

_handled: contextvars.ContextVar[Request | None] = contextvars.ContextVar("turnout.mcp.handled", default=None)
"""The request that the running task handles: over HTTP, what belongs to it goes on its stream."""

DUPLEX = TransportContext(kind="jsonrpc", can_send_request=True)


def to_json(value: Any) -> bytes:
    """A value as the SDK's own transports write it, for what `turnout.json` does not write.

    These are types of pydantic's, and numbers that are not finite: NaN and infinity become null.

    Raises:
        ValueError: pydantic does not write it either.

    """
    return pydantic_core.to_json(value, inf_nan_mode="null")


class PeerNotification(InboundNotification):
    """A notification that came in on a turnout peer."""

    __slots__ = ()

    def params(self) -> Any:
        """Decode the params."""
        return self.source.params

    def transport(self) -> TransportContext:
        """It goes both ways."""
        return DUPLEX


class PeerRequest(InboundRequest):
    """A request that came in on a turnout peer."""

    __slots__ = ("_backend", "_has_begun", "_serve")

    source: Request

    def __init__(self, source: Request, backend: PeerBackend) -> None:
        self.source = source
        self.method = source.method
        self._backend = backend
        self._has_begun = False
        self._serve: Serve

    @property
    def request_id(self) -> RequestId:
        """The id; a number that is no 64-bit integer becomes an int of Python's, or a str."""
        request_id = self.source.id
        if not isinstance(request_id, bytes):
            return request_id
        value = json.loads(request_id)
        return value if isinstance(value, int) else request_id.decode("utf-8", "replace")

    def params(self) -> dict[str, Any] | None:
        """Params as the SDK takes them: by name, or none."""
        params = self.source.params
        if params is None or type(params) is dict:
            return params
        raise MCPError(INVALID_PARAMS, "params must be an object")

    def transport(self) -> TransportContext:
        """It goes both ways."""
        return DUPLEX

    def open(self, receiver: Receiver) -> None:
        """Make the context that the handler is given."""
        self.ctx = Context(receiver, DUPLEX, None, receiver.make_scope(), self.request_id)
        self.ctx.report = self.report

    def start(self, serve: Serve) -> None:
        """Run the handler in a task that the native part starts."""
        self._serve = serve
        self.source.on_cancel(self._on_cancel)
        self._backend.peer.connection.start_handler(self.source, self._run, True)

    def _on_cancel(self, reason: str | None) -> None:  # noqa: ARG002
        """Take the peer's cancel, or the end of the connection (CAN-11, CAN-13)."""
        self.ctx.cancel(interrupt=True)
        if not self._has_begun:
            self._backend.receiver.request_ended(self)

    def _run(self, _request: Request) -> Coroutine[Any, Any, None]:
        self._has_begun = True
        # The handler's task has a context of its own.
        _handled.set(self.source)
        token = self.source.progress_token
        return self._serve(self) if token is None else self._run_reporting(token)

    async def _run_reporting(self, token: object) -> None:
        # A token that is in use goes on naming the request that had it first (PRG-03).
        reporting = self._backend.reporting
        reporting.setdefault(token, self.source)
        try:
            await self._serve(self)
        finally:
            if reporting.get(token) is self.source:
                del reporting[token]

    async def report(self, progress: float, total: float | None, message: str | None) -> None:
        """Report progress."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self.source.progress(progress, total, message)

    async def respond(self, result: dict[str, Any]) -> None:
        """Answer with a result."""
        if self.method == "initialize":
            self._backend.peer.note_revision(result)
        try:
            self.source.respond(result)
        except TypeError:
            self.source.respond(to_json(result))

    async def fail(self, error: ErrorData) -> None:
        """Answer with an error."""
        try:
            self.source.fail(error.code, error.message, error.data)
        except TypeError:
            self.source.fail(error.code, error.message, to_json(error.data))

    async def settle(self) -> None:
        """Answer where the connection ends, and note the end after a cancel."""
        if self.ctx.stopping:
            self.source.fail(CONNECTION_CLOSED, "Connection closed")
        if self.ctx.cancelled:
            self.source.stopped()


class PeerBackend:
    """Carries messages on a turnout peer.

    Args:
        peer: the connection; whoever made it closes it.

    """

    concurrent_updates = False
    starts_eagerly = True
    contains_failures = True

    def __init__(self, peer: SessionPeer) -> None:
        self.peer = peer
        self.receiver: Receiver
        self.queue_budget = Budget(peer)
        self.work_budget = Budget(peer)
        self._max_updates = peer.router.limit("max_pending_progress")
        self.reporting: dict[Any, Request] = {}
        """Requests that are handled, by the progress token that they gave."""
        self._in_flight: dict[RequestId, Call] = {}
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def close_timeout(self) -> float | None:
        """Seconds that handlers may take to stop: the router's."""
        return self.peer.router.close_timeout

    def connect(self, receiver: Receiver) -> None:
        """Hand over to `receiver` from now on."""
        self.receiver = receiver
        self.peer.session = self

    # ---- what comes in ----

    def channel(self) -> AbstractAsyncContextManager[object]:
        """Nothing is left last: `end` writes what is there yet."""
        return nullcontext()

    async def receive(self) -> Outcome:
        """Wait until the channel ends: deliveries come by themselves."""
        await self._over
        return "peer_closed"

    def receive_delivery(self, delivery: Request | Notification | Event) -> None:
        """Accept a delivery of the peer's."""
        if isinstance(delivery, Request):
            self.receiver.deliver(PeerRequest(delivery, self))
        elif isinstance(delivery, Notification):
            self.receiver.deliver(PeerNotification(delivery, delivery.method))
        elif isinstance(delivery, Refused):
            self.receiver.deliver(Fault(delivery, ValueError(f"refused a frame: {delivery.message}")))
        else:
            logger.debug("dropping %s", quoted(delivery))

    def start_handler(self, request: InboundRequest, serve: Serve) -> None:
        """Run a handler."""
        assert isinstance(request, PeerRequest)  # noqa: S101 - it is one that was handed over above
        request.start(serve)

    def handler_tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of handlers."""
        return self.peer.connection.handler_tasks()

    # ---- what goes out ----

    async def request(self, request: OutboundRequest) -> dict[str, Any] | ErrorData:
        """Send a request and wait for the answer."""
        try:
            call = self._send(request)
        except ConnectionClosed:
            raise Lost(CONNECTION_CLOSED, "Connection closed") from None
        request.note_id(call.id)
        self._in_flight[call.id] = call
        try:
            await call.wait_ended()
        except asyncio.CancelledError:
            call.cancel("caller cancelled")
            raise
        finally:
            del self._in_flight[call.id]
        answer = _answer(call, request.method)
        if request.method == "initialize" and isinstance(answer, dict):
            self.peer.note_revision(answer)
        if (pending := request.pending) is not None:
            pending.settle(answer)
            await pending.future
        return answer

    def _send(self, request: OutboundRequest) -> Call:
        opts = request.opts
        options: dict[str, Any] = {"timeout": None, "max_timeout": None, "progress": False}
        if (timeout := opts.get("timeout")) is not None:
            options["max_timeout"] = max(timeout, AT_ONCE)
        if not opts.get("cancel_on_abandon", True):
            options["notify_peer"] = False
        if (chosen := opts.get("request_id")) is not None:
            options["request_id"] = chosen
        if request.on_progress is not None:
            options["progress"] = True
            pending = request.make_pending(self._max_updates, late_updates=True)
            options["on_progress"] = self._progress_of(pending)
        if (during := self._related(request.related)) is not None:
            options["during"] = during
        params, send = request.all_params(), self.peer.send
        try:
            return send(request.method, params or None, **options)
        except TypeError:
            return send(request.method, to_json(params), **options)

    @staticmethod
    def _related(related: RequestId | None) -> Request | None:
        """The request that a message belongs to: several clients may share an id, so the task tells which one."""
        request = None if related is None else _handled.get()
        return request if request is not None and request.id == related else None

    def _progress_of(self, pending: PendingCall) -> Callable[[Progress], None]:
        deliver = self.receiver.deliver_progress

        def push(update: Progress) -> None:
            deliver(pending, update.progress, update.total, update.message)

        return push

    async def notify(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        opts: CallOptions | None,  # noqa: ARG002 - what it says of notifications is for HTTP
        related: RequestId | None,
    ) -> None:
        """Send a notification.

        Progress and cancels go the way of `ctx.progress()` and of a cancelled call, so that they are on record and
        never come after the end: they are dropped where nothing in flight is meant (CAN-05, PRG-10).
        """
        if method == "notifications/progress":
            self._report(params or {})
            return
        if method == "notifications/cancelled":
            self._cancel(params or {})
            return
        await self.peer.link.wait_writable()
        during = self._related(related)
        try:
            try:
                self.peer.notify(method, params, during=during)
            except TypeError:
                self.peer.notify(method, to_json(params), during=during)
        except ConnectionClosed:
            logger.debug("dropped %s: dispatcher closed", escaped(method))

    def _report(self, params: Mapping[str, Any]) -> None:
        """Take progress that was written by hand: sent if a request that is handled has its token (PRG-10)."""
        token = params.get("progressToken")
        request = self.reporting.get(token)
        if self.peer.transport == "http":
            # Clients that share a connection may use the same token: the task tells whose it is.
            request = _handled.get()
            if request is not None and request.progress_token != token:
                request = None
        if request is None:
            logger.debug("dropped progress: no request that is handled has this token")
            return
        request.progress(params["progress"], params.get("total"), params.get("message"))

    def _cancel(self, params: Mapping[str, Any]) -> None:
        """Take a cancel that was written by hand: what it names is cancelled, if it is in flight (CAN-05)."""
        call = self._in_flight.get(params.get("requestId"))  # type: ignore[arg-type]
        if call is None:
            logger.debug("dropped a cancel: no request of ours that is in flight has this id")
            return
        call.cancel(params.get("reason"))

    # ---- the end ----

    def connection_lost(self) -> None:
        """The channel ended, or was closed."""
        self.receiver.channel_ended()
        if not self._over.done():
            self._over.set_result(None)

    def end(self, outcome: Outcome) -> None:
        """End everything in flight, and the connection with it."""
        if not self.peer.connection.is_over:
            self.peer.connection.flush()
            self.peer.connection.end(outcome)


def _answer(call: Call, method: str) -> dict[str, Any] | ErrorData:
    """What a call came to, as the SDK's callers expect it; raises where the end is ours."""
    try:
        result: dict[str, Any] = call.result()
    except RemoteError as error:
        # A code that no int holds is none that the SDK has.
        code = error.code if isinstance(error.code, int) else INTERNAL_ERROR
        return ErrorData(code=code, message=error.message, data=error.data)
    except InvalidResponse:
        return ErrorData(code=INTERNAL_ERROR, message="the peer's answer breaks the protocol")
    except CallTimedOut:
        raise TimedOut(REQUEST_TIMEOUT, f"Request {method!r} timed out") from None
    except (PeerLost, CallCancelled):
        raise Lost(CONNECTION_CLOSED, "Connection closed") from None
    if type(result) is not dict:
        return ErrorData(code=INTERNAL_ERROR, message="the peer answered with a result that is no object")
    return result
