"""What one client's calls take while another one floods the same slow server, through a relay.

    python -m benches.flood [--service MILLISECONDS] [--outstanding COUNT] [--calls COUNT]

The server does one call after the other, as a server of plain functions does. The relay, the server and the clients
are three processes. Printed are the medians of the one client's calls, alone and beside the flood, and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import turnout

SECONDS = 120
"""No measurement takes longer, whatever happens."""


def serve(service: float) -> None:
    """Answer the lines of stdin, one after the other."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = {}
        if message["method"] == "initialize":
            info = {"name": "slow", "version": "1"}
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
        else:
            time.sleep(service)
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + "\n")
        sys.stdout.flush()


async def relay(path: str, service: float) -> None:
    """Relay whoever comes to the socket to one slow server, until stdin ends."""
    server = turnout.stdio(sys.executable, "-m", "benches.flood", "--serve", "--service", str(service * 1000))
    async with turnout.Router() as router:
        relay = router.relay(turnout.Upstream(server, era="legacy", name="slow"))
        await relay.start()
        await router.serve(turnout.listen_unix(path), accepted=relay.attach)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def call(client: turnout.Peer) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    await client.send("tools/call", {"name": "work"}, progress=False)
    return time.perf_counter() - start


async def measure(path: str, outstanding: int, calls: int) -> tuple[float, float, float]:
    """Medians alone and beside a flood, and how many calls of the flood were answered in a second meanwhile."""
    async with turnout.Router(timeout=None) as router:
        victim, other = [await router.connect(turnout.unix(path), era="legacy") for _ in range(2)]
        await call(other)
        alone = statistics.median([await call(victim) for _ in range(calls)])
        answered = 0

        async def flood() -> None:
            nonlocal answered
            while True:
                await call(other)
                answered += 1

        floods = [asyncio.ensure_future(flood()) for _ in range(outstanding)]
        await asyncio.sleep(0.2)
        answered, start = 0, time.perf_counter()
        beside = statistics.median([await call(victim) for _ in range(calls)])
        rate = answered / (time.perf_counter() - start)
        for one in floods:
            one.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
        return alone, beside, rate


async def run(service: float, outstanding: int, calls: int) -> None:
    """Start the relay, measure, and print."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "s")
        command = [sys.executable, "-m", "benches.flood", "--relay", path, "--service", str(service * 1000)]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            await process.stdout.readline()
            measured = measure(path, outstanding, calls)
            alone, beside, rate = await asyncio.wait_for(measured, SECONDS)
        finally:
            process.stdin.close()
            await process.wait()
    print(f"a server that takes {service * 1000:g} ms a call, a flood of {outstanding} calls outstanding")
    print(
        f"median alone {alone * 1000:.2f} ms, beside the flood {beside * 1000:.2f} ms: {beside / alone:.1f}x"
    )
    print(
        f"the flood had {rate:.0f} calls answered a second, so that the one waited for {beside * rate:.1f} of them"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--service", type=float, default=0.8)
    parser.add_argument("--outstanding", type=int, default=2000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--relay", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.service / 1000)
    elif asked.relay:
        asyncio.run(relay(asked.relay, asked.service / 1000))
    else:
        asyncio.run(run(asked.service / 1000, asked.outstanding, asked.calls))


if __name__ == "__main__":
    main()
