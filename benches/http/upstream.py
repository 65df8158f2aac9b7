"""A fast server over its stdin and stdout, before which relays stand: `python -m benches.http.upstream FILE`.

It answers every call at once but those of the tool `wait`; when one of these is cancelled, the time is put into FILE,
a line each.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any, cast

import orjson

from benches import loops
from benches.http import traffic

CALL = re.compile(rb'"id":([^,}]+),"method":"tools/call","params":\{"name":"echo"')
RESULT = orjson.dumps({"resultType": "complete", "content": [{"type": "text", "text": traffic.TEXT}]})
HEAD, TAIL = b'{"jsonrpc":"2.0","id":', b',"result":' + RESULT + b"}\n"


class Upstream(asyncio.Protocol):
    """Answers lines."""

    to: asyncio.WriteTransport

    def __init__(self, file: str) -> None:
        self._rest = b""
        self._file = file
        self.over = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        end = data.rfind(b"\n") + 1
        self._rest, data = data[end:], data[:end]
        ids = CALL.findall(data)
        if ids and len(ids) == data.count(b"\n"):
            self.to.write(HEAD + (TAIL + HEAD).join(ids) + TAIL)
        elif data:
            self.to.write(b"".join(map(self._answer, data.splitlines())))

    def _answer(self, line: bytes) -> bytes:
        message: dict[str, Any] = orjson.loads(line)
        if message.get("method") == "notifications/cancelled":
            with open(self._file, "a") as file:
                file.write(f"{time.monotonic_ns()}\n")
        if "id" not in message:
            return b""
        result: Any = {}
        match message["method"]:
            case "initialize":
                info = {"name": "upstream", "version": "1"}
                result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
            case "server/discover":
                info = {f"{traffic.META}serverInfo": {"name": "upstream", "version": "1"}}
                result = {
                    "resultType": "complete",
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}},
                    "_meta": info,
                }
            case "tools/list":
                result = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
            case "tools/call":
                if message["params"]["name"] == "wait":
                    return b""
                result = orjson.Fragment(RESULT)
            case "ping":
                pass
            case _:
                error = {"code": -32601, "message": "Method not found"}
                answer = {"jsonrpc": "2.0", "id": message["id"], "error": error}
                return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)

    def connection_lost(self, _: Exception | None) -> None:
        self.over.set_result(None)


async def serve(file: str) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    upstream = Upstream(file)
    to, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    upstream.to = cast("asyncio.WriteTransport", to)
    await loop.connect_read_pipe(lambda: upstream, sys.stdin)
    await upstream.over


if __name__ == "__main__":
    loops.run(serve(sys.argv[1]), "uvloop")
