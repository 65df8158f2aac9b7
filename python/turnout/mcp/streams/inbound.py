"""Inbound: handlers of the peer's requests and notifications, started, answered and joined at the end."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias

import anyio
from mcp.shared.jsonrpc_dispatcher import TransportT, handler_exception_to_error_data
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ErrorData,
    JSONRPCRequest,
    JSONRPCResponse,
)

from turnout.escape import quoted
from turnout.mcp.context import Context
from turnout.mcp.errors import said_by
from turnout.mcp.streams.outbound import GONE, StreamOutbound

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Coroutine, Mapping

    from anyio.abc import TaskGroup
    from mcp.shared._stream_protocols import WriteStream
    from mcp.shared.dispatcher import OnNotify, OnRequest
    from mcp.shared.message import SessionMessage
    from mcp_types import RequestId

    from turnout._native import Flights

    How = Literal["result", "error", "stopped"]

# The SDK's own, so that those who listen on it go on hearing.
logger = logging.getLogger("mcp.shared.jsonrpc_dispatcher")

SHUTDOWN_WRITE_TIMEOUT = 1.0


class BackgroundTask:
    """Short work beside the handlers: a callback, an error response."""

    __slots__ = ("scope",)

    def __init__(self, scope: anyio.CancelScope) -> None:
        self.scope = scope

    def stop(self) -> None:
        """The connection ends."""
        self.scope.cancel()

    async def run(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        """Run the function inside this scope."""
        with self.scope:
            await function(*arguments)


Work: TypeAlias = "Context[Any] | BackgroundTask"


class StreamInbound(StreamOutbound, Generic[TransportT]):
    """The inbound half of a dispatcher: handles the peer's requests and notifications.

    Args:
        flights: what is in flight.
        write_stream: messages for the peer.
        strict: as for `Dispatcher`.
        raises: as `raise_handler_exceptions` there.

    """

    def __init__(
        self,
        flights: Flights,
        write_stream: WriteStream[SessionMessage],
        *,
        strict: bool | None,
        raises: bool,
    ) -> None:
        super().__init__(flights, write_stream, strict=bool(strict))
        self._lenient = strict is False
        self._raises = raises
        self._max_inbound = flights.max_inbound
        self._refusals = 0
        self._counted: Counter[str] = Counter()
        self._handlers: dict[Work, asyncio.Task[None]] = {}
        self._background: dict[Work, asyncio.Task[None]] = {}
        self._make_scope: Callable[[], anyio.CancelScope] = anyio.CancelScope
        self._tasks: TaskGroup | None = None

    def _has_capacity(self) -> bool:
        """Whether another handler may be started; those count, too, whose answers the peer does not read."""
        return len(self._handlers) < self._max_inbound

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
            self._counted["replies_dropped"] += 1
            return
        self._refusals += 1
        error = ErrorData(code=code, message=message, data=data)
        self._spawn(context, self._write_refusal, request_id, error)

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
            await self._answer_error(request_id, error)
        finally:
            self._refusals -= 1

    def _start(
        self,
        ctx: Context[TransportT],
        context: contextvars.Context | None,
        handle: Callable[..., Coroutine[Any, Any, None]],
        *arguments: object,
    ) -> asyncio.Task[None]:
        """Start a handler in the context of the message's sender."""
        return self._begin(self._handlers, ctx, context, handle, ctx, *arguments)

    def _spawn(
        self,
        context: contextvars.Context | None,
        function: Callable[..., Coroutine[Any, Any, None]],
        *arguments: object,
    ) -> None:
        """Start something short of our own, which the end of the connection stops likewise."""
        background = BackgroundTask(self._make_scope())
        self._begin(self._background, background, context, background.run, function, *arguments)

    def _begin(
        self,
        running: dict[Work, asyncio.Task[None]],
        work: Work,
        context: contextvars.Context | None,
        function: Callable[..., Coroutine[Any, Any, None]],
        *arguments: object,
    ) -> asyncio.Task[None]:
        create = asyncio.get_running_loop().create_task
        coroutine = self._serve(running, work, function, *arguments)
        task = create(coroutine) if context is None else context.run(create, coroutine)
        if not task.done():
            running[work] = task
        return task

    async def _serve(
        self,
        running: dict[Work, asyncio.Task[None]],
        work: Work,
        function: Callable[..., Coroutine[Any, Any, None]],
        *arguments: object,
    ) -> None:
        """Body of a handler task; an exception that escapes it ends `run()`."""
        try:
            await function(*arguments)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if self._tasks is None:
                raise
            self._tasks.start_soon(_raise, error)
        finally:
            running.pop(work, None)

    async def _observe(
        self, ctx: Context[TransportT], on_notify: OnNotify, method: str, params: Mapping[str, Any] | None
    ) -> None:
        with ctx.scope:
            try:
                await on_notify(ctx, method, params)
            except Exception:
                logger.exception("notification handler for %s raised", quoted(method))

    def may_report(
        self, ctx: Context[TransportT], progress: float, total: float | None, message: str | None
    ) -> bool:
        """Note progress of a handler; False where the peer is not to hear of it (PRG-07, PRG-17, TRS-06)."""
        key = ctx.key
        return key is None or self._flights.report(key, ctx, progress, total, message) or self._lenient

    async def _handle(
        self, ctx: Context[TransportT], key: RequestId, message: JSONRPCRequest, on_request: OnRequest
    ) -> None:
        """Run the handler of one request, and answer unless the peer cancelled it (CAN-13)."""
        request_id = message.id
        answering = False
        failure: Exception | None = None
        how: How = "stopped"
        try:
            with ctx.scope:
                try:
                    try:
                        result = await on_request(ctx, message.method, message.params)
                        how = "result"
                    except Exception:
                        how = "error"
                        raise
                    finally:
                        # No suspension since the handler ended: no cancel can come between.
                        ctx.closed = True
                        self._flights.finish(key, ctx, how)
                    if not ctx.cancelled:
                        # From here on the answer may have left, even if the write is interrupted.
                        answering = True
                        await self._answer(
                            request_id, JSONRPCResponse(jsonrpc="2.0", id=request_id, result=result)
                        )
                except Exception as raised:
                    error = handler_exception_to_error_data(raised)
                    if error is None:
                        logger.exception("handler for %s raised", quoted(message.method))
                        error = ErrorData(code=0, message=said_by(raised))
                        failure = raised if self._raises else None
                    if not ctx.cancelled:
                        answering = True
                        await self._answer_error(request_id, error)
        except asyncio.CancelledError:
            # Nobody here asked for it: the handler raised it, or its task was cancelled by others.
            if not ctx.cancelled and not answering:
                await self._answer_lost(request_id)
            raise
        if ctx.stopping and not ctx.cancelled and not answering:
            await self._answer_lost(request_id)
        elif not answering:
            await _unanswered(ctx)
        if failure is not None:
            raise failure

    async def _answer_lost(self, request_id: RequestId) -> None:
        lost = ErrorData(code=CONNECTION_CLOSED, message="Connection closed")
        await self._last_write(
            self._answer_error(request_id, lost),
            shield=True,
            timeout=SHUTDOWN_WRITE_TIMEOUT,
            what=f"shutdown error response for request {quoted(request_id)}",
        )

    def _stop_handlers(self, tasks: TaskGroup) -> None:
        """Stop every handler and errand; the task group waits until the last one has ended."""
        at_work = (*self._handlers, *self._background)
        if at_work:
            tasks.start_soon(self._join)
            for work in at_work:
                work.stop()

    async def _join(self) -> None:
        with anyio.CancelScope(shield=True):
            while at_work := {**self._handlers, **self._background}:
                await asyncio.wait(at_work.values())
                for work in [work for work, task in at_work.items() if task.done()]:
                    self._discard(work)

    def _discard(self, work: Work) -> None:
        """Forget what is over, also where it was cancelled before it began."""
        self._background.pop(work, None)
        if self._handlers.pop(work, None) is not None and isinstance(work, Context) and work.key is not None:
            self._flights.finish(work.key, work, "stopped")


async def _raise(error: BaseException) -> None:
    raise error


async def _unanswered(ctx: Context[Any]) -> None:
    """Tell the transport that a request ended without an answer: its wire may have to end it all the same."""
    metadata = ctx.message_metadata
    if not isinstance(metadata, ServerMessageMetadata) or metadata.on_request_unanswered is None:
        return
    try:
        await metadata.on_request_unanswered()
    except GONE:
        logger.debug("on_request_unanswered dropped: connection closing")
    except Exception:
        logger.exception("on_request_unanswered hook raised")
