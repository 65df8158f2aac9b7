"""Log levels through a relay: one server, several clients (section 10)."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from relay_world import World, logs

MESSAGE = "notifications/message"


async def session(world, level=None, principal=None):
    client = await world.client(principal=principal)
    heard = asyncio.Queue()
    client.on_notification(MESSAGE)(lambda notification: heard.put_nowait(notification.params["data"]))
    if level is not None:
        assert await client.send("logging/setLevel", {"level": level}) == {}
    return client, heard


@both_loops
async def test_section_10_the_most_verbose_level_wins_and_each_client_hears_its_own():
    async with World() as world:
        levels = logs(world)
        world.build(world.upstream(share_logs=True))
        _, careful = await session(world, "error")
        verbose, chatty = await session(world, "debug")
        silent, nothing = await session(world)
        assert [await levels.get(), await levels.get()] == ["error", "debug"]
        [server] = world.servers.peers
        for level in ("debug", "error", "nonsense"):
            server.notify(MESSAGE, {"level": level, "data": level})
        assert [await chatty.get(), await chatty.get(), await careful.get()] == [
            "debug",
            "error",
            "error",
        ]
        await verbose.close()
        assert await levels.get() == "error", "who is left asked for no more"
        await silent.send("tools/call", {"name": "echo"})
        assert all(queue.empty() for queue in (careful, chatty, nothing, levels))


@both_loops
async def test_section_10_a_new_epoch_is_set_again():
    async with World() as world:
        levels = logs(world)
        world.build(world.upstream(share_logs=True))
        client, heard = await session(world, "info")
        assert await levels.get() == "info"
        world.servers.peers[0].abort()
        assert await levels.get() == "info"
        await client.send("tools/call", {"name": "echo"})
        [server] = world.servers.peers
        server.notify(MESSAGE, {"level": "info", "data": "again"})
        assert await heard.get() == "again"


@both_loops
async def test_section_10_the_log_of_a_shared_server_is_nobodys():
    async with World() as world:
        levels = logs(world)
        world.build()
        client, heard = await session(world, "debug")
        [server] = world.servers.peers
        server.notify(MESSAGE, {"level": "error", "data": "another client's secret"})
        await client.send("tools/call", {"name": "echo"})
        assert heard.empty()
        assert levels.empty(), "what nobody hears, nobody asks for"


@both_loops
async def test_section_10_clients_of_one_connection_set_its_level_and_no_others():
    async with World() as world:
        levels = logs(world)
        world.build(world.upstream(sharing="per_principal", share_logs=True))
        heard = {}
        for principal, level in (("ada", "debug"), ("bob", "error")):
            _, heard[principal] = await session(world, level, principal)
            assert await levels.get() == level
        for server in world.servers.peers:
            server.notify(MESSAGE, {"level": "error", "data": server.name})
        await world.until(lambda: not any(queue.empty() for queue in heard.values()))
        assert [queue.qsize() for queue in heard.values()] == [1, 1]


@both_loops
async def test_section_10_a_private_server_is_set_by_its_client():
    async with World() as world:
        levels = logs(world)
        world.build(world.upstream(sharing="per_client"))
        for level in ("debug", "error"):
            await session(world, level)
        assert [await levels.get(), await levels.get()] == ["debug", "error"]


@both_loops
async def test_an_unknown_level_is_refused():
    async with World() as world:
        world.build()
        with pytest.raises(turnout.RemoteError) as caught:
            await session(world, "loud")
        assert caught.value.code == -32602


@both_loops
async def test_u1_a_level_whose_server_is_lost_or_absent_says_so(caplog):
    caplog.clear()

    async with World() as world:
        logs(world)
        began = asyncio.Event()

        @world.servers.on_request("logging/setLevel")
        async def never(request):
            began.set()
            await request.wait_cancelled()

        world.build(world.upstream(share_logs=True, target=world.once))
        client, _ = await session(world)
        call = client.send("logging/setLevel", {"level": "info"})
        await began.wait()
        world.servers.peers[0].abort()
        for sent in (True, False):
            with pytest.raises(turnout.RemoteError) as caught:
                await (call if sent else client.send("logging/setLevel", {"level": "info"}))
            assert caught.value.data == {"reason": "upstream_closed", "sent": sent, "upstream": "echo"}
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_a_server_that_has_no_levels_is_not_asked_for_one(era):
    async with World() as world:
        asked = []
        world.servers.on_request("logging/setLevel")(lambda request: asked.append(request.params))
        world.build(world.upstream(era=era, share_logs=True))
        client, _ = await session(world, "info")
        await client.send("tools/call", {"name": "echo"})
        assert asked == []
