"""Many clients over one server: `python examples/gateway.py`.

The relay passes frames on inside the native core: ids, progress tokens and cancels are translated both ways,
and no Python runs for a frame that is only passed on.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import turnout

SERVER = Path(__file__).with_name("crunch_server.py")


async def main() -> None:
    """Relay three clients of a Unix socket to one child process."""
    path = str(Path(tempfile.mkdtemp()) / "gateway.sock")
    async with turnout.Router(name="gateway") as gateway, turnout.Router(name="client") as clients:
        relay = gateway.relay(turnout.Upstream(lambda: turnout.stdio(sys.executable, SERVER), name="crunch"))
        await relay.start()
        await gateway.serve(turnout.listen_unix(path), relay.attach)

        peers = [await clients.connect(turnout.unix(path)) for _ in range(3)]
        arguments = {"steps": 5, "seconds": 0.02}
        calls = [peer.send("tools/call", {"name": "crunch", "arguments": arguments}) for peer in peers]
        await asyncio.sleep(0.05)
        calls[1].cancel("changed my mind")
        for end in await asyncio.gather(*calls, return_exceptions=True):
            print(f"{type(end).__name__}: {end}")

        for record in gateway.records.query(direction="inbound"):
            print(record.method, record.id, "->", [leg.id for leg in record.legs], record.outcome)
        print({cause: count for cause, count in relay.counters().items() if count})


asyncio.run(main())
