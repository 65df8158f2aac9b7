"""What gateways in use got wrong about requests on their way, one test each, named after the thread.

`test_relay_proof.py` lists all twenty reports, and why some of them have no test. Clients and servers are
played by hand here: every frame that the relay reads is the test's, and every line that it writes is looked at.
"""

from __future__ import annotations

import asyncio
import json

import pytest

import turnout
import wire
from loops import both_loops
from relay_by_hand import Played
from relay_world import World, call
from wire import Raw, cancelled, error, progress, request, result


def ask(id, who, **more):
    return request(id, "tools/call", {"who": who}, **more)


def by_owner(asked):
    """The relay's ids of what a server heard, by whom they are for."""
    return {message["params"]["who"]: message["id"] for message in asked}


async def started(world, *upstreams, **options):
    """A relay with its servers there."""
    await world.build(*upstreams, **options).start()
    return world.servers


@both_loops
async def test_anthropics_claude_ai_mcp_539_a_client_that_sends_id_1_for_every_request():
    """Key on the exchange, never on (session, id); and do not refuse the repeat."""
    async with Played() as world:
        [server] = await started(world)
        client = await world.client()
        chats = [f"chat {n}" for n in range(20)]
        client.say(*(ask(1, chat) for chat in chats))
        ids = by_owner(await server.hears(20))
        assert len(set(ids.values())) == 20
        for chat in reversed(chats):
            server.say(result(ids[chat], {"for": chat}))
        answers = await client.hears(20)
        assert [answer["result"]["for"] for answer in answers] == chats[::-1]
        assert {answer["id"] for answer in answers} == {1}


@pytest.mark.parametrize("end", ["answers", "loss"])
@both_loops
async def test_modelcontextprotocol_python_sdk_3060_duplicates_do_not_overwrite(end):
    """Two requests with one id are two exchanges: nobody gets the other's answer, nobody hangs."""
    async with Played() as world:
        [server] = await started(world)
        client, other = await world.client(), await world.client()
        client.say(ask("a", "first"), ask("a", "second"))
        other.say(ask("a", "third"))
        ids = by_owner(await server.hears(3))
        if end == "answers":
            server.say(*(result(ids[who], {"for": who}) for who in ("third", "second", "first")))
            answers = [message["result"]["for"] for message in await client.hears(2)]
            assert answers == ["second", "first"]
            assert (await other.hears_one())["result"] == {"for": "third"}
        else:
            await server.leave()
            lost = [*await client.hears(2), await other.hears_one()]
            assert [message["error"]["data"]["reason"] for message in lost] == ["upstream_closed"] * 3
        await asyncio.sleep(0)
        assert client.unread == other.unread == []


@both_loops
async def test_modelcontextprotocol_python_sdk_3137_a_number_and_its_digits_are_two_ids():
    """6 and "6" do not overwrite each other, and each comes back as it was spelled."""
    async with Played() as world:
        [server] = await started(world)
        client = await world.client()
        client.say(ask(6, "number"), ask("6", "text"), ask(Raw("6.0"), "fraction"))
        ids = by_owner(await server.hears(3))
        client.say(cancelled("6"))
        assert (await server.hears_one())["params"]["requestId"] == ids["text"]
        server.say(result(ids["fraction"], {"for": "fraction"}), result(ids["number"], {"for": "number"}))
        await client.hears(2)
        assert client.lines == [
            '{"jsonrpc": "2.0","id":6.0,"result":{"for":"fraction"}}'.replace(" ", ""),
            '{"jsonrpc":"2.0","id":6,"result":{"for":"number"}}',
        ]


@both_loops
async def test_cloudflare_agents_1632_an_ambiguous_cancel_is_not_guessed():
    """A cancel that could mean two requests hits neither; once it can mean one only, it does."""
    async with Played() as world:
        [server] = await started(world)
        client = await world.client()
        client.say(ask(1, "first"), ask(1, "second"))
        ids = by_owner(await server.hears(2))
        client.say(cancelled(1))
        await world.settle(client, server)
        server.say(result(ids["first"], {"for": "first"}))
        assert (await client.hears_one())["result"] == {"for": "first"}
        client.say(cancelled(1))
        assert (await server.hears_one())["params"]["requestId"] == ids["second"]
        await world.settle(client, server)


@both_loops
async def test_modelcontextprotocol_typescript_sdk_1483_nothing_of_one_client_reaches_another():
    """Isolation is a security property: the same ids and tokens everywhere, every payload bears its owner."""
    async with Played() as world:
        [server] = await started(world)
        clients = {f"client {n}": await world.client() for n in range(16)}
        for who, client in clients.items():
            client.say(ask(1, who, token="t"), ask(2, who, token="u"), ask(3, who))
        asked = await server.hears(48)
        for message in sorted(asked, key=lambda message: -message["id"] % 7):
            who, id = message["params"]["who"], message["id"]
            server.say(progress(id, 1, message=who))
            answers = {
                0: result(id, {"for": who}),
                1: error(id, -32000, who),
                2: result(id, {"for": who}),
            }
            server.say(answers[id % 3])
        for who, client in clients.items():
            heard = await client.hears(5)
            owners = [json.dumps(message).count(f'"{who}"') for message in heard]
            assert owners == [1] * 5, (who, heard)
            assert client.unread == []


