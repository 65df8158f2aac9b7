"""What callbacks of a relay may raise: no other client's request hangs or is lost for it (S4, S5)."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from raising import EXCEPTIONS, EXITS, Bang, run
from relay_by_hand import Played, Target
from relay_world import World, call
from wire import request, result

pytestmark = [
    pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda kind: kind.__name__),
]

KINDS = ["policy", "policy in a thread", "handler", "handler in a thread", "handler behind a policy"]


@pytest.mark.parametrize("kind", KINDS)
def test_s4_s5_what_decides_about_a_request_of_a_relay_fails_that_one_only(loop_kind, raised, kind):
    bang = Bang(raised)

    async def main():
        async with World() as world:
            relay = world.build()

            async def later(_):
                await asyncio.sleep(0)
                bang()

            if kind == "policy":
                relay.policy.decide("bad")(later)
            elif kind == "policy in a thread":
                relay.policy.decide("bad")(bang)
            elif kind == "handler":
                relay.on_request("bad")(later)
            else:
                relay.on_request("bad")(bang)
            if kind == "handler behind a policy":
                relay.policy.decide("bad")(lambda _: None)
            client, other = await world.client(), await world.client()
            calls = [client.send("tools/call", call(who="a")), client.send("bad")]
            calls += [client.send("tools/call", call(who="b")), other.send("tools/call", call(who="c"))]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert [ends[n]["who"] for n in (0, 2, 3)] == ["a", "b", "c"]
            assert isinstance(ends[1], turnout.RemoteError)
            assert ends[1].code == -32603
            await world.quiet()

    _, _, exits = run(loop_kind, main())
    assert bang.calls == 1
    in_thread = kind in ("policy in a thread", "handler in a thread", "handler behind a policy")
    assert exits == ([bang.error] if issubclass(raised, EXITS) and not in_thread else [])


@pytest.mark.parametrize("kind", ["rewrite of the client", "observer of the server", "records", "file"])
def test_s4_what_is_carried_over_is_carried_over_whatever_a_callback_raises(loop_kind, raised, kind):
    """Answers to several clients stand in one read of a server's; requests to it in one read of a client's."""
    bang = Bang(raised)

    async def main():
        async with Played() as world:
            relay = world.build()
            await relay.start()
            server = await world.server(0)
            [upstream] = world.gateway.peers
            if kind == "rewrite of the client":
                relay.rewrite_incoming("bad")(bang)
            elif kind == "observer of the server":
                upstream.on_notification("bad")(bang)
            elif kind == "records":
                upstream.connection.follow_records(bang, every=True)
            else:
                world.gateway.records.write(type("File", (), {"write": bang, "flush": lambda: None}))
            clients = [await world.client() for _ in range(3)]
            for client in clients:
                client.say(request("one", "one"), request("bad", "bad"), request("two", "two"))
            # The rewrite refuses the one request that it raised for.
            asked = await server.hears(8 if kind == "rewrite of the client" else 9)
            noise = b'{"jsonrpc":"2.0","method":"bad"}\n'
            server.say(noise, *(result(frame["id"], {"method": frame["method"]}) for frame in asked))
            for client in clients:
                answers = {}
                while len(answers) < 3:
                    answer = await client.hears_one()
                    if "id" in answer:
                        answers[answer["id"]] = answer
                for id in ("one", "two"):
                    assert answers[id]["result"] == {"method": id}
            assert relay.in_flight == 0
            assert upstream.is_open

    _, told, exits = run(loop_kind, main())
    assert bang.calls >= 1
    is_exit = issubclass(raised, EXITS)
    assert exits == ([bang.error] if is_exit else [])
    assert told.count(bang.error) == (not is_exit)


def test_s4_an_upstream_whose_target_raises_is_answered_for_to_everyone_who_waits_for_it(loop_kind, raised):
    bang = Bang(raised)

    async def main():
        async with Played() as world:
            world.build(turnout.Upstream(lambda: bang() or Target(world), name="one", era=None))
            client = await world.client()
            client.say(*(request(n, "a") for n in range(5)))
            answers = await client.hears(5)
            assert {answer["id"] for answer in answers} == set(range(5))
            assert {answer["error"]["code"] for answer in answers} == {-32603}
            client.say(request("again", "a"))
            server = await world.server(0)
            asked = await server.hears_one()
            server.say(result(asked["id"], {"still": "here"}))
            assert (await client.hears_one())["result"] == {"still": "here"}

    _, _, exits = run(loop_kind, main())
    assert bang.calls == 2
    assert exits == ([bang.error] if issubclass(raised, EXITS) else [])
