"""The floor: loops that only split lines. `Echo` writes them back; `run` hands them on, as a relay does."""

from __future__ import annotations

import asyncio
from typing import cast


class Split(asyncio.Protocol):
    """Splits what it reads into lines and writes them to `to`, with one write for each read."""

    to: asyncio.WriteTransport

    def __init__(self) -> None:
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        self._rest = lines.pop()
        lines.append(b"")
        self.to.write(b"\n".join(lines))


class Echo(Split):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.to = cast("asyncio.WriteTransport", transport)  # uvloop has no such classes


class _Client(Split):
    """A client with an upstream of its own: without ids there is nothing to tell answers apart by."""

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self._path = upstream
        self._early: list[bytes] = []
        self._connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        client = cast("asyncio.WriteTransport", transport)  # uvloop has no such classes
        self._connecting = asyncio.get_running_loop().create_task(self._connect(client))

    async def _connect(self, transport: asyncio.WriteTransport) -> None:
        back = Split()
        back.to = transport
        self.to, _ = await asyncio.get_running_loop().create_unix_connection(lambda: back, self._path)
        self._connected = True
        self.data_received(b"".join(self._early))

    def data_received(self, data: bytes) -> None:
        if self._connected:
            super().data_received(data)
        else:
            self._early.append(data)

    def connection_lost(self, _: Exception | None) -> None:
        self.to.close()


async def run(listen: str, upstream: str) -> None:
    """Hand lines on between sockets at these paths until cancelled."""
    server = await asyncio.get_running_loop().create_unix_server(
        lambda: _Client(upstream), listen, backlog=4096
    )
    async with server:
        await server.serve_forever()


async def echo(listen: str) -> None:
    """Echo lines on a socket at this path until cancelled."""
    server = await asyncio.get_running_loop().create_unix_server(Echo, listen)
    async with server:
        await server.serve_forever()
