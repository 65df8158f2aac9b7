"""Under load: inline methods keep their order, no answer goes astray, and the tables stay small (X-01, X-08)."""

import asyncio

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio

from loops import both_loops
from sdk_streams import emptied, empty, own_records, pair, played, running, turns
from turnout.mcp import Dispatcher


@both_loops
async def test_inline_methods_are_over_before_the_next_message_is_read():
    log = []

    async def handle(ctx, method, params):
        log.append(("begins", method, params["n"]))
        await turns(3 if method == "inline" else params["n"] % 4)
        log.append(("ends", method, params["n"]))
        return {"n": params["n"]}

    async def observe(ctx, method, params):
        log.append(("observed", method, params["n"]))

    log.clear()
    async with pair(handle, on_notify=observe, inline_methods=frozenset({"inline"}), buffer=100) as ends:
        client, server = ends

        async def ask(n):
            if n % 5 == 4:
                await client.notify("note", {"n": n})
                return
            method = "inline" if n % 3 == 0 else "apart"
            assert await client.send_raw_request(method, {"n": n}) == {"n": n}

        async with anyio.create_task_group() as tasks:
            for n in range(300):
                tasks.start_soon(ask, n)
        # Nobody answers a note: the last ones may still be on their way.
        while sum(what != "ends" for what, _, _ in log) < 300:
            await turns(1)
        await emptied(server)
    began = [n for what, _, n in log if what != "ends"]
    assert sorted(began) == list(range(300))
    open_inline = None
    for what, method, n in log:
        if open_inline is None:
            if (what, method) == ("begins", "inline"):
                open_inline = n
        elif (what, method) == ("ends", "inline"):
            assert n == open_inline
            open_inline = None
        else:
            # What came before may go on meanwhile; what comes behind must not be begun.
            assert n < open_inline, f"{what} {method} {n} while {open_inline} was handled inline"
    # Inline requests are handled in the order in which they came.
    inline = [n for what, method, n in log if (what, method) == ("begins", "inline")]
    assert inline == sorted(inline)


@both_loops
async def test_rid_04_a_thousand_requests_at_once_get_each_its_own_answer():
    async with played() as (dispatcher, peer):
        asked = [asyncio.ensure_future(dispatcher.send_raw_request("work", {"n": n})) for n in range(1000)]
        requests = [await peer.hears() for _ in asked]
        assert dispatcher.in_flight == (1000, 0)
        for request in sorted(requests, key=lambda request: (request.id * 7919) % 1009):
            await peer.answers(request.id, {"n": request.params["n"]})
        assert [(await answer)["n"] for answer in asked] == list(range(1000))
        assert empty(dispatcher)
        assert dispatcher.counters()["unmatched_responses"] == 0


@both_loops
async def test_x_08_many_peers_with_the_same_ids_do_not_meet():
    records = own_records()
    dispatchers = []

    async def talk(n):
        async def handle(ctx, method, params):
            await turns(params["m"] % 4)
            return {"from": n, "m": params["m"]}

        to_server, from_client = anyio.create_memory_object_stream(1)
        to_client, from_server = anyio.create_memory_object_stream(1)
        client = Dispatcher(from_server, to_server, records=records)
        server = Dispatcher(from_client, to_client, records=records)
        dispatchers.extend((client, server))
        async with running(server, handle), running(client):

            async def ask(m):
                assert await client.send_raw_request("work", {"m": m}) == {"from": n, "m": m}

            async with anyio.create_task_group() as tasks:
                for m in range(20):
                    tasks.start_soon(ask, m)

    async with anyio.create_task_group() as tasks:
        for n in range(100):
            tasks.start_soon(talk, n)
    assert len(dispatchers) == 200
    assert all(empty(dispatcher) for dispatcher in dispatchers)
    assert records.counts["result"] == 2 * 100 * 20


@both_loops
async def test_x_01_ten_thousand_requests_leave_the_tables_as_they_were():
    give_up = {}

    async def handle(ctx, method, params):
        if method == "long":
            give_up.pop(params["caller"]).cancel()
            await anyio.sleep_forever()
        return {}

    async with pair(handle, buffer=100) as (client, server):

        async def ask(count):
            for n in range(count):
                if n % 10:
                    await client.send_raw_request("work", None)
                    continue
                with anyio.CancelScope() as scope:
                    give_up[id(scope)] = scope
                    await client.send_raw_request("long", {"caller": id(scope)})

        async def burst(each):
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(ask, each)
            await emptied(client)
            await emptied(server)

        await burst(10)
        most = client.memory + server.memory
        await burst(200)
        # Room for late answers is used up to its bound, and no further.
        assert client.memory + server.memory < most + (64 << 10)
        assert client.counters()["requests_out"] == server.counters()["requests_in"] == 10_500
        assert server.records.counts["cancelled"] == client.records.counts["cancelled"] == 1_050
