"""Everything that belongs to one action of a user ends by one call: `python examples/stop.py`."""

import asyncio
import sys
from pathlib import Path

import turnout

SERVER = Path(__file__).with_name("crunch_server.py")


async def main() -> None:
    """Start three calls and stop them together."""
    async with turnout.Router() as router:
        peer = await router.connect(turnout.stdio(sys.executable, SERVER))
        scope = turnout.Scope()
        arguments = {"steps": 100, "seconds": 0.1}
        calls = [
            peer.send("tools/call", {"name": "crunch", "arguments": arguments}, scope=scope) for _ in range(3)
        ]
        async for update in calls[0].progress():
            if update.progress == 3:
                scope.cancel("the user closed the window")
        for end in await asyncio.gather(*calls, return_exceptions=True):
            print(f"{type(end).__name__}: {end}")


asyncio.run(main())