@both_loops
async def test_modelcontextprotocol_typescript_sdk_cve_2026_25536_a_newcomer_inherits_nothing():
    """What a server says late to one who left does not reach who came in their place."""
    async with Played() as world:
        [server] = await started(world)
        leaver = await world.client()
        leaver.say(ask(1, "leaver", token="t"))
        left = (await server.hears_one())["id"]
        await leaver.leave()
        assert (await server.hears_one())["params"]["requestId"] == left
        newcomer = await world.client()
        newcomer.say(ask(1, "newcomer", token="t"))
        new = (await server.hears_one())["id"]
        server.say(progress(left, 1, message="secret"), result(left, {"secret": True}))
        server.say(progress(new, 2, message="newcomer"), result(new, {"for": "newcomer"}))
        heard = await newcomer.hears(2)
        assert [message.get("result") for message in heard] == [None, {"for": "newcomer"}]
        assert not any("secret" in line for line in newcomer.lines)
        assert new != left


@both_loops
async def test_prefecthq_fastmcp_4124_a_cancel_goes_on_to_the_server():
    """The backend hears of a cancel, under its own id and once, and the client of nothing more."""
    async with Played() as world:
        [server] = await started(world)
        client = await world.client()
        client.say(ask("mine", "x"))
        id = (await server.hears_one())["id"]
        client.say(cancelled("mine", "enough"), cancelled("mine", "really"))
        told = await server.hears_one()
        assert told["method"] == "notifications/cancelled"
        assert told["params"] == {"requestId": id, "reason": "enough"}
        server.say(result(id, {"too": "late"}))
        await world.settle(client, server)
        assert world.relay.counters()["cancelled"] == 1


@both_loops
async def test_kuadrant_mcp_gateway_422_each_cancel_finds_its_own_of_a_thousand():
    """The way from a client's id to the server's is local and exact, whatever else is in flight."""
    async with Played() as world:
        [server] = await started(world)
        clients = [await world.client() for _ in range(10)]
        for number, client in enumerate(clients):
            client.say(*(ask(id, f"{number}-{id}") for id in range(100)))
        ids = by_owner(await server.hears(1000))
        wanted = [(number, id) for number in range(10) for id in range(number, 100, 10)]
        for number, id in wanted:
            clients[number].say(cancelled(id))
        told = [message["params"]["requestId"] for message in await server.hears(100)]
        assert sorted(told) == sorted(ids[f"{number}-{id}"] for number, id in wanted)
        for client in clients:
            await world.settle(client, server)


@both_loops
async def test_ibm_mcp_context_forge_5393_nothing_is_broadcast():
    """What belongs to one server is told to that one only: no cancel, no token, no notification elsewhere."""
    async with Played() as world:
        routes = [turnout.Route("one", "tools/call"), turnout.Route("two")]
        one, two = await started(world, world.upstream("one"), world.upstream("two"), routes=routes)
        client = await world.client()
        client.say(ask(1, "x", token="t"), request(2, "prompts/get"))
        asked, other = await one.hears_one(), await two.hears_one()
        assert asked["method"] == "tools/call"
        assert other["method"] == "prompts/get"
        client.say(cancelled(1))
        assert (await one.hears_one())["params"] == {"requestId": asked["id"]}
        # The shared servers hear of nothing that a client says to nobody in particular.
        client.say(wire.notification("notifications/roots/list_changed"))
        client.say(wire.notification("notifications/message", {"data": "x"}))
        two.say(result(other["id"]))
        await client.hears_one()
        await world.settle(client, two)
        assert one.unread == two.unread == []


@both_loops
async def test_ibm_mcp_context_forge_4302_progress_and_questions_come_on_the_requests_own_stream():
    """Progress and a server's request reach the client that asked, in order and ahead of the answer."""
    async with World() as world:
        world.build(world.upstream(sharing="per_client"))
        clients = [await world.client() for _ in range(3)]
        heard = [[] for _ in clients]
        for number, client in enumerate(clients):

            @client.on_request("sampling/createMessage")
            async def sample(request, own=heard[number]):
                own.append(request.params["who"])
                return {"text": request.params["who"]}

        sent = [
            client.send("tools/call", call(ask=True, who=str(n), steps=3), on_progress=heard[n].append)
            for n, client in enumerate(clients)
        ]
        for number, one in enumerate(sent):
            assert await one == {"text": str(number)}
            *updates, who = heard[number]
            assert ([update.progress for update in updates], who) == ([1, 2, 3], str(number))
            assert {update.message for update in updates} == {str(number)}


