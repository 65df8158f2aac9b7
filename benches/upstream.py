"""A fast upstream: answers `tools/call` with a result of one size, and never answers `HANG`.

`python -m benches.upstream LOOP PATH SIZE`; where PATH is `-` it speaks over its stdin and stdout. It must
not be what limits a relay: where every line of a read is a plain call, all are answered without parsing.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any, cast

import orjson

from benches import loops, payloads

CALL = re.compile(rb'"id":([^,}]+),"method":"tools/call"')
TOOL = {"name": "search", "inputSchema": {"type": "object"}}


class Upstream(asyncio.Protocol):
    to: asyncio.WriteTransport

    def __init__(self, size: int) -> None:
        self._rest = b""
        result = payloads.result(size)
        self._result = orjson.Fragment(result)
        self._head, self._tail = b'{"jsonrpc":"2.0","id":', b',"result":' + result + b"}\n"
        self._between = self._tail + self._head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.to = cast("asyncio.WriteTransport", transport)  # uvloop has no such classes

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        end = data.rfind(b"\n") + 1
        self._rest, data = data[end:], data[:end]
        ids = CALL.findall(data)
        if ids and len(ids) == data.count(b"\n"):
            self.to.write(self._head + self._between.join(ids) + self._tail)
        elif data:
            self.to.write(b"".join(map(self._answer, data.splitlines())))

    def _answer(self, line: bytes) -> bytes:
        message: dict[str, Any] = orjson.loads(line)
        method = message.get("method")
        if "id" not in message or method == payloads.HANG:
            return b""
        results: dict[str | None, Any] = {
            "initialize": {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "upstream", "version": "1"},
            },
            "tools/list": {"tools": [TOOL]},
            "tools/call": self._result,
            "ping": {},
        }
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if method in results:
            answer["result"] = results[method]
        else:
            answer["error"] = {"code": -32601, "message": "Method not found"}
        return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)

    def connection_lost(self, _: Exception | None) -> None:
        if isinstance(self, _OwnStdio):
            self.over.set_result(None)


class _OwnStdio(Upstream):
    over: asyncio.Future[None]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.over = asyncio.get_running_loop().create_future()


async def serve(path: str, size: int) -> None:
    loop = asyncio.get_running_loop()
    if path == "-":
        stdio = _OwnStdio(size)
        stdio.to, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
        await loop.connect_read_pipe(lambda: stdio, sys.stdin)
        await stdio.over
        return
    server = await loop.create_unix_server(lambda: Upstream(size), path, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    name, path, size = sys.argv[1:]
    loops.run(serve(path, int(size)), name)
