"""Serves Streamable HTTP within an application server: an ASGI 3 callable, mounted or alone."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeAlias

from turnout._native import HttpExchange
from turnout.transports.http.endpoint import EndpointHost
from turnout.transports.http.listener import COMMENT_INTERVAL, HEAD_INTERVAL, TICK
from turnout.transports.places import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from typing_extensions import Unpack

    from turnout._native import HttpEndpoint
    from turnout.transports.channel import Accept
    from turnout.transports.http.options import HttpOptions

    Message: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]


QUICK = 2
"""Turns of the loop in which nobody looks whether the client goes: most answers are there by then, without a task."""


class AsgiEndpoint:
    """An endpoint within an application server; made by `turnout.asgi` and `turnout.mcp.asgi`.

    It starts with the server's lifespan, or, as a mounted application gets none, with the first request.

    Attributes:
        path: of the endpoint.
        endpoint: the native endpoint.

    """

    kind = "http"

    def __init__(
        self,
        begin: Callable[[AsgiEndpoint], Awaitable[None]],
        end: Callable[[], Awaitable[None]] | None = None,
        **options: Unpack[HttpOptions],
    ) -> None:
        self.host = EndpointHost(**options)
        self.path = self.host.path
        self.endpoint = self.host.endpoint
        self._begin = begin
        self._end = end
        self._beginning: asyncio.Future[None] | None = None
        # What serves all requests begins here, and in the context of none of them.
        self._home = copy_context()
        self._timer: asyncio.TimerHandle | None = None
        self._open: set[_Exchange] = set()
        self._reading: dict[_Exchange, asyncio.Task[Any] | None] = {}

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    async def start(self, accept: Accept) -> None:
        """Hand sessions to `accept` from now on."""
        self.host.start(accept)
        self._tick(asyncio.get_running_loop())

    async def close(self) -> None:
        """End the sessions; what would open one is answered by 503."""
        self.endpoint.close()
        if self._timer is not None:
            self._timer.cancel()
        self.host.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:  # noqa: ARG002
        """Serve meanwhile, and end the sessions at the end: for the lifespan of an application that mounts this one.

        Args:
            app: the application that mounts it, which is not looked at.

        """
        await self._started()
        try:
            yield
        finally:
            await self._ended()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's lifespan."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._started()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._ended()
        await send({"type": "lifespan.shutdown.complete"})

    async def _started(self) -> None:
        if self._beginning is None:
            self._beginning = self._home.run(asyncio.ensure_future, self._begin(self))
        beginning = self._beginning
        try:
            await asyncio.shield(beginning)
        except Exception:
            # The next one who asks tries again.
            if self._beginning is beginning:
                self._beginning = None
            raise

    async def _ended(self) -> None:
        await self.close()
        if self._end is not None:
            await self._end()

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._beginning is None or not self._beginning.done():
            await self._started()
        client = scope.get("client")
        exchange = _Exchange(self, str(client[0]) if client else "", scope)
        native = exchange.native
        query = scope.get("query_string", b"").decode("latin-1") or None
        try:
            if native.open(scope["method"], self._path(scope), query) and not await self._read(
                exchange, receive
            ):
                return
            for turn in range(QUICK + 1):
                if turn:
                    await asyncio.sleep(0)
                for answer in native.take():
                    await send(answer)
                if native.is_done:
                    return
            await self._wait(exchange, receive, send)
        except OSError:
            # The client is gone: what was to be written is for nobody.
            return
        finally:
            native.lost()

    async def _read(self, exchange: _Exchange, receive: Receive) -> bool:
        """Read the message of a request; False where its client is gone, or too slow."""
        self._reading[exchange] = asyncio.current_task()
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return False
                exchange.has_read = True
                more = exchange.native.read(message.get("body", b""), message.get("more_body", False))
        except asyncio.CancelledError:
            if not exchange.is_overdue:
                raise
            if sys.version_info >= (3, 11) and (task := self._reading[exchange]) is not None:
                # Nobody but the endpoint meant to cancel it.
                task.uncancel()
            return False
        finally:
            del self._reading[exchange]
        return True

    def _path(self, scope: Message) -> str:
        """The path as the endpoint knows it: one that is mounted is found where it is mounted, too."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(root) and path[len(root) :] in {"", "/", self.path, self.path + "/"}:
            return self.path
        if root and path in {"", "/"}:
            return self.path
        return path

    async def _wait(self, exchange: _Exchange, receive: Receive, send: Send) -> None:
        """Write what comes, until it is all, or the client is gone."""
        watching = asyncio.ensure_future(exchange.watch(receive))
        self._open.add(exchange)
        try:
            while not exchange.native.is_done:
                await exchange.woken.wait()
                exchange.woken.clear()
                for answer in exchange.native.take():
                    exchange.is_silent = False
                    await send(answer)
        finally:
            self._open.discard(exchange)
            watching.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self.host.look(now)
        for exchange in tuple(self._open):
            exchange.look(now)
        for exchange, task in tuple(self._reading.items()):
            if exchange.is_slow(now, self.endpoint) and task is not None:
                exchange.is_overdue = True
                task.cancel()
        self._timer = loop.call_later(TICK, self._tick, loop)


class _Exchange:
    """One request and its answer."""

    def __init__(self, endpoint: AsgiEndpoint, client: str, scope: Message) -> None:
        self.woken = asyncio.Event()
        self.is_silent = False
        self._interval = HEAD_INTERVAL
        server = scope.get("server")
        self.native = HttpExchange(
            endpoint.endpoint,
            client,
            scope["headers"],
            is_local=server is not None and server[0] in LOOPBACK,
            wake=self.woken.set,
        )
        self.has_read = self.is_overdue = False
        self._since: float | None = None
        self._read_at: float | None = None

    async def watch(self, receive: Receive) -> None:
        """Take note that the client is gone."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.native.lost()
        self.woken.set()

    def is_slow(self, now: float, endpoint: HttpEndpoint) -> bool:
        """Whether its message takes too long, or nothing of it came for too long."""
        if self._since is None:
            self._since = now
        if self.has_read or self._read_at is None:
            self.has_read, self._read_at = False, now
        return (now - self._since) * 1000 >= endpoint.limit("max_body_ms") or (
            now - self._read_at
        ) * 1000 >= endpoint.limit("max_body_pause_ms")

    def look(self, now: float) -> None:
        """Send a comment where nothing was written for long."""
        if not self.is_silent or self._since is None:
            self.is_silent, self._since = True, now
        elif now - self._since >= self._interval:
            self._since, self._interval = now, COMMENT_INTERVAL
            self.native.keep_alive()


__all__ = ["AsgiEndpoint"]
