"""The SDK's `Dispatcher` on a turnout peer: from bytes to the typed layer, with nothing in between.

Frames are read, matched and written by the native part; what reaches Python is a request to handle, a
notification to look at, or the decoded result of a call. No `SessionMessage`, no model of a frame, no stream.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections import deque
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pydantic_core
from mcp.shared import dispatcher as sdk
from mcp.shared.dispatcher import run_notify_intercept
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher, handler_exception_to_error_data
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_PARAMS, REQUEST_TIMEOUT, ErrorData

from turnout._native import Notification, Refused, Request
from turnout.errors import (
    CallCancelled,
    CallTimedOut,
    ConnectionClosed,
    Error,
    InvalidResponse,
    PeerLost,
    RemoteError,
)
from turnout.mcp import tracing
from turnout.mcp.context import Context
from turnout.mcp.errors import Lost, TimedOut
from turnout.mcp.installation import TESTED
from turnout.mcp.library import on_asyncio
from turnout.mcp.waiting import Waiting
from turnout.opening import LEGACY
from turnout.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from anyio.abc import TaskStatus
    from mcp.shared.dispatcher import CallOptions, OnNotify, OnNotifyIntercept, OnRequest
    from mcp_types import RequestId

    from turnout._native import Call, Progress
    from turnout.handlers import Event
    from turnout.router import Router

# The SDK's own, so that those who listen on it go on hearing.
logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

DUPLEX = TransportContext(kind="jsonrpc", can_send_request=True)

# Everything is handed over, after the tables acted on it.
ALL_NOTIFICATIONS = {"*", "notifications/progress", "notifications/cancelled"}

# Notifications that wait, and their handlers that are at work, where `max_inbound` does not say otherwise.
MOST = 1 << 17

EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class SessionPeer(Peer):
    """A peer whose requests and notifications the SDK handles."""

    def __init__(self, router: Router, name: str, transport: str) -> None:
        super().__init__(router, name, transport)
        # What a host may decide otherwise than the protocol, the SDK decides.
        self.choose(progress_must_increase=False, cancel_discover=True, answer_ping=False)
        self.set_timeouts(None, None)
        self.observe(ALL_NOTIFICATIONS)
        self.session: NativeDispatcher | None = None
        self._room: asyncio.Future[None] | None = None

    def _dispatch(self, delivery: Request | Notification | Event) -> None:
        if self.session is not None:
            self.session.take(delivery)

    def _apply_handlers(self) -> None:
        """Leave everything to the SDK: a router's own handlers have no part in it."""

    def _gone(self) -> None:
        super()._gone()
        self.resume_writing()
        if self.session is not None:
            self.session.over()

    def pause_writing(self) -> None:
        """The transport is full."""
        super().pause_writing()
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """The transport takes more."""
        super().resume_writing()
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    async def wait_writable(self) -> None:
        """Wait while the transport is full."""
        while self._room is not None:
            await asyncio.shield(self._room)


class RequestContext(Context[TransportContext]):
    """The SDK's `DispatchContext` of a request on a turnout peer."""

    __slots__ = ("_request",)

    def __init__(self, dispatcher: NativeDispatcher, request: Request) -> None:
        super().__init__(dispatcher, DUPLEX, None, dispatcher.make_scope(), _plain_id(request.id))  # type: ignore[arg-type]
        self._request = request

    def take_cancel(self, reason: str | None) -> None:  # noqa: ARG002
        """Take the peer's cancel, or the end of the connection (CAN-11, CAN-13)."""
        self.cancel(interrupt=True)

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Report progress, if the peer asked for it (PRG-05)."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._request.progress(progress, total, message)


