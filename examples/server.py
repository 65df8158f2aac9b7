"""A server of its own, without an SDK: `turnout call count to=5 -- python examples/server.py`."""

import asyncio
from typing import Any

import turnout


async def count(request: turnout.Request, to: int) -> str:
    """Count, and say so; a cancel stops the task at the next await."""
    for number in range(1, to + 1):
        await asyncio.sleep(0.2)
        request.progress(number, total=to, message=f"counted to {number}")
    return f"counted to {to}"


async def main() -> None:
    """Serve the client that started this process until it is done."""
    async with turnout.Router() as router:
        turnout.serve_handshake(router, name="counter")

        @router.on_request("tools/call")
        async def call_tool(request: turnout.Request) -> dict[str, Any]:
            params = request.params
            if params["name"] != "count":
                raise turnout.RequestError(-32602, f"there is no tool {params['name']!r}")
            text = await count(request, params["arguments"].get("to", 3))
            return {"content": [{"type": "text", "text": text}]}

        client = await router.connect(turnout.own_stdio(), era=None)
        await client.wait_lost()


asyncio.run(main())