@both_loops
async def test_prefecthq_fastmcp_1068_concurrent_forwarding_has_no_current_client():
    """Handlers that forward while others do carry each request's own context, not that of the last one."""
    async with World() as world:
        relay = world.build(local=["tools/call"])
        gates = {}

        @relay.on_request("tools/call")
        async def pass_on(request):
            # All are here before the first one goes on, and they go on in another order.
            gate = gates.setdefault(request.params["arguments"]["who"], asyncio.Event())
            if len(gates) == 24:
                for other in reversed(gates.values()):
                    other.set()
            await gate.wait()
            await relay.forward(request, "echo")

        clients = [await world.client() for _ in range(8)]
        sent = [
            (f"{n}-{turn}", client.send("tools/call", call(who=f"{n}-{turn}", steps=2)))
            for turn in range(3)
            for n, client in enumerate(clients)
        ]
        for who, one in sent:
            assert (await one)["who"] == who
            assert one.record.progress.message == who


@both_loops
async def test_stacklok_toolhive_5939_an_empty_token_is_a_token_of_its_client():
    """Two clients that both use the empty string get their own progress, and no others get any."""
    async with Played() as world:
        [server] = await started(world)
        one, two, three = [await world.client() for _ in range(3)]
        one.say(ask(1, "one", token=""))
        two.say(ask(1, "two", token=""))
        three.say(ask(1, "three"))
        asked = await server.hears(3)
        ids = by_owner(asked)
        for who in ("two", "one", "three"):
            server.say(progress(ids[who], 1, message=who), result(ids[who], {"for": who}))
        for client, who in ((one, "one"), (two, "two")):
            update, answer = await client.hears(2)
            assert update["params"] == {"progressToken": "", "progress": 1, "message": who}
            assert answer["result"] == {"for": who}
        assert (await three.hears_one())["result"] == {"for": "three"}
        assert world.relay.counters()["progress"] == 2


@pytest.mark.parametrize("ending", ["result", "error", "cancel"])
@both_loops
async def test_anthropics_claude_code_47765_nothing_follows_the_terminal_message(ending):
    """A client that closes its transport at late progress has none to close it for."""
    async with Played() as world:
        [server] = await started(world)
        client = await world.client()
        client.say(ask(1, "x", token="t"))
        id = (await server.hears_one())["id"]
        late = [progress(id, 2), progress(id, 3), result(id, {"twice": True}), error(id)]
        if ending == "cancel":
            client.say(cancelled(1))
            await server.hears_one()
            server.say(*late)
        else:
            server.say(progress(id, 1), (result if ending == "result" else error)(id), *late)
            heard = await client.hears(2)
            assert [ending in message for message in heard] == [False, True]
        await world.settle(client, server)


@both_loops
async def test_modelcontextprotocol_typescript_sdk_2580_a_result_shares_no_write_with_its_progress():
    """Two clients in wide use drop every update that reaches them in one read with its result."""
    async with Played() as world:
        [server] = await started(world)
        client = await world.client()
        for id in range(50):
            client.say(ask(id, "x", token=id))
            upstream = (await server.hears_one())["id"]
            server.say(progress(upstream, 1), progress(upstream, 2), result(upstream))
            await client.hears(3)
        reads = [taken for call, taken in client.calls if call == "feed"]
        assert len(reads) == 100, "each result came in a read of its own"


@both_loops
async def test_twentyhq_twenty_24559_no_token_is_made_up():
    """A server sees a progress token only where the client sent one; what comes regardless is swallowed."""
    async with Played() as world:
        [server] = await started(world)
        client = await world.client()
        bare = b'{"jsonrpc":"2.0","id":"n","method":"tools/call","params":{"_meta":{"x":1},"a":1}}\n'
        client.say(bare)
        id = (await server.hears_one())["id"]
        assert server.lines == [bare.decode().strip().replace('"n"', str(id))]
        server.say(progress(id, 1), progress(str(id), 2), result(id))
        assert (await client.hears_one())["result"] == {}
        await world.settle(client, server)


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_modelcontextprotocol_rust_sdk_857_who_leaves_cancels_what_they_asked(era):
    """The end of a stream cancels everything in flight on it, and nothing of anyone else's."""
    async with World() as world:
        world.build(world.upstream(era=era))
        leaver, stayer = await world.client(era=era), await world.client(era=era)
        reached, all_reached = [], asyncio.Event()
        stopped, all_stopped = [], asyncio.Event()

        @world.servers.on_request("hang")
        async def hang(request):
            reached.append(request)
            if len(reached) == 6:
                all_reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(request.params["who"])
                if len(stopped) == 5:
                    all_stopped.set()

        for _ in range(5):
            leaver.send("hang", {"who": "leaver"})
        kept = stayer.send("hang", {"who": "stayer"})
        await all_reached.wait()
        await leaver.close()
        await all_stopped.wait()
        assert (set(stopped), kept.done()) == ({"leaver"}, False)
        kept.cancel()
        await world.quiet()