class NativeDispatcher(sdk.Dispatcher[TransportContext]):
    """The SDK's `Dispatcher` on a turnout peer; made by `open_dispatcher` and the `serve_` functions.

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
        self._raises = raise_handler_exceptions
        self._inline_methods = inline_methods
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._most = (peer.router.limits or {}).get("max_inbound", MOST)
        # The scopes of asyncio's backend, which anyio would look for at every request; it finds them in tasks only.
        self.make_scope: type[anyio.CancelScope] = anyio.CancelScope
        self._handlers: set[RequestContext] = set()
        # What a notification that is written by hand can be about: our calls, and requests that want progress.
        self._calls: dict[RequestId, Call] = {}
        self._reporting: dict[Any, Request] = {}
        self._observers: dict[asyncio.Task[None], anyio.CancelScope] = {}
        self._beginning = 0
        self._running = self._closed = False
        # What came before `run()`, or while a request of `inline_methods` is handled.
        self._held: deque[Request | Notification | Event] = deque()
        self._holds = True
        self._on_request: OnRequest
        self._on_notify: OnNotify
        self._intercept: OnNotifyIntercept | None = None
        peer.session = self

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
            return await self._exchange(method, params, opts or {})
        meta = dict((params or {}).get("_meta") or {})
        with tracing.request_span(method, None, dict(params or {}), meta) as span:
            sent = {**(params or {}), "_meta": meta}
            try:
                return await self._exchange(method, sent, opts or {}, span)
            except MCPError as error:
                if span is not None and not isinstance(error, Lost | TimedOut):
                    tracing.failed(span, error.error)
                raise

    async def _exchange(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions, span: Any = None
    ) -> dict[str, Any]:
        """Send a request and wait until it ended, and until its progress was told."""
        on_progress = opts.get("on_progress")
        waiting = None
        if on_progress is not None:
            waiting = Waiting(self._loop, on_progress, late_updates=True)
        try:
            call = self._send(method, params, opts, waiting)
        except ConnectionClosed:
            raise Lost(CONNECTION_CLOSED, "Connection closed") from None
        if span is not None:
            span.set_attribute("jsonrpc.request.id", str(call.id))
        self._calls[call.id] = call
        try:
            await call.wait_ended()
        except asyncio.CancelledError:
            call.cancel("caller cancelled")
            raise
        finally:
            del self._calls[call.id]
        if self._beginning:
            # Notifications before the answer are looked at before it is (in the order in which they came).
            await asyncio.sleep(0)
        try:
            result: dict[str, Any] = call.result()
        except Error as error:
            raise _of_the_sdk(error, method) from None
        if type(result) is not dict:
            raise MCPError(INTERNAL_ERROR, "the peer answered with a result that is no object")
        if waiting is not None:
            waiting.settle(result)
            await waiting.future
        if method == "initialize":
            self._note_revision(result)
        return result

    def _send(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions, waiting: Waiting | None
    ) -> Call:
        options: dict[str, Any] = {"timeout": None, "max_timeout": opts.get("timeout"), "progress": False}
        if not opts.get("cancel_on_abandon", True):
            options["tell"] = False
        if (chosen := opts.get("request_id")) is not None:
            options["request_id"] = chosen
        if params and "_meta" in params:
            params = _with_plain_meta(params, asks_progress=waiting is not None)
        if waiting is not None:
            options["progress"] = True
            options["on_progress"] = self._progress_of(waiting)
        send = self.peer.send
        try:
            return send(method, params or None, **options)
        except TypeError:
            # What orjson does not take (an integer beyond 64 bits, a type of pydantic's) its own encoder may.
            return send(method, pydantic_core.to_json(params), **options)

    def _progress_of(self, waiting: Waiting) -> Callable[[Progress], None]:
        def take(update: Progress) -> None:
            if waiting.push(update.progress, update.total, update.message):
                self._spawn(waiting.deliver(), None)

        return take

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
            self._report(params or {})
            return
        if method == "notifications/cancelled":
            self._cancel(params or {})
            return
        await self.peer.wait_writable()
        try:
            try:
                self.peer.notify(method, params)
            except TypeError:
                self.peer.notify(method, pydantic_core.to_json(params))
        except ConnectionClosed:
            logger.debug("dropped %s: dispatcher closed", method)

    def _report(self, params: Mapping[str, Any]) -> None:
        request = self._reporting.get(params.get("progressToken"))
        if request is None:
            logger.debug("dropped progress: no request that is handled has this token")
            return
        request.progress(params["progress"], params.get("total"), params.get("message"))

    def _cancel(self, params: Mapping[str, Any]) -> None:
        call = self._calls.get(params.get("requestId"))  # type: ignore[arg-type]
        if call is None:
            logger.debug("dropped a cancel: no request of ours that is in flight has this id")
            return
        call.cancel(params.get("reason"))

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
        self._on_request, self._on_notify, self._intercept = on_request, on_notify, on_notify_intercept
        self.make_scope = type(anyio.CancelScope())
        self._running = not self._over.done()
        self._closed = not self._running
        task_status.started()
        try:
            self._release()
            await self._over
        finally:
            await self._finish()

    def over(self) -> None:
        """The channel ended, or was closed."""
        self._closed, self._running = True, False
        if not self._over.done():
            self._over.set_result(None)

    def take(self, delivery: Request | Notification | Event) -> None:
        """Take what came, in the order in which it came."""
        if not self._holds:
            self._act(delivery)
        elif isinstance(delivery, Request) or len(self._held) < self._most:
            self._held.append(delivery)
        else:
            logger.warning("dropped a notification: %d wait already", self._most)

    def _release(self) -> None:
        self._holds = False
        while self._held and not self._holds:
            self._act(self._held.popleft())

    def _act(self, delivery: Request | Notification | Event) -> None:
        if isinstance(delivery, Request):
            self._holds = delivery.method in self._inline_methods
            self.peer.start_handler(delivery, self._serve, True)
        elif isinstance(delivery, Notification):
            self._take_notification(delivery)
        elif isinstance(delivery, Refused):
            logger.debug("refused a frame: %s", delivery.message)
            if self.on_stream_exception is not None and self._has_room():
                self._spawn(self._tell_of(ValueError(f"refused a frame: {delivery.message}")), None)
        else:
            logger.debug("dropping %r", delivery)

    def _take_notification(self, notification: Notification) -> None:
        method = notification.method
        try:
            params = notification.params
        except ValueError:
            params = ()
        if params is not None and type(params) is not dict:
            logger.debug("dropped %r: its params are no object", method)
            return
        if run_notify_intercept(self._intercept, method, params):
            return
        if self._has_room():
            ctx = Context(self, DUPLEX, None, self.make_scope())  # type: ignore[arg-type]
            self._beginning += 1
            self._spawn(self._observe(ctx, method, params), ctx.scope)

    def _has_room(self) -> bool:
        if len(self._observers) < self._most:
            return True
        logger.warning("dropped a notification: %d handlers are at work", self._most)
        return False

    async def _observe(
        self, ctx: Context[TransportContext], method: str, params: Mapping[str, Any] | None
    ) -> None:
        self._beginning -= 1
        with ctx.scope:
            try:
                await self._on_notify(ctx, method, params)
            except Exception:
                logger.exception("notification handler for %r raised", method)

    async def _tell_of(self, error: Exception) -> None:
        try:
            if self.on_stream_exception is not None:
                await self.on_stream_exception(error)
        except Exception:
            logger.exception("on_stream_exception observer raised")

    def _spawn(self, coroutine: Coroutine[Any, Any, None], scope: anyio.CancelScope | None) -> None:
        task = asyncio.Task(coroutine, loop=self._loop, **EAGER)
        if not task.done():
            self._observers[task] = scope or self.make_scope()
            task.add_done_callback(self._observers.__delitem__)

    # ---- handlers ----

    async def _serve(self, request: Request) -> None:
        """Run the handler of one request, and answer unless the peer cancelled it (CAN-13)."""
        ctx = RequestContext(self, request)
        request.on_cancel(ctx.take_cancel)
        self._handlers.add(ctx)
        method, token = request.method, request.progress_token
        if token is not None:
            self._reporting[token] = request
        try:
            with ctx.scope:
                try:
                    result = await self._on_request(ctx, method, _object(request.params))
                    ctx.closed = True
                    self._answer(request, result)
                except Exception as raised:  # noqa: BLE001 - whatever a handler raises is answered
                    ctx.closed = True
                    self._answer_failure(request, raised)
            if ctx.stopping:
                request.fail(CONNECTION_CLOSED, "Connection closed")
            if ctx.cancelled:
                request.stopped()
        finally:
            ctx.closed = True
            self._handlers.discard(ctx)
            if token is not None and self._reporting.get(token) is request:
                del self._reporting[token]
            if method in self._inline_methods:
                self._loop.call_soon(self._release)

    def _answer(self, request: Request, result: dict[str, Any]) -> None:
        if request.method == "initialize":
            self._note_revision(result)
        try:
            request.respond(result)
        except TypeError:
            request.respond(pydantic_core.to_json(result))

    def _answer_failure(self, request: Request, raised: Exception) -> None:
        error = handler_exception_to_error_data(raised)
        if error is None:
            logger.error("handler for %r raised", request.method, exc_info=raised)
            error = ErrorData(code=0, message=str(raised))
            if self._raises and not self._over.done():
                self._over.set_exception(raised)
        try:
            request.fail(error.code, error.message, error.data)
        except TypeError:
            request.fail(error.code, error.message, pydantic_core.to_json(error.data))

    def _note_revision(self, result: Mapping[str, Any]) -> None:
        """Keep to what was negotiated; under a modern revision the SDK itself does."""
        revision = result.get("protocolVersion")
        if revision in LEGACY:
            self.peer.set_rules(revision, "either")

    # ---- the end ----

    async def _finish(self) -> None:
        """Stop what is at work, within the router's bound, and end what is in flight."""
        self._closed, self._running = True, False
        for held in self._held:
            if isinstance(held, Request):
                held.fail(CONNECTION_CLOSED, "Connection closed")
        self._held.clear()
        self._holds = False
        for ctx in tuple(self._handlers):
            ctx.stop()
        for scope in self._observers.values():
            scope.cancel()
        tasks = [*self.peer.handler_tasks(), *self._observers]
        if tasks:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(tasks, timeout=self.peer.router.close_timeout)
        if not self.peer.is_over:
            self.peer.flush()
            self.peer.end("closed")


