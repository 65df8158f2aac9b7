"""What travels: a small tool call and its result, and results of the sizes that tools give.

The sizes and their sources are in README.md.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson

PARAMS: dict[str, Any] = {"name": "search", "arguments": {"query": "turnout", "limit": 10, "offset": 0}}
RESULT: dict[str, Any] = {
    "content": [{"type": "text", "text": "found nothing that was lost"}],
    "isError": False,
}

ECHO = "tools/call"
"""The method answered at once."""
STEPS = "bench/steps"
"""The method that reports `params["count"]` steps of progress before its answer."""
HANG = "bench/hang"
"""The method that only a cancel ends."""

SIZES = {"150 B": 150, "1 KB": 1_000, "20 KB": 20_000, "100 KB": 100_000}


def request(number: int) -> bytes:
    """One `tools/call` frame of about 150 bytes, newline included."""
    return (
        b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"search",'
        b'"arguments":{"query":"turnout","limit":10,"offset":0,"order":"by-date"}}}\n'
    ) % number


def result(size: int) -> bytes:
    """The JSON of a tool's result that makes a response frame of about `size` bytes.

    Rows as a database gives them up to 20 KB; an image in base64 beyond.
    """
    if size <= 200:
        return orjson.dumps(
            {"content": [{"type": "text", "text": "x" * max(size - 104, 1)}], "isError": False}
        )
    if size <= 50_000:
        rows: list[dict[str, Any]] = []
        used = 120
        while used < size:
            row = {
                "key": len(rows),
                "name": f"row {len(rows)}",
                "score": len(rows) * 0.25,
                "tags": ["a", "b\n"],
            }
            rows.append(row)
            used += len(orjson.dumps(row)) + 1
        return orjson.dumps({"content": [], "structuredContent": {"rows": rows}, "isError": False})
    data = base64.b64encode(bytes(range(256)) * (size * 3 // 4 // 256)).decode()
    return orjson.dumps(
        {"content": [{"type": "image", "data": data, "mimeType": "image/png"}], "isError": False}
    )
