"""What travels over HTTP: a call of 2026-07-28, and the answers that floors have ready."""

from __future__ import annotations

import orjson

META = "io.modelcontextprotocol/"
TEXT = "x" * 100
STEPS = 50
"""Events that a handler sends in one turn of the loop, before its answer."""
MESSAGE = "y" * 120
"""The text of an event, which has 260 bytes with it."""


INITIALIZE = orjson.dumps(
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "client", "version": "1"},
        },
    }
)
INITIALIZED = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


def body(tool: str, number: int = 1) -> bytes:
    """A call of about 330 bytes."""
    meta = {
        f"{META}protocolVersion": "2026-07-28",
        f"{META}clientCapabilities": {},
        f"{META}clientInfo": {"name": "client", "version": "1"},
    }
    if tool != "echo":
        meta["progressToken"] = "token"
    params = {"name": tool, "arguments": {"text": TEXT[:24]}, "_meta": meta}
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})


def request(tool: str, number: int = 1) -> bytes:
    """The same as a POST."""
    headers = f"MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n"
    return post(body(tool, number), headers)


def post(message: bytes, headers: str = "") -> bytes:
    """A POST of a message."""
    head = (
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:80\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\n{headers}Content-Length: {len(message)}\r\n\r\n"
    )
    return head.encode() + message


ANSWER = orjson.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {"resultType": "complete", "content": [{"type": "text", "text": TEXT}]},
    }
)
JSON = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"x-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n"
)


def event(step: int) -> bytes:
    """One update as an event."""
    params = {"progressToken": "token", "progress": step, "total": STEPS, "message": MESSAGE}
    message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
    return b"event: message\ndata: " + orjson.dumps(message) + b"\n\n"


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n" % len(data) + data + b"\r\n"


LAST_EVENT = b"event: message\ndata: " + ANSWER + b"\n\n"


def is_whole(answer: bytes) -> bool:
    """Whether an answer has come to its end."""
    head, found, rest = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(rest) >= int(value)
        if name == b"transfer-encoding":
            return rest.endswith(b"0\r\n\r\n")
    return False
