"""The clients of the fleet: they ask as the plan says, and look at whatever comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson

from benches.fleet.plan import CLIENTS, SLOW, id_for

if TYPE_CHECKING:
    from benches.fleet.plan import Call, How, Plan

DRAIN = 6.0
"""Seconds for what is in flight when the plan is over."""
READ_EVERY = 4.0
"""Seconds between two reads of a slow client: some 64 KB a second, of 256 KB that it asked for."""


@dataclass
class Seen:
    """What a client knows of one call."""

    call: Call
    id: int | str
    asked: float
    answered: float | None = None
    cancelled: float | None = None
    how: How | None = None
    progress: int = 0
    last: int = 0
    delays: list[float] = field(default_factory=list)
    after_end: int = 0


@dataclass
class Account:
    """Of all clients."""

    seen: dict[int, Seen] = field(default_factory=dict)
    crossed: int = 0
    """Payloads that were another's, or under another id or token; and progress that did not grow."""


class Client(asyncio.Protocol):
    """One connection of one client."""

    to: asyncio.Transport

    def __init__(self, number: int, account: Account) -> None:
        self.number, self._account = number, account
        self._rest = b""
        self._open: dict[int, Seen] = {}
        self._slow = number < SLOW

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.to = cast("asyncio.Transport", transport)  # uvloop has no such classes

    def ask(self, call: Call) -> None:
        request_id = id_for(self.number, call.owner)
        arguments = {
            "owner": call.owner,
            "tool": call.tool,
            "size": call.size,
            "every": call.every,
            "stubborn": call.stubborn,
        }
        params: dict[str, Any] = {"name": "work", "arguments": arguments}
        if call.every:
            params["_meta"] = {"progressToken": call.owner}
        seen = Seen(call, request_id, time.monotonic())
        self._open[call.owner] = self._account.seen[call.owner] = seen
        self._say({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params})

    def cancel(self, owner: int) -> None:
        seen = self._open.get(owner)
        if seen is None or seen.answered is not None:
            return
        seen.cancelled, seen.how = time.monotonic(), "notification"
        params = {"requestId": seen.id, "reason": "enough"}
        self._say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    def leave(self) -> None:
        """End the connection with whatever is in flight on it."""
        now = time.monotonic()
        self.to.abort()
        for seen in self._open.values():
            if seen.answered is None and seen.cancelled is None:
                seen.cancelled, seen.how = now, "disconnect"

    def data_received(self, data: bytes) -> None:
        if self._slow:
            self.to.pause_reading()
            asyncio.get_running_loop().call_later(READ_EVERY, self._read_on)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            message = orjson.loads(line)
            if "method" in message:
                self._take_progress(message["params"])
            else:
                self._take_answer(message)

    def hurry(self) -> None:
        """Be slow no longer."""
        self._slow = False
        self._read_on()

    def _read_on(self) -> None:
        if not self.to.is_closing():
            self.to.resume_reading()

    def _take_answer(self, message: dict[str, Any]) -> None:
        if "result" not in message:
            return
        seen = self._open.get(message["result"]["owner"])
        if seen is None or seen.id != message["id"] or seen.answered is not None:
            self._account.crossed += 1
            return
        seen.answered = time.monotonic()

    def _take_progress(self, params: dict[str, Any]) -> None:
        owner, said = params["message"].split(" ")
        seen = self._open.get(params["progressToken"])
        if seen is None or seen.call.owner != int(owner) or params["progress"] <= seen.last:
            self._account.crossed += 1
            return
        seen.last = params["progress"]
        seen.progress += 1
        seen.after_end += seen.answered is not None
        seen.delays.append(time.monotonic() - float(said))

    def _say(self, message: dict[str, Any]) -> None:
        if not self.to.is_closing():
            self.to.write(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))


class Fleet:
    """All clients, connected to one socket."""

    def __init__(self, path: str, account: Account) -> None:
        self._path, self.account = path, account
        self.clients: list[Client] = []

    async def connect(self) -> None:
        for number in range(CLIENTS):
            self.clients.append(await self._connect(number))

    async def _connect(self, number: int) -> Client:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(BlockingIOError):  # more come at once than the listener lets wait
                return (await loop.create_unix_connection(lambda: Client(number, self.account), self._path))[
                    1
                ]
            await asyncio.sleep(0.01)

    async def play(self, plan: Plan) -> None:
        """Do what the plan says, when it says so, and wait for what is left."""
        loop = asyncio.get_running_loop()
        asked_by: dict[int, Client] = {}
        steps: list[tuple[float, int, Any]] = []
        for call in plan.calls:
            steps.append((call.at, 0, call))
            if call.cancel is not None:
                steps.append((call.cancel, 1, call))
        steps += [(at, 2, number) for at, number in plan.departures]
        start = loop.time()
        for at, kind, what in sorted(steps, key=lambda step: step[:2]):
            wait = start + at - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if kind == 0:
                asked_by[what.owner] = self.clients[what.client]
                asked_by[what.owner].ask(what)
            elif kind == 1:
                asked_by[what.owner].cancel(what.owner)
            else:
                self.clients[what].leave()
                self.clients[what] = await self._connect(what)
        for client in self.clients[:SLOW]:
            client.hurry()
        until = loop.time() + DRAIN
        while loop.time() < until and any(_is_owed(seen) for seen in self.account.seen.values()):
            await asyncio.sleep(0.1)

    def leave(self) -> None:
        for client in self.clients:
            client.leave()


def _is_owed(seen: Seen) -> bool:
    return seen.answered is None and seen.cancelled is None
