"""The server of the fleet: tools that only wait. `python -m benches.fleet.tools PATH FD`.

It notes for each call when it began, ended and was cancelled, by the machine's monotonic clock, which all
processes share. The socket FD asks for lines of JSON: `?` for how many began and how many were cancelled, `!` for
all notes, which are then forgotten.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import Any, cast

import orjson

from benches import loops
from benches.payloads import result

Note = dict[str, Any]


class Notes:
    """What happened to which call, by its owner's number."""

    def __init__(self) -> None:
        self.calls: dict[int, Note] = {}
        self._results: dict[int, bytes] = {}

    def result(self, size: int) -> bytes:
        """The members of a result of about that size, made once for sizes that are near each other."""
        near = max(150, round(size, -2 if size < 10_000 else -3))
        made = self._results.get(near)
        if made is None:
            made = self._results[near] = result(near)[1:]
        return made

    def count(self) -> list[int]:
        """How many began, and how many of them were cancelled."""
        return [len(self.calls), sum("cancelled" in note for note in self.calls.values())]

    def take(self) -> dict[int, Note]:
        """The notes so far, which are then forgotten."""
        calls, self.calls = self.calls, {}
        return calls


class Flight:
    """One call at work."""

    def __init__(self, channel: Channel, request_id: Any, params: dict[str, Any]) -> None:
        self.channel, self.id = channel, request_id
        arguments = params["arguments"]
        self.owner: int = arguments["owner"]
        self.size: int = arguments["size"]
        self.every: float = arguments["every"] / 1e3
        self.stubborn: bool = arguments["stubborn"]
        self.token = (params.get("_meta") or {}).get("progressToken")
        self.note: Note = {"began": time.monotonic(), "progress": 0}
        channel.notes.calls[self.owner] = self.note
        loop = channel.loop
        self.timer = loop.call_later(arguments["tool"] / 1e3, self.finish)
        self.ticking = loop.call_later(self.every, self.tick) if self.token is not None else None

    def tick(self) -> None:
        self.note["progress"] += 1
        message = f"{self.owner} {time.monotonic()}"
        params = {"progressToken": self.token, "progress": self.note["progress"], "message": message}
        self.channel.say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        self.ticking = self.channel.loop.call_later(self.every, self.tick)

    def finish(self) -> None:
        self.stop()
        self.note["ended"] = time.monotonic()
        head = b'{"jsonrpc":"2.0","id":%s,"result":{"owner":%d,' % (orjson.dumps(self.id), self.owner)
        self.channel.to.write(head + self.channel.notes.result(self.size) + b"}\n")

    def cancel(self) -> None:
        self.note["cancelled"] = time.monotonic()
        if not self.stubborn:
            self.stop()

    def stop(self) -> None:
        self.channel.flights.discard(self)
        if self.channel.by_id.get(self.id) is self:
            del self.channel.by_id[self.id]
        self.timer.cancel()
        if self.ticking is not None:
            self.ticking.cancel()


class Channel(asyncio.Protocol):
    """One connection."""

    to: asyncio.WriteTransport

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.loop = asyncio.get_running_loop()
        self.flights: set[Flight] = set()
        self.by_id: dict[Any, Flight] = {}
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.to = cast("asyncio.WriteTransport", transport)  # uvloop has no such classes

    def say(self, message: dict[str, Any]) -> None:
        self.to.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = orjson.loads(line)
            params = message.get("params")
            if message["method"] == "tools/call":
                # Where ids come twice, as without a relay, the older call is not found by a cancel any more.
                flight = self.by_id[message["id"]] = Flight(self, message["id"], params)
                self.flights.add(flight)
            elif message["method"] == "notifications/cancelled":
                found = self.by_id.get(params["requestId"])
                if found is not None:
                    found.cancel()

    def connection_lost(self, _: Exception | None) -> None:
        for flight in list(self.flights):
            flight.cancel()
            flight.stop()


async def serve(path: str, fd: int) -> None:
    """Serve until cancelled."""
    notes, loop = Notes(), asyncio.get_running_loop()
    asking = socket.socket(fileno=fd)

    def tell() -> None:
        question = asking.recv(1)
        if question:
            answer = notes.take() if question == b"!" else notes.count()
            asking.setblocking(True)  # the loop has its own idea of sockets
            asking.sendall(json.dumps(answer).encode() + b"\n")
        else:
            loop.remove_reader(fd)

    loop.add_reader(fd, tell)
    server = await loop.create_unix_server(lambda: Channel(notes), path, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    loops.run(serve(sys.argv[1], int(sys.argv[2])), "uvloop")
