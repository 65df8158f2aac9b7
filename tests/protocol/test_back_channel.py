"""A handler that asks its peer while it works: the question belongs to the request it serves."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from loops import both_loops
from transport_link import pair


@both_loops
async def test_x_10_can_25_cancelling_the_parent_cancels_what_it_asked():
    async with turnout.Router() as router:
        pa, pb = await pair(router)
        asked, stopped = asyncio.Event(), asyncio.Event()

        @pa.on_request("sampling/createMessage")
        async def sample(request):
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

        @pb.on_request("work")
        async def work(request):
            return await request.send("sampling/createMessage")

        call = pa.send("work")
        await asked.wait()
        call.cancel("user left")
        with pytest.raises(turnout.CallCancelled):
            await call
        await stopped.wait()
        (nested,) = router.records.query(method="sampling/createMessage", direction="outbound")
        assert nested.outcome == "cancelled"


@both_loops
async def test_png_01_a_handler_asks_and_gets_its_answer():
    async with turnout.Router() as router:
        pa, pb = await pair(router)

        @pa.on_request("roots/list")
        async def roots(request):
            return {"roots": [1]}

        @pb.on_request("work")
        async def work(request):
            return {"got": await request.peer.send("roots/list")}

        assert await pa.send("work") == {"got": {"roots": [1]}}


@both_loops
async def test_trm_20_a_scope_ends_many_calls_with_one_reason_and_leaves_the_connection():
    async with turnout.Router() as router:
        pa, pb = await pair(router)

        @pb.on_request("hold")
        async def hold(request):
            await asyncio.Event().wait()

        @pb.on_request("quick")
        async def quick(request):
            return 1

        scope = turnout.Scope()
        calls = [pa.send("hold", scope=scope) for _ in range(10)]
        other = pa.send("quick")
        assert scope.cancel("conversation over") == 10
        assert {call.record.cancel_reason for call in calls} == {"conversation over"}
        late = pa.send("hold", scope=scope)
        assert late.record.outcome == "cancelled"
        assert await other == 1


@both_loops
async def test_filters_change_drop_and_refuse():
    async with turnout.Router() as router:
        pa, pb = await pair(router)

        @pb.on_request("work")
        async def work(request):
            return request.params

        @pb.rewrite_incoming("work")
        def seen(method, params):
            if params.get("drop"):
                return turnout.DROP
            if params.get("deny"):
                raise turnout.RequestError(-5, "denied")
            return {**params, "seen": True}

        assert await pa.send("work", {"a": 1}, progress=False) == {"a": 1, "seen": True}
        for params, code in (({"drop": 1}, -32603), ({"deny": 1}, -5)):
            with pytest.raises(turnout.RemoteError) as caught:
                await pa.send("work", params)
            assert caught.value.code == code


@both_loops
async def test_x_07_close_with_everything_in_progress_ends_each_once():
    async with turnout.Router(close_timeout=0.05) as router:
        pa, pb = await pair(router)
        started = asyncio.Event()
        count = 0

        @pb.on_request("*")
        async def hold(request):
            nonlocal count
            count += 1
            if count == 20:
                started.set()
            await asyncio.Event().wait()

        calls = [pa.send(f"m{n}") for n in range(20)]
        waiting = [asyncio.ensure_future(call.wait_ended()) for call in calls]
        await started.wait()
        await pa.close()
        await asyncio.gather(*waiting)
        assert {call.record.outcome for call in calls} == {"closed"}
        assert pa.in_flight == (0, 0)
        assert not any(pa.entries().values())
