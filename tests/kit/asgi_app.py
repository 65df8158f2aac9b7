"""An ASGI application whose tools are the tests', for application servers to serve: `asgi_app:app`."""

from __future__ import annotations

import asyncio
from typing import Any

import turnout

router = turnout.Router()
cancelled: list[str] = []


async def call(request: turnout.Request) -> dict[str, Any]:
    """Run a tool."""
    name = request.params["name"]
    if name == "steps":
        for step in range(1, 4):
            request.progress(step, 3)
            await asyncio.sleep(0)
    elif name == "wait":
        request.progress(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(name)
            raise
    elif name == "cancelled":
        return {"content": [], "structuredContent": {"names": cancelled}}
    return {"content": [{"type": "text", "text": name}]}


turnout.serve_handshake(router, name="asgi", version="1", capabilities={"tools": {}})
router.on_request("tools/call")(call)
app = turnout.asgi(router)
