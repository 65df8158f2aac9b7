"""A legacy server on stdio: `echo` answers, `hang` waits for its cancel, `die` exits at once."""

import asyncio
import os

import turnout


async def main():
    async with turnout.Router(name="server", timeout=None) as router:
        turnout.serve_handshake(router, name="child")

        @router.on_request("tools/call")
        async def call(request):
            arguments = request.params["arguments"]
            if request.params["name"] == "die":
                os._exit(3)
            if request.params["name"] == "hang":
                await request.wait_cancelled()
            for step in range(arguments.get("steps", 0)):
                request.progress(step + 1, message=arguments["who"])
            return {"who": arguments["who"], "pid": os.getpid()}

        peer = await router.connect(turnout.own_stdio(), era=None)
        await peer.wait_lost()


if __name__ == "__main__":
    asyncio.run(main())
