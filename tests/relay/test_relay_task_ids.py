"""Tasks of several servers behind one relay: an id leads back to the server that made it."""

from __future__ import annotations

import pytest

import turnout
from limit_sides import sides
from loops import both_loops
from relay_lists import PREFIXED
from relay_tasks import about, fault, make, whose, world_of_two
from relay_world import World


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_tsk_34_a_tasks_id_leads_back_to_the_server_that_made_it(era):
    async with World() as world:
        client = await world_of_two(world, era)
        for tool, task in (("a_x", "one"), ("b_x", "two"), ("b_x", 'thr"ée')):
            await make(client, tool, task)
        for method in about(era):
            for task, made_by in (("one", "a"), ("two", "b"), ('thr"ée', "b")):
                assert await whose(client, task, method) == made_by


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_tsk_30_tsx_54_an_id_that_nobody_is_known_to_have_made_goes_nowhere(era):
    async with World() as world:
        client = await world_of_two(world, era, routes=[*PREFIXED, turnout.Route("b")])
        other = await world.client(era)
        await make(client, "a_x", "one")
        for method in about(era):
            assert await fault(client, method, taskId="two") == (-32602, "unknown_task")
            assert await fault(client, method) == (-32602, "unknown_task")
            assert await fault(other, method, taskId="one") == (-32602, "unknown_task"), "its own only"


@pytest.mark.parametrize("era", ["legacy", "modern"])
@both_loops
async def test_tsk_10_an_id_that_two_servers_made_goes_to_neither(era):
    async with World() as world:
        client, other = await world_of_two(world, era), await world.client(era)
        await make(other, "b_x", "1")
        await make(client, "a_x", "1")
        assert (await whose(client, "1"), await whose(other, "1")) == ("a", "b"), "each client has its own"
        await make(client, "a_x", "2")
        await make(client, "b_x", "2")
        for method in about(era):
            assert await fault(client, method, taskId="2") == (-32602, "ambiguous_task")


@both_loops
async def test_s3_a_route_for_tasks_chooses_the_server_and_lends_nobody_a_task():
    async with World() as world:
        client = await world_of_two(world, "legacy", routes=[*PREFIXED, turnout.Route("b", "tasks/get")])
        await make(client, "a_x", "one")
        await make(client, "b_x", "two")
        assert await whose(client, "two") == "b"
        assert await fault(client, "tasks/get", taskId="one") == (-32602, "unknown_task")
        assert await whose(client, "one", "tasks/result") == "a"


@both_loops
async def test_a_policy_sees_what_is_asked_about_a_task_first():
    async with World() as world:
        client = await world_of_two(world, "modern")
        seen = []

        @world.relay.policy.decide("tasks/get")
        async def see(request):
            seen.append(request.params["taskId"])

        await make(client, "a_x", "one")
        assert await whose(client, "one") == "a"
        assert await fault(client, "tasks/get", taskId="two") == (-32602, "unknown_task")
        assert seen == ["one", "two"]


@sides
@both_loops
async def test_max_tasks_below_at_and_above_in_a_relay(over):
    async with World(limits={"max_tasks": 3}) as world:
        client, other = await world_of_two(world, "legacy"), await world.client()
        for task in range(3 + over):
            await make(client, "b_x", str(task))
        await make(other, "a_x", "theirs")
        # The oldest makes room, of this client only.
        assert world.relay.counters()["tasks_forgotten"] == max(over, 0)
        if over > 0:
            assert await fault(client, "tasks/get", taskId="0") == (-32602, "unknown_task")
        for task in range(max(over, 0), 3 + over):
            assert await whose(client, str(task)) == "b"
        assert await whose(other, "theirs") == "a"


@sides
@both_loops
async def test_max_id_bytes_below_at_and_above_for_tasks_in_a_relay(over):
    # A text that is kept may be shorter than an id: a part of an id would be the id of another task.
    async with World(limits={"max_id_bytes": 40, "max_text_bytes": 10}) as world:
        client = await world_of_two(world, "legacy")
        task = "x" * (38 + over)
        await make(client, "b_x", task)
        if over > 0:
            assert await fault(client, "tasks/get", taskId=task) == (-32602, "unknown_task")
            assert await fault(client, "tasks/get", taskId=task[:10]) == (-32602, "unknown_task")
        else:
            assert await whose(client, task) == "b"
