"""Verdicts of a relay's policy: what it may say about a request, and that nothing else notices it."""

from __future__ import annotations

import asyncio
import threading

import pytest

import turnout
from loops import both_loops
from relay_world import World, call


@both_loops
async def test_a_policy_lets_pass_rewrites_answers_refuses_or_reroutes():
    async with World() as world:
        relay = world.build(world.upstream(name="a"), world.upstream(name="b"), routes=[turnout.Route("a")])
        asked = []

        @relay.policy.decide("tools/call")
        async def look(request):
            who = request.params["arguments"]["who"]
            asked.append(who)
            if who == "rewrite":
                return turnout.Forward(params={**request.params, "name": "seen"})
            if who == "b":
                return turnout.Forward("b")
            if who == "answer":
                return turnout.Answer({"who": "the policy"})
            if who == "refuse":
                raise turnout.RequestError(-32001, "not you", {"why": "policy"})
            return None

        client = await world.client()

        async def ask(who):
            answer = await client.send("tools/call", call(who=who))
            place = [leg.peer for r in world.gateway.records.query(outcome="result") for leg in r.legs]
            return answer["who"], answer.get("name"), place[-1]

        assert await ask("pass") == ("pass", "echo", "a")
        assert await ask("rewrite") == ("rewrite", "seen", "a")
        assert await ask("b") == ("b", "echo", "b")
        assert (await ask("answer"))[0] == "the policy"
        with pytest.raises(turnout.RemoteError) as caught:
            await ask("refuse")
        assert (caught.value.code, caught.value.data) == (-32001, {"why": "policy"})
        assert asked == ["pass", "rewrite", "b", "answer", "refuse"], "once a request"
        await world.quiet()


@both_loops
async def test_what_a_policy_lets_pass_keeps_its_bytes():
    async with World() as world:
        world.build().policy.decide("big")(lambda _: None)
        seen = []
        world.servers.on_request("big")(lambda request: seen.append(request.raw_params))
        client = await world.raw()
        client.transport.write(b'{"jsonrpc":"2.0","id":1,"method":"big","params":{"n" : 1.50 }}\n')
        await client.until(lambda: client.lines)
        assert seen == [b'{"n" : 1.50 }']


@both_loops
async def test_race_15_a_policy_that_raises_fails_its_own_request():
    async with World() as world:
        relay = world.build()

        @relay.policy.decide("tools/call")
        def look(request):
            if request.params["arguments"]["who"] == "bad":
                raise ZeroDivisionError
            return "nonsense" if request.params["arguments"]["who"] == "odd" else None

        client = await world.client()
        calls = [client.send("tools/call", call(who=who)) for who in ("good", "bad", "odd", "good")]
        for failed in (calls[1], calls[2]):
            with pytest.raises(turnout.RemoteError) as caught:
                await failed
            assert caught.value.code == -32603
        assert [(await calls[i])["who"] for i in (0, 3)] == ["good", "good"]
        await world.quiet()


@pytest.mark.parametrize("kind", ["async", "thread", "stubborn"])
@both_loops
async def test_race_15_a_policy_that_blocks_fails_its_own_request(kind):
    async with World() as world:
        relay = world.build()
        go, woken = threading.Event(), asyncio.Event()

        async def waits(request):
            if request.params["arguments"]["who"] == "bad":
                await asyncio.Event().wait()

        async def swallows(request):
            try:
                await waits(request)
            except asyncio.CancelledError:
                await woken.wait()

        def blocks(request):
            if request.params["arguments"]["who"] == "bad":
                go.wait()

        chosen = {"async": waits, "thread": blocks, "stubborn": swallows}[kind]
        relay.policy.decide("tools/call", timeout=0.05)(chosen)
        client = await world.client()
        calls = [client.send("tools/call", call(who=who)) for who in ("good", "bad", "good")]
        try:
            with pytest.raises(turnout.RemoteError) as caught:
                await calls[1]
            assert caught.value.data == {"reason": "policy_timeout", "sent": False}
            assert [(await calls[i])["who"] for i in (0, 2)] == ["good", "good"]
            await world.quiet()
        finally:
            go.set()
            woken.set()


@both_loops
async def test_a_cancel_stops_the_policy_and_leaves_no_trace_upstream():
    async with World() as world:
        relay = world.build()
        began, stopped = asyncio.Event(), asyncio.Event()

        @relay.policy.decide("tools/call")
        async def look(_):
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        client = await world.client()
        sent = client.send("tools/call", call(who="x"))
        await began.wait()
        sent.cancel()
        await stopped.wait()
        await world.quiet()
        assert world.servers.records.query(method="tools/call") == []


@both_loops
async def test_other_traffic_does_not_notice_a_policy():
    async with World() as world:
        relay = world.build()
        asked = []
        client = await world.client()
        # A policy may come after the clients.
        relay.policy.decide("prompts/get")(asked.append)
        world.servers.on_request("prompts/get")(lambda _: {})
        before = relay.counters()
        for sent in [client.send("tools/call", call(who=str(n), steps=2)) for n in range(100)]:
            await sent
        after = relay.counters()
        assert after["to_host"] == before["to_host"], "no frame of another method reaches Python"
        assert after["forwarded"] == before["forwarded"] + 100
        await client.send("prompts/get", {})
        assert (len(asked), relay.counters()["to_host"]) == (1, before["to_host"] + 1)


@both_loops
async def test_a_policy_sees_what_the_relay_itself_answers():
    async with World() as world:
        relay = world.build()

        @relay.policy.decide("initialize")
        async def look(request):
            if request.params["clientInfo"]["name"] != "client":
                raise turnout.RequestError(-32001, "unknown client")

        assert (await world.client()).server_info["name"] == "echo"
        near, far = turnout.memory()
        relay.attach(await world.gateway.connect(far, era=None))
        with pytest.raises(turnout.HandshakeFailed, match="unknown client"):
            await world.servers.connect(near, era="legacy")


@both_loops
async def test_a_handler_answers_a_method_without_a_route():
    async with World() as world:
        relay = world.build(routes=[turnout.Route("echo", "tools/call")])
        relay.on_request("gateway/status")(lambda _: {"fine": True})
        assert await (await world.client()).send("gateway/status") == {"fine": True}


@both_loops
async def test_two_functions_for_one_method_are_refused():
    async with World() as world:
        relay = world.build()

        def look(_):
            return None

        assert relay.policy.decide("tools/call")(look) is look, "it is a decorator"
        with pytest.raises(ValueError, match="decides about tools/call already"):
            relay.policy.decide("tools/call")(lambda _: None)


@pytest.mark.parametrize("kind", ["policy", "handler behind a policy"])
@both_loops
async def test_s5_a_function_that_looks_into_an_empty_iterator_is_answered(kind):
    """asyncio takes no `StopIteration` for the end of a future: whoever waits for it would wait for ever."""

    def looks(_):
        return next(iter(()))

    async with World() as world:
        relay = world.build()
        if kind == "policy":
            relay.policy.decide("bad")(looks)
        else:
            relay.policy.decide("bad")(lambda _: None)
            relay.on_request("bad")(looks)
        client = await world.client()
        with pytest.raises(turnout.RemoteError, match="Internal error") as caught:
            await client.send("bad", timeout=10)
        assert caught.value.code == -32603
        await world.quiet()
