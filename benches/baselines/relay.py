"""A relay as one would write it by hand: clients on a Unix socket, a few connections to an upstream, orjson both ways.

Ids and progress tokens are rewritten, cancels translated, and each side gets one write per read.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson

Flight = tuple["Client", Any, Any]
"""Who asked, by which id, with which progress token."""


class Relay:
    """What clients and upstreams share: the flights by our own ids."""

    def __init__(self) -> None:
        self.upstreams: list[asyncio.WriteTransport] = []
        self.clients = 0
        self.last_id = 0
        self.flights: dict[int, Flight] = {}


class Lines(asyncio.Protocol):
    """A connection that speaks in lines of JSON."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self._rest = b""

    def take(self, data: bytes) -> list[Any]:
        lines = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        self._rest = lines.pop()
        return [orjson.loads(line) for line in lines]


class Client(Lines):
    transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.WriteTransport", transport)  # uvloop has no such classes
        self.ids: dict[Any, int] = {}
        self.upstream = self.relay.upstreams[self.relay.clients % len(self.relay.upstreams)]
        self.relay.clients += 1

    def data_received(self, data: bytes) -> None:
        relay, out = self.relay, []
        for message in self.take(data):
            request_id = message.get("id")
            if request_id is not None and "method" in message:
                relay.last_id = ours = relay.last_id + 1
                meta: dict[str, Any] = (message.get("params") or {}).get("_meta") or {}
                token = meta.get("progressToken")
                if token is not None:
                    meta["progressToken"] = ours
                relay.flights[ours] = (self, request_id, token)
                self.ids[request_id] = ours
                message["id"] = ours
            elif message.get("method") == "notifications/cancelled":
                cancelled = self.ids.pop(message["params"]["requestId"], None)
                if cancelled is None:
                    continue
                del relay.flights[cancelled]
                message["params"]["requestId"] = cancelled
            out.append(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        self.upstream.write(b"".join(out))

    def connection_lost(self, _: Exception | None) -> None:
        gone = [
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}\n' % ours
            for ours in self.ids.values()
        ]
        for ours in self.ids.values():
            del self.relay.flights[ours]
        self.upstream.write(b"".join(gone))


class Upstream(Lines):
    def data_received(self, data: bytes) -> None:
        relay = self.relay
        out: dict[Client, list[bytes]] = {}
        for message in self.take(data):
            if "method" not in message:
                flight = relay.flights.pop(message["id"], None)
                if flight is None:
                    continue
                message["id"] = flight[1]
                flight[0].ids.pop(flight[1], None)
            elif message["method"] == "notifications/progress":
                flight = relay.flights.get(message["params"]["progressToken"])
                if flight is None:
                    continue
                message["params"]["progressToken"] = flight[2]
            else:
                continue
            out.setdefault(flight[0], []).append(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))
        for client, frames in out.items():
            if not client.transport.is_closing():
                client.transport.write(b"".join(frames))


async def run(listen: str, upstream: str, connections: int = 1) -> None:
    """Relay between sockets at these paths until cancelled."""
    loop, relay = asyncio.get_running_loop(), Relay()
    for _ in range(connections):
        transport, _protocol = await loop.create_unix_connection(lambda: Upstream(relay), upstream)
        relay.upstreams.append(transport)
    server = await loop.create_unix_server(lambda: Client(relay), listen, backlog=4096)
    async with server:
        await server.serve_forever()
