"""A server that may have few descriptors: it does over its standard streams what a test asks, and serves on a socket.

python crowded_server.py LOOP PATH DESCRIPTORS
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys

import turnout
from loops import new_loop

SAID = []


class Said(logging.Handler):
    def emit(self, record):
        SAID.append(f"{record.levelname} {record.getMessage()}")


async def main(path):
    files = []
    async with turnout.Router() as router:

        @router.on_request("use up")
        async def use_up(request):
            try:
                while True:
                    files.append(os.open(os.devnull, os.O_RDONLY))
            except OSError as error:
                return {"errno": error.errno}

        @router.on_request("free")
        async def free(request):
            for _ in range(min(request.params["count"], len(files))):
                os.close(files.pop())
            return {}

        @router.on_request("state")
        async def state(request):
            return {"said": SAID, "refused": router.refused_peers, "peers": len(router.peers)}

        @router.on_request("run")
        async def run(request):
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            return {"exit": await process.wait()}

        # What a loop needs for its children is made now, as long as there is something left.
        await (await asyncio.create_subprocess_exec(sys.executable, "-c", "")).wait()
        await router.serve(turnout.listen_unix(path))
        control = await router.connect(turnout.own_stdio(), era=None)
        control.notify("ready")
        await control.wait_lost()


if __name__ == "__main__":
    logging.getLogger().addHandler(Said())
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), int(sys.argv[3])))
    new_loop(sys.argv[1]).run_until_complete(main(sys.argv[2]))
