"""Servers that list tools, and what a client of their relay sees of them."""

from __future__ import annotations

import turnout

PREFIXED = [
    turnout.Route("a", "tools/call", prefix="a_", strip=True),
    turnout.Route("b", "tools/call", prefix="b_", strip=True),
]


def tools(*names, pages=1, **more):
    """Prepares a server that lists these tools, the same number on each page."""

    def prepare(peer):
        @peer.on_request("tools/list")
        async def answer(request):
            page = int((request.params or {}).get("cursor", "0"))
            per = len(names) // pages
            listed = [{"name": name, "title": name.upper()} for name in names[page * per :][:per]]
            return {
                "tools": listed,
                **({"nextCursor": str(page + 1)} if page + 1 < pages else {}),
                **more,
            }

    return prepare


def stalls(peer):
    """Prepares a server that never lists."""

    @peer.on_request("tools/list")
    async def answer(request):
        await request.wait_cancelled()


def names(result):
    """What a list shows, by name."""
    return [tool["name"] for tool in result["tools"]]
