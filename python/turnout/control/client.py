"""A client of control endpoints: what `turnout top` asks."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import h11

from turnout import json
from turnout.errors import DecodeError
from turnout.escape import escaped

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

READ_BYTES = 64 << 10

MAX_ANSWER_BYTES = 64 << 20
"""Bytes of an answer, or of one event of a stream; more is no control endpoint."""

SECONDS = 10.0
"""Seconds in which an answer begins."""


class ControlError(Exception):
    """A control endpoint cannot be asked; the message is one line for the person."""


class ControlClient:
    """Asks one control endpoint; each request has a connection of its own.

    Args:
        place: the path of a Unix socket, or an http URL.
        token: what is sent as a bearer token; None for none.

    Raises:
        ControlError: the place is none.

    """

    def __init__(self, place: str, token: str | None = None) -> None:
        self.place = place
        self._token = token
        self._address: tuple[str, int] | None = None
        self._host = "localhost"
        if token is not None and re.fullmatch(r"[!-~]+", token) is None:
            raise ControlError("the token has characters that no token has")
        if "://" in place:
            try:
                url = urlsplit(place)
                host, port = url.hostname or "", url.port or 80
            except ValueError as error:
                raise ControlError(f"{escaped(place)} is no URL") from error
            if url.scheme != "http" or not host:
                raise ControlError(
                    f"{escaped(place)} is neither the path of a socket nor such as http://127.0.0.1:8643"
                )
            self._address, self._host = (host, port), url.netloc.rpartition("@")[2]

    async def get(self, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
        """Ask for something.

        Raises:
            ControlError: it is not there, or refuses.

        """
        return await self._ask("GET", path + ("?" + urlencode(query) if query else ""))

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Have something done.

        Raises:
            ControlError: as for `get`.

        """
        return await self._ask("POST", path, json.dumps(body))

    async def events(self) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """What is in flight, and then what changes, as name and data of each event, until the endpoint ends it.

        Raises:
            ControlError: as for `get`.

        """
        buffer = bytearray()
        async with contextlib.aclosing(self._parts("GET", "/turnout/events", b"")) as parts:
            async for part in parts:
                buffer += part
                if len(buffer) > MAX_ANSWER_BYTES:
                    raise ControlError(f"{escaped(self.place)} tells too much at once")
                while (end := buffer.find(b"\n\n")) >= 0:
                    event = _event(bytes(buffer[:end]))
                    del buffer[: end + 2]
                    if event is not None:
                        yield event

    async def _ask(self, method: str, target: str, body: bytes = b"") -> dict[str, Any]:
        answer = bytearray()
        async with contextlib.aclosing(self._parts(method, target, body)) as parts:
            async for part in parts:
                answer += part
                if len(answer) > MAX_ANSWER_BYTES:
                    raise ControlError(f"{escaped(self.place)} answers too much")
        return _object(bytes(answer), self.place)

    async def _parts(self, method: str, target: str, body: bytes) -> AsyncGenerator[bytes, None]:
        """The body of an answer, part by part."""
        try:
            reader, writer = await asyncio.wait_for(self._open(), SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            raise ControlError(f"{escaped(self.place)} cannot be reached: {escaped(str(error))}") from error
        http = h11.Connection(h11.CLIENT)
        headers = [("Host", self._host), ("Content-Length", str(len(body))), ("Connection", "close")]
        if body:
            headers.append(("Content-Type", "application/json"))
        if self._token is not None:
            headers.append(("Authorization", f"Bearer {self._token}"))
        try:
            request = h11.Request(method=method, target=target, headers=headers)
            writer.write((http.send(request) or b"") + (http.send(h11.Data(data=body)) or b""))
            writer.write(http.send(h11.EndOfMessage()) or b"")
            head = await asyncio.wait_for(_next(http, reader), SECONDS)
            if isinstance(head, h11.Response) and head.status_code != 200:
                raise ControlError(f"{escaped(self.place)}: {await _why(http, reader, head)}")
            while isinstance(event := await _next(http, reader), h11.Data):
                yield bytes(event.data)
        except (OSError, asyncio.TimeoutError, h11.ProtocolError) as error:
            why = str(error) or type(error).__name__
            raise ControlError(
                f"{escaped(self.place)} does not answer as expected: {escaped(why)}"
            ) from error
        finally:
            writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._address is not None:
            return await asyncio.open_connection(*self._address)
        return await asyncio.open_unix_connection(self.place)


async def _next(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Event | type[h11.PAUSED]:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(await reader.read(READ_BYTES))
    return event  # type: ignore[return-value]


async def _why(http: h11.Connection, reader: asyncio.StreamReader, head: h11.Response) -> str:
    """What a refusal says, fit for a line."""
    body = b""
    while len(body) < READ_BYTES and isinstance(event := await _next(http, reader), h11.Data):
        body += bytes(event.data)
    try:
        told = json.loads(body)
    except DecodeError:
        told = None
    why = told.get("error") if isinstance(told, dict) else None
    return escaped(f"{head.status_code}: {why}" if isinstance(why, str) else str(head.status_code))


def _event(block: bytes) -> tuple[str, dict[str, Any]] | None:
    """One event of a stream; None for a comment, and for what is no event of ours."""
    fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line)
    data = fields.get(b"data")
    if data is None:
        return None
    return fields.get(b"event", b"").decode("ascii", "replace"), _object(data, "the stream")


def _object(data: bytes, place: str) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except DecodeError as error:
        raise ControlError(f"{escaped(place)} is no control endpoint: what it says is no JSON") from error
    if not isinstance(told, dict):
        raise ControlError(f"{escaped(place)} is no control endpoint")
    return told


__all__ = ["ControlClient", "ControlError"]