JSONRPCDispatcher.register(NativeDispatcher)


def check_library() -> None:
    """Refuse to start where turnout's transports cannot run, and warn where nobody has tried.

    Raises:
        RuntimeError: the event loop is not asyncio's.

    """
    if (found := version("mcp")) not in TESTED:
        warnings.warn(
            f"turnout.mcp is tested with mcp {', '.join(TESTED)}, not with {found}",
            RuntimeWarning,
            stacklevel=3,
        )
    if not on_asyncio():
        raise RuntimeError(
            "turnout's transports run on asyncio; on trio use the SDK's stdio_client and stdio_server"
        )


def _of_the_sdk(error: Error, method: str) -> Exception:
    """What the SDK's callers expect in place of an error of ours."""
    if isinstance(error, RemoteError):
        return MCPError(code=error.code, message=error.message, data=error.data)
    if isinstance(error, CallTimedOut):
        return TimedOut(REQUEST_TIMEOUT, f"Request {method!r} timed out")
    if isinstance(error, PeerLost | CallCancelled):
        return Lost(CONNECTION_CLOSED, "Connection closed")
    if isinstance(error, InvalidResponse):
        return MCPError(INTERNAL_ERROR, "the peer's answer breaks the protocol")
    return error


def _object(params: Any) -> dict[str, Any] | None:
    """Params as the SDK takes them: by name, or none."""
    if params is None or type(params) is dict:
        return params
    raise MCPError(INVALID_PARAMS, "params must be an object")


def _with_plain_meta(params: Mapping[str, Any], *, asks_progress: bool) -> Mapping[str, Any]:
    """Leave out an empty `_meta`, and a token that ours takes the place of."""
    meta = params["_meta"]
    if meta and not (asks_progress and "progressToken" in meta):
        return params
    kept = {key: value for key, value in (meta or {}).items() if key != "progressToken"}
    rest = {key: value for key, value in params.items() if key != "_meta"}
    return {**rest, "_meta": kept} if kept else rest


def _plain_id(request_id: int | str | bytes) -> int | str:
    """An id as the SDK has it; a number that is no 64-bit integer becomes an int of Python's, or a str."""
    if not isinstance(request_id, bytes):
        return request_id
    text = request_id.decode("utf-8", "replace")
    return int(text) if text.lstrip("-").isdigit() else text
