"""A host and a server in one process, linked in memory: `python examples/in_process.py`."""

import asyncio

import turnout


async def main() -> None:
    """Ask, and be asked back while the answer is being made."""
    async with turnout.Router() as router:
        left, right = turnout.memory()
        host = await router.connect(left, era=None)
        server = await router.connect(right, era=None)

        @host.on_request("elicitation/create")
        async def ask_the_user(request: turnout.Request) -> dict[str, object]:
            print("the server asks:", request.params["message"])
            return {"action": "accept", "content": {"sure": True}}

        @server.on_request("tools/call")
        async def remove(request: turnout.Request) -> dict[str, object]:
            answer = await request.peer.send("elicitation/create", {"message": "Really?"})
            return {"removed": answer["content"]["sure"]}

        print(await host.send("tools/call", {"name": "remove"}))
        for record in router.records:
            print(f"{record.direction:8} {record.method:20} {record.outcome}")


asyncio.run(main())
