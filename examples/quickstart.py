"""Start a server, call a tool, follow its progress: `python examples/quickstart.py`."""

import asyncio
import sys
from pathlib import Path

import turnout

SERVER = Path(__file__).with_name("crunch_server.py")


async def main() -> None:
    """Call `crunch` once."""
    async with turnout.Router() as router:
        peer = await router.connect(turnout.stdio(sys.executable, SERVER))
        call = peer.send("tools/call", {"name": "crunch", "arguments": {"steps": 4}}, timeout=30)
        async for update in call.progress():
            print(f"{update.progress:g} of {update.total:g}: {update.message}")
        result = await call
        print(result["content"][0]["text"])
        print(call.record.outcome, f"after {call.record.duration:.1f} s")


asyncio.run(main())
