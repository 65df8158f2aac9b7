"""A relay in a process of its own: `relay.py SHARING ERA LISTEN COMMAND...`.

It relays to one server, which it starts by the command, or calls where that is a URL. SHARING and ERA are those of
`turnout.Upstream`. LISTEN is the path of a Unix socket to serve clients at, `http` for a port of this machine, or `-`
for one client on standard input and output. It says where it serves when it does.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import turnout
from turnout.transports.http.listener import listen_http


def target(*command: str) -> Any:
    return turnout.http(*command) if command[0].startswith("http:") else turnout.stdio(*command)


async def main() -> None:
    sharing, era, listen, *command = sys.argv[1:]
    async with turnout.Router(name="relay") as router:
        upstream = turnout.Upstream(lambda: target(*command), name="upstream", sharing=sharing, era=era)
        relay = router.relay(upstream)
        await relay.start()
        if listen == "-":
            client = await router.connect(turnout.own_stdio(), era=None)
            relay.attach(client)
            await client.wait_lost()
        else:
            listener = listen_http("127.0.0.1", 0) if listen == "http" else turnout.listen_unix(listen)
            await router.serve(listener, relay.attach)
            print(listener.name, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
