"""A small server of HTTP/1.1 for a few people who look: h11 reads and writes it, this has sockets and bounds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, urlsplit

import h11

from turnout.escape import escaped
from turnout.raised import EXITS
from turnout.transports.accepting import Acceptor, most_descriptors
from turnout.transports.sockets import naming

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Awaitable, Callable

    from turnout.transports.places import Place

LOGGER = logging.getLogger("turnout.control")

MAX_CONNECTIONS = 64
"""Connections at once; whoever comes beyond them takes the place of one that asks nothing, or is turned away."""

MAX_HEAD_BYTES = 16 << 10
"""Bytes of a request's head."""

MAX_BODY_BYTES = 64 << 10
"""Bytes of a request's body."""

MAX_FIELDS = 64
"""Parameters of a query."""

REQUEST_SECONDS = 10.0
"""Seconds for a request to come whole."""

IDLE_SECONDS = 60.0
"""Seconds between two requests of a connection."""

WRITE_SECONDS = 30.0
"""Seconds for a peer to take what is written; who takes nothing for so long is gone."""

READ_BYTES = 32 << 10


@dataclass(frozen=True)
class Request:
    """A request, read whole.

    Attributes:
        method: such as `"GET"`.
        path: without the query.
        query: its parameters; of two with one name the last.
        headers: by their names in lower case; of two with one name the last.
        body: what came with it.

    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""


class Parts(Protocol):
    """What an answer goes on to say: an iterator that is closed when its client goes."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Itself."""

    async def __anext__(self) -> bytes:
        """The next part."""

    async def aclose(self) -> None:
        """Say no more."""


@dataclass(frozen=True)
class Response:
    """An answer.

    Attributes:
        status: of HTTP's.
        body: what it says.
        kind: of the body: its `Content-Type`.
        headers: others.
        stream: what it goes on to say in the place of a body, until it ends or the client goes; None for nothing.

    """

    status: int
    body: bytes = b""
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    stream: Parts | None = field(default=None, compare=False)


if TYPE_CHECKING:
    Answer = Callable[[Request], Awaitable[Response]]


class RefusedError(Exception):
    """A request that is answered with a status, and by which the connection ends."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class HttpServer:
    """Serves requests at one place, from `start` to `close`.

    Args:
        place: where.
        answer: answers each.

    """

    def __init__(self, place: Place, answer: Answer) -> None:
        self.place = place
        self._answer = answer
        self._acceptor: Acceptor | None = None
        self._serving: dict[asyncio.Task[None], Exchange | None] = {}

    async def start(self) -> None:
        """Serve from now on.

        Raises:
            OSError: the address is in use or not ours.

        """
        loop = asyncio.get_running_loop()
        with naming(self.place.name):
            sockets = await self.place.bind(loop)

        def accepted(connection: socket.socket) -> None:
            is_full = len(self._serving) >= MAX_CONNECTIONS
            if connection.fileno() >= most_descriptors() or (is_full and not self._make_room()):
                connection.close()
                return
            task = loop.create_task(self._serve(connection))
            self._serving[task] = None
            task.add_done_callback(self._serving.pop)

        self._acceptor = Acceptor(loop, sockets, self.place.name, accepted)
        self._acceptor.start()

    async def close(self) -> None:
        """Serve no more: whoever is connected is let go at once."""
        acceptor, self._acceptor = self._acceptor, None
        if acceptor is None:
            return
        acceptor.close()
        self.place.release()
        tasks = tuple(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> bool:
        """Let the connection go that asks nothing for longest; False where all of them ask."""
        for task, exchange in self._serving.items():
            if exchange is not None and exchange.is_idle:
                exchange.is_idle = False
                task.cancel()
                return True
        return False

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError:
            connection.close()
            return
        try:
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                exchange = Exchange(reader, writer, self._answer)
                task = asyncio.current_task()
                if task is not None:
                    self._serving[task] = exchange
                await exchange.run()
        except EXITS:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one viewer does, the others are served
            LOGGER.warning("a request was not answered: %s: %s", type(error).__name__, escaped(str(error)))
        finally:
            transport.abort()
            if self._acceptor is not None:
                self._acceptor.descriptor_freed()


class Exchange:
    """The requests of one connection, one after the other.

    Args:
        reader: of its bytes.
        writer: likewise.
        answer: answers each.

    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self.is_idle = False
        """Whether the head of a request is waited for."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def run(self) -> None:
        """Answer until either side ends it.

        Raises:
            OSError: the client is gone.
            asyncio.TimeoutError: it is too slow.

        """
        while self._http.our_state is h11.IDLE:
            try:
                self.is_idle = True
                first = await asyncio.wait_for(self._next(), IDLE_SECONDS)
                self.is_idle = False
                if not isinstance(first, h11.Request):
                    return
                request = await asyncio.wait_for(self._request(first), REQUEST_SECONDS)
            except h11.RemoteProtocolError as error:
                await self._respond(Response(error.error_status_hint, kind="text/plain"), head=False)
                return
            except RefusedError as error:
                await self._respond(Response(error.status, kind="text/plain"), head=False)
                return
            response = await self._answer(request)
            await self._respond(response, head=request.method == "HEAD")
            if self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                self._http.start_next_cycle()

    async def _next(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(READ_BYTES))
        return event  # type: ignore[return-value]

    async def _request(self, head: h11.Request) -> Request:
        body = bytearray()
        while isinstance(event := await self._next(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise RefusedError(413)
        try:
            target = urlsplit(head.target.decode("ascii"))
            query = dict(parse_qsl(target.query, keep_blank_values=True, max_num_fields=MAX_FIELDS))
        except ValueError as error:
            raise RefusedError(400) from error
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        return Request(head.method.decode("ascii"), target.path, query, headers, bytes(body))

    async def _respond(self, response: Response, *, head: bool) -> None:
        """Write an answer; `head` leaves its body out."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return
        headers = [
            ("Content-Type", response.kind),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *response.headers,
        ]
        if response.stream is None:
            headers.append(("Content-Length", str(len(response.body))))
        data = self._http.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if response.stream is None:
            if not head:
                data += self._http.send(h11.Data(data=response.body)) or b""
            await self._write(data + (self._http.send(h11.EndOfMessage()) or b""))
            return
        async with contextlib.aclosing(response.stream) as parts:
            await self._write(data)
            await self._follow(parts)
        await self._write(self._http.send(h11.EndOfMessage()) or b"")

    async def _follow(self, parts: Parts) -> None:
        """Write a stream, and end it when the client goes, who has nothing more to say meanwhile."""
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            while True:
                part = asyncio.ensure_future(parts.__anext__())
                try:
                    await asyncio.wait({part, gone}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    # It has to have left the stream before that is closed. Up to 3.11 `wait_for` may swallow a cancel.
                    while not part.done():
                        part.cancel()
                        await asyncio.wait({part}, timeout=0.1)
                if gone.done():
                    raise ConnectionResetError
                try:
                    data = part.result()
                except StopAsyncIteration:
                    return
                await self._write(self._http.send(h11.Data(data=data)) or b"")
        finally:
            gone.cancel()

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await asyncio.wait_for(self._writer.drain(), WRITE_SECONDS)


__all__ = ["HttpServer", "Request", "Response"]
