"""A legacy server over HTTP that clients share and that asks during their calls: each is asked, in its own era."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import turnout
from loops import both_loops
from turnout.protocol.handshake import Implementation, mark_requests

SAMPLE, ELICIT = "sampling/createMessage", "elicitation/create"


class World:
    """A server that asks whoever calls it, without a look at what was declared, and a relay before it."""

    def __init__(self, router, relay, clients) -> None:
        self.router = router
        self.relay = relay
        self.clients = clients
        self.errors = []
        self.asked = asyncio.Event()

    async def modern(self, **able):
        """A client that says in each request that it may be asked for this."""
        ours, theirs = turnout.memory()
        self.relay.attach(await self.router.connect(theirs, era=None))
        client = await self.clients.connect(ours, era=None)
        mark_requests(client, Implementation("client", "1", {name: {} for name in able}))
        return client

    async def legacy(self, answer):
        """A client that is asked by requests."""
        ours, theirs = turnout.memory()
        self.relay.attach(await self.router.connect(theirs, era=None))
        client = await self.clients.connect(
            ours, era="legacy", implementation=Implementation("client", "1", {"elicitation": {}})
        )
        client.on_request(ELICIT)(lambda _: answer)
        return client


@contextlib.asynccontextmanager
async def asking(*questions, sharing="shared", outside=False):
    """A server whose tool asks these questions, one after the other, and says what it was told."""
    async with (
        turnout.Router() as servers,
        turnout.Router() as router,
        turnout.Router() as clients,
    ):
        turnout.serve_handshake(servers, name="server", version="1")
        listener = turnout.listen_http("127.0.0.1", 0)
        await servers.serve(listener)
        upstream = turnout.Upstream(turnout.http(listener.name), name="far", sharing=sharing, era="legacy")
        world = World(router, router.relay(upstream), clients)

        @servers.on_request("tools/call")
        async def call(request):
            told = []
            for method in questions:
                try:
                    params = {"of": request.params["arguments"]["who"]}
                    send = request.peer.send if outside else request.send
                    told.append(await send(method, params))
                except turnout.Error as error:
                    world.errors.append(error)
                    raise turnout.RequestError(-32050, "nobody was asked") from None
            request.progress(1)
            return {"content": [], "who": request.params["arguments"]["who"], "told": told}

        yield world


async def ask(client, who, **more):
    """Call the tool."""
    return await client.send("tools/call", {"name": "ask", "arguments": {"who": who}, **more})


def back(asked, **answer):
    """What a client comes back with."""
    return {
        "requestState": asked["requestState"],
        "inputResponses": dict.fromkeys(asked["inputRequests"], answer),
    }


@pytest.mark.parametrize("sharing", ["shared", "pooled", "per_principal"])
@both_loops
async def test_r1_r5_each_modern_client_is_asked_for_its_own_call(sharing):
    async with asking(SAMPLE, ELICIT, sharing=sharing) as world:
        clients = {who: await world.modern(sampling=True, elicitation=True) for who in ("ada", "bob", "eve")}
        first = dict(
            zip(clients, await asyncio.gather(*(ask(c, who) for who, c in clients.items())), strict=True)
        )
        for who, asked in first.items():
            assert asked["resultType"] == "input_required"
            assert asked["inputRequests"] == {"input1": {"method": SAMPLE, "params": {"of": who}}}
        second = {}
        for who in reversed(clients):
            second[who] = await ask(clients[who], who, **back(first[who], said=f"{who} first"))
            assert second[who]["inputRequests"] == {"input2": {"method": ELICIT, "params": {"of": who}}}
        for who, client in clients.items():
            result = await ask(client, who, **back(second[who], said=f"{who} second"))
            assert result["who"] == who
            assert result["told"] == [{"said": f"{who} first"}, {"said": f"{who} second"}]
        counted = world.relay.counters()
        assert (counted["suspended"], counted["resumed"], counted["abandoned"]) == (6, 6, 0)
        assert world.relay.in_flight == 0


@both_loops
async def test_r1_r5_two_calls_of_one_client_are_told_apart():
    async with asking(SAMPLE) as world:
        client = await world.modern(sampling=True)
        asked = [await ask(client, f"call {number}") for number in range(3)]
        for number in reversed(range(3)):
            assert asked[number]["inputRequests"]["input1"]["params"] == {"of": f"call {number}"}
            result = await ask(client, f"call {number}", **back(asked[number], said=number))
            assert (result["who"], result["told"]) == (f"call {number}", [{"said": number}])


@both_loops
async def test_r1_clients_of_both_eras_share_a_server():
    async with asking(ELICIT) as world:
        modern = await world.modern(elicitation=True)
        legacy = await world.legacy({"action": "accept", "content": {"of": "the legacy one"}})
        asked, result = await asyncio.gather(ask(modern, "ada"), ask(legacy, "bob"))
        assert result["told"] == [{"action": "accept", "content": {"of": "the legacy one"}}]
        assert asked["inputRequests"]["input1"]["params"] == {"of": "ada"}
        result = await ask(modern, "ada", **back(asked, action="decline"))
        assert result["told"] == [{"action": "decline"}]


@both_loops
async def test_s3_a_handle_is_good_for_the_client_that_was_asked():
    async with asking(SAMPLE) as world:
        ada, eve = await world.modern(sampling=True), await world.modern(sampling=True)
        asked = await ask(ada, "ada")
        with pytest.raises(turnout.RemoteError) as refused:
            await ask(eve, "eve", **back(asked, said="evil"))
        assert refused.value.data["reason"] == "input_expired"
        assert (await ask(ada, "ada", **back(asked, said="good")))["told"] == [{"said": "good"}]


@pytest.mark.parametrize("able", [{}, {"elicitation": True}])
@both_loops
async def test_r5_a_client_is_not_asked_for_what_it_did_not_offer(able):
    async with asking(SAMPLE) as world:
        client = await world.modern(**able)
        with pytest.raises(turnout.RemoteError, match="nobody was asked"):
            await ask(client, "ada")
        assert [error.code for error in world.errors] == [-32601]


@both_loops
async def test_r3_what_is_asked_on_no_stream_of_a_call_is_refused():
    async with asking(SAMPLE, outside=True) as world:
        client = await world.modern(sampling=True)
        with pytest.raises(turnout.RemoteError, match="nobody was asked"):
            await ask(client, "ada")
        assert [error.code for error in world.errors] == [-32601]


@both_loops
async def test_r5_a_client_that_leaves_has_its_exchange_cancelled():
    async with asking(SAMPLE) as world:
        ada, bob = await world.modern(sampling=True), await world.modern(sampling=True)
        await ask(ada, "ada")
        asked = await ask(bob, "bob")
        await ada.close()
        while not world.errors:
            await asyncio.sleep(0)
        assert (await ask(bob, "bob", **back(asked, said="here")))["told"] == [{"said": "here"}]
        assert world.relay.counters()["abandoned"] == 1
