"""Whose a task is, before servers that clients share: it works for the one that made it, and for its principal."""

from __future__ import annotations

import asyncio

import pytest

import turnout
from limit_sides import sides
from loops import both_loops
from relay_by_hand import Played
from relay_lists import PREFIXED
from relay_tasks import ABOUT, TASKS, about, fault, make, makes, whose
from relay_world import World
from wire import notification, request, result

UNKNOWN = (-32602, "unknown_task")
ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])


async def world_of_one(world, era, **options):
    """A relay before one upstream that makes tasks; gives what its servers were asked about tasks."""
    turnout.serve_handshake(world.servers, name="echo", capabilities={"tools": {}, "tasks": TASKS})
    world.build(world.server("a", makes("a", era), era=era, **options))
    asked = []
    for method in (*ABOUT, "tasks/list"):
        world.servers.rewrite_incoming(method)(lambda method, params: asked.append((method, params)))
    return asked


@ERAS
@pytest.mark.parametrize("sharing", ["shared", "pooled"])
@both_loops
async def test_s3_tsk_54_tsk_55_tsx_55_another_clients_task_is_as_one_that_is_not_there(era, sharing):
    async with World() as world:
        asked = (
            await world_of_one(world, era, sharing=sharing, pool=1)
            if sharing == "pooled"
            else (await world_of_one(world, era, sharing=sharing))
        )
        owner, other = await world.client(era), await world.client(era)
        await make(owner, "x", "t1")
        for method in about(era):
            with pytest.raises(turnout.RemoteError) as foreign:
                await other.send(method, {"taskId": "t1"})
            with pytest.raises(turnout.RemoteError) as unknown:
                await other.send(method, {"taskId": "t2"})
            assert (foreign.value.code, foreign.value.data["reason"]) == UNKNOWN
            answers = [(e.value.code, e.value.message, e.value.data) for e in (foreign, unknown)]
            assert answers[0] == answers[1], "whether there is one is not told"
        assert asked == [], "the server hears of none of it"
        for method in about(era):
            assert await whose(owner, "t1", method) == "a"
        assert world.relay.counters()["unowned"] == 2 * len(about(era))


@ERAS
@both_loops
async def test_s3_tsk_54_a_principal_has_its_tasks_on_all_its_connections_and_between_them(era):
    async with World() as world:
        await world_of_one(world, era)
        first, second = [await world.client(era, principal="ada") for _ in range(2)]
        stranger, nobody = await world.client(era, principal="bob"), await world.client(era)
        await make(first, "x", "t1")
        assert await whose(second, "t1") == "a"
        for client in (first, second):
            await client.close()
        await world.until(lambda: len(world.relay.clients) == 2)
        again = await world.client(era, principal="ada")
        assert await whose(again, "t1", "tasks/cancel") == "a"
        for client in (stranger, nobody):
            assert await fault(client, "tasks/cancel", taskId="t1") == UNKNOWN


@ERAS
@both_loops
async def test_s3_tsk_54_without_a_principal_a_task_is_lost_with_its_connection(era):
    async with World() as world:
        await world_of_one(world, era)
        client = await world.client(era)
        await make(client, "x", "t1")
        await client.close()
        await world.until(lambda: not world.relay.clients)
        again = await world.client(era)
        assert await fault(again, "tasks/get", taskId="t1") == UNKNOWN


@ERAS
@pytest.mark.parametrize("sharing", ["per_client", "per_principal"])
@both_loops
async def test_s3_before_a_server_of_ones_own_everything_passes_as_it_is(era, sharing):
    async with World() as world:
        asked = await world_of_one(world, era, sharing=sharing)
        client = await world.client(era, principal="ada")
        listed = {"tasks": [{"taskId": "from before"}], "nextCursor": "c"}
        world.servers.on_request("tasks/list")(lambda request: listed)
        for method in about(era):
            assert await whose(client, "from before", method) == "a"
        if era == "modern":
            # The extension of 2026-07-28 has no list of tasks.
            with pytest.raises(turnout.RemoteError) as refused:
                await client.send("tasks/list", {"cursor": "b"})
            assert refused.value.code == -32601
            assert [method for method, _ in asked] == about(era)
            return
        assert await client.send("tasks/list", {"cursor": "b"}) == listed
        assert [method for method, _ in asked] == [*about(era), "tasks/list"]
        assert asked[-1][1]["cursor"] == "b"


@ERAS
@both_loops
async def test_s3_tsk_54_an_id_of_one_server_gives_nothing_at_another(era):
    """A hostile server hands out an id that it guessed to be one of another server's."""
    async with World() as world:
        turnout.serve_handshake(world.servers, name="echo", capabilities={"tools": {}, "tasks": TASKS})
        world.build(*(world.server(label, makes(label, era), era=era) for label in "ab"), routes=PREFIXED)
        owner, other = await world.client(era), await world.client(era)
        await make(owner, "a_x", "t1")
        await make(other, "b_x", "t1")
        for method in about(era):
            assert (await whose(other, "t1", method), await whose(owner, "t1", method)) == ("b", "a")


@ERAS
@both_loops
async def test_s3_tsk_10_an_id_that_one_server_gives_to_two_clients_is_nobodys(era):
    async with World() as world:
        asked = await world_of_one(world, era)
        owner, other, third = [await world.client(era) for _ in range(3)]
        for client in (owner, other, third):
            await make(client, "x", "t1")
            await make(client, "x", f"of {id(client)}")
        for client in (owner, other, third):
            for method in about(era):
                assert await fault(client, method, taskId="t1") == UNKNOWN
        assert asked == []
        assert await whose(other, f"of {id(other)}") == "a"


@ERAS
@both_loops
async def test_s3_tsk_10_after_a_restart_a_repeated_id_is_the_newer_tasks(era):
    async with World() as world:
        await world_of_one(world, era)
        owner, other = await world.client(era), await world.client(era)
        await make(owner, "x", "1")
        await make(owner, "x", "durable")
        await world.relay.renew("a", drain=1.0)
        assert await whose(owner, "durable") == "a", "a server may know its tasks after a restart"
        await make(other, "x", "1")
        assert await whose(other, "1") == "a"
        assert await fault(owner, "tasks/get", taskId="1") == UNKNOWN
        # What the former owner had makes no room, and takes none, when it leaves.
        await owner.close()
        await world.until(lambda: len(world.relay.clients) == 1)
        assert await whose(other, "1") == "a"


@both_loops
async def test_s3_tsk_10_a_connection_that_was_replaced_gives_nobody_a_task():
    """Its successor may have given the id to somebody, who left since."""
    async with World() as world:
        await world_of_one(world, "legacy")
        client = await world.client()
        begun, go_on = asyncio.Event(), asyncio.Event()

        @world.servers.peers[0].on_request("tools/call")
        async def call(request):
            begun.set()
            await go_on.wait()
            return {"task": {"taskId": "late", "status": "working"}}

        made = asyncio.ensure_future(make(client, "x", "late"))
        await begun.wait()
        place = next(iter(world.relay._clients)).sessions[0]
        before = place.peer
        renewed = asyncio.ensure_future(world.relay.renew("a", drain=10.0))
        await world.until(lambda: place.peer is not before)
        await make(client, "x", "new")
        go_on.set()
        assert (await made)["task"]["taskId"] == "late"
        await renewed
        assert await fault(client, "tasks/get", taskId="late") == UNKNOWN
        assert await whose(client, "new") == "a"


@both_loops
async def test_s3_tsk_54_a_principal_keeps_to_one_connection_of_a_pool():
    async with World() as world:
        await world_of_one(world, "legacy", sharing="pooled", pool=3)
        for principal in ("ada", "bob", "eve"):
            client = await world.client(principal=principal)
            await make(client, "x", f"of {principal}")
            await client.close()
        await world.until(lambda: not world.relay.clients)
        for principal in ("eve", "ada", "bob"):
            client = await world.client(principal=principal)
            assert await whose(client, f"of {principal}") == "a"


@both_loops
async def test_s3_a_policy_or_a_handler_that_passes_it_on_lends_nobody_a_task():
    async with World() as world:
        asked = await world_of_one(world, "legacy")
        owner, other = await world.client(), await world.client()
        await make(owner, "x", "t1")
        world.relay.policy.decide("tasks/get")(lambda request: turnout.Forward("a", {"taskId": "t1"}))

        @world.relay.on_request("tasks/result")
        async def handle(request):
            await world.relay.forward(request, "a")

        for method in ("tasks/get", "tasks/result"):
            assert await fault(other, method, taskId="t1") == UNKNOWN
        assert asked == []
        assert await whose(owner, "anything") == "a"


@both_loops
async def test_s3_tsk_09_a_result_that_only_looks_like_a_task_gives_nobody_one():
    """What a client put into its arguments, and a server echoes, is no task."""
    async with Played() as world:
        await world.build().start()
        owner, other = await world.client(), await world.client()
        server = await world.server(0)
        task = {"taskId": "t1", "status": "working"}
        owner.say(request(1, "tools/call", {"name": "x", "task": {}}))
        server.say(result((await server.hears_one())["id"], {"task": task}))
        await owner.hears_one()
        for method, params in (
            ("tools/call", {"name": "x"}),
            ("prompts/get", {"task": {}}),
            ("echo", {}),
        ):
            other.say(request(1, method, params))
            server.say(result((await server.hears_one())["id"], {"task": task, **task}))
            await other.hears_one()
        other.say(request(2, "tasks/get", {"taskId": "t1"}))
        assert (await other.hears_one())["error"]["code"] == -32602
        owner.say(request(2, "tasks/get", {"taskId": "t1"}))
        assert (await server.hears_one())["params"] == {"taskId": "t1"}, "and takes none from its owner"


@both_loops
async def test_s3_an_answer_about_another_task_than_ones_own_is_not_passed_on():
    async with Played() as world:
        await world.build().start()
        client, server = await world.client(), await world.server(0)
        client.say(request(1, "tools/call", {"name": "x", "task": {}}))
        server.say(result((await server.hears_one())["id"], {"task": {"taskId": "mine"}}))
        await client.hears_one()
        for number, (task, is_told) in enumerate([("mine", True), ("another's", False), (7, False)], 2):
            client.say(request(number, "tasks/get", {"taskId": "mine"}))
            server.say(result((await server.hears_one())["id"], {"taskId": task, "status": "working"}))
            assert ("result" in await client.hears_one()) is is_told


@both_loops
async def test_s3_a_list_does_not_tell_of_a_task_that_became_anothers_while_it_was_asked_for():
    async with Played() as world:
        await world.build().start()
        owner, other = await world.client(), await world.client()
        server = await world.server(0)
        owner.say(request(1, "tools/call", {"task": {}}))
        server.say(result((await server.hears_one())["id"], {"task": {"taskId": "t1"}}))
        await owner.hears_one()
        owner.say(request(2, "tasks/list"))
        asked = await server.hears_one()
        assert (asked["method"], asked["params"]) == ("tasks/get", {"taskId": "t1"})
        other.say(request(1, "tools/call", {"task": {}}))
        server.say(
            result((await server.hears_one())["id"], {"task": {"taskId": "t1"}}),
            result(asked["id"], {"taskId": "t1", "statusMessage": "whose?"}),
        )
        assert (await owner.hears_one())["result"] == {"tasks": []}


@pytest.mark.parametrize("spelled", ['"\\ud83d"', '"a\\ud83d"', "7", "null", '["t1"]', '{"taskId":"t1"}'])
@both_loops
async def test_s3_an_id_that_is_no_text_is_nobodys(spelled):
    """Two lone surrogates would read alike."""
    async with Played() as world:
        await world.build().start()
        client, server = await world.client(), await world.server(0)
        client.say(request(1, "tools/call", {"name": "x", "task": {}}))
        number = (await server.hears_one())["id"]
        server.say(
            b'{"jsonrpc":"2.0","id":%d,"result":{"task":{"taskId":%s}}}\n' % (number, spelled.encode())
        )
        await client.hears_one()
        params = b'{"taskId":%s}' % spelled.encode()
        client.say(b'{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":%s}\n' % params)
        assert (await client.hears_one())["error"]["data"]["reason"] == "unknown_task"
        assert server.unread == []


# ---- lists ----


async def listed(client, **params):
    answer = await client.send("tasks/list", params)
    return [task["taskId"] for task in answer["tasks"]], answer.get("nextCursor")


def gone(world, *ids, of="a"):
    """Have the servers know nothing of these tasks any more."""
    for peer in world.servers.peers:

        @peer.on_request("tasks/get")
        async def get(request):
            task = request.params["taskId"]
            if task in ids:
                raise turnout.RequestError(-32602, "no such task")
            return {"taskId": task, "status": "working", "_meta": {"of": of}}


@both_loops
async def test_s3_tsk_54_a_list_of_tasks_holds_ones_own_only():
    async with World() as world:
        asked = await world_of_one(world, "legacy")
        owner, other, ada = (
            await world.client(),
            await world.client(),
            await world.client(principal="ada"),
        )
        for client, task in ((owner, "t1"), (other, "t2"), (owner, "t3"), (ada, "t4")):
            await make(client, "x", task)
        assert await listed(owner) == (["t1", "t3"], None)
        assert await listed(other) == (["t2"], None)
        assert await listed(await world.client(principal="ada")) == (["t4"], None)
        assert await listed(await world.client()) == ([], None)
        assert "tasks/list" not in {method for method, _ in asked}, "a server would list everybody's"


@both_loops
async def test_s3_tsk_01_the_tasks_of_several_servers_are_listed_together():
    async with World() as world:
        turnout.serve_handshake(world.servers, name="echo", capabilities={"tools": {}, "tasks": TASKS})
        world.build(*(world.server(label, makes(label, "legacy")) for label in "ab"), routes=PREFIXED)
        client, other = await world.client(), await world.client()
        assert client.server_capabilities["tasks"] == TASKS
        for who, tool, task in ((client, "a_x", "1"), (client, "b_x", "2"), (other, "b_x", "3")):
            await make(who, tool, task)
        answer = await client.send("tasks/list")
        assert answer == {"tasks": [{"of": "a", "taskId": "1"}, {"of": "b", "taskId": "2"}]}


@both_loops
async def test_s3_a_list_has_pages_and_its_cursors_say_nothing_of_others():
    async with World() as world:
        await world_of_one(world, "legacy")
        owner, other = await world.client(), await world.client()
        for number in range(40):
            await make(other, "x", f"secret {number}")
            await make(owner, "x", str(number))
        gone(world, "3", "20")
        pages, cursors, cursor = [], [], {}
        while cursor is not None:
            page, at = await listed(owner, **cursor)
            pages.append(page)
            cursors.append(at)
            cursor = None if at is None else {"cursor": at}
        assert [task for page in pages for task in page] == [str(n) for n in range(40) if n not in (3, 20)]
        assert [len(page) for page in pages] == [15, 15, 8]
        assert cursors == ["16", "32", None], "its own count, whatever others do"
        # What a server knows no more is forgotten.
        assert [len((await listed(owner))[0]), await fault(owner, "tasks/get", taskId="3")] == [
            16,
            UNKNOWN,
        ]
        assert await listed(other, cursor="1000") == ([], None)
        for cursor in ("", "-1", "x", "1.0", "9" * 20, "\u0661", 7, ["16"]):
            assert (await fault(owner, "tasks/list", cursor=cursor))[0] == -32602


@both_loops
async def test_s3_a_list_says_what_is_missing_and_takes_no_answer_about_another_task():
    async with World() as world:
        turnout.serve_handshake(world.servers, name="echo", capabilities={"tools": {}, "tasks": TASKS})

        def lies(peer):
            makes("b", "legacy")(peer)
            peer.on_request("tasks/get")(lambda request: {"taskId": "another's", "status": "working"})

        world.build(world.server("a", makes("a", "legacy")), world.server("b", lies), routes=PREFIXED)
        client = await world.client()
        await make(client, "a_x", "1")
        await make(client, "b_x", "2")
        answer = await client.send("tasks/list")
        assert answer["tasks"] == [{"of": "a", "taskId": "1"}]
        missing = answer["_meta"]["turnout/missing"]
        assert missing == [{"upstream": "b", "reason": "invalid_answer"}]


@both_loops
async def test_s3_no_list_of_tasks_where_no_server_has_one():
    async with World() as world:
        world.build()
        assert (await fault(await world.client(), "tasks/list"))[0] == -32601
    async with World() as world:
        await world_of_one(world, "modern")
        assert (await fault(await world.client("modern"), "tasks/list"))[0] == -32601, (
            "the extension has none"
        )


@both_loops
async def test_s3_a_route_that_would_list_the_tasks_of_all_is_refused():
    async with World() as world:
        routes = [turnout.Route("a", "tasks/list"), turnout.Route("a")]
        with pytest.raises(ValueError, match="would list the tasks of all its clients"):
            world.build(world.upstream(name="a"), routes=routes)
        world.build(world.upstream(name="a", sharing="per_client"), routes=routes)
        world.servers.on_request("tasks/list")(lambda request: {"tasks": []})
        assert await (await world.client()).send("tasks/list") == {"tasks": []}


# ---- notifications ----


@both_loops
async def test_s3_tsk_40_the_status_of_a_task_is_told_to_its_owner_only():
    async with Played() as world:
        await world.build().start()
        owner, other = await world.client(), await world.client()
        server = await world.server(0)
        owner.say(request(1, "tools/call", {"name": "x", "task": {}}))
        server.say(result((await server.hears_one())["id"], {"task": {"taskId": "t1"}}))
        await owner.hears_one()
        for task in ("t1", "t2", 7):
            status = {"taskId": task, "status": "completed"}
            server.say(notification("notifications/tasks/status", status))
        assert (await owner.hears_one())["params"]["taskId"] == "t1"
        for client in (owner, other):
            await world.settle(client, server)
            assert client.unread == []


@both_loops
async def test_s3_tsk_40_every_connection_of_a_principal_is_told():
    async with World() as world:
        await world_of_one(world, "legacy")
        heard = []
        clients = [await world.client(principal=principal) for principal in ("ada", "ada", "bob", None)]
        for number, client in enumerate(clients):
            client.on_notification("notifications/tasks/status")(
                lambda notification, number=number: heard.append((number, notification.params["taskId"]))
            )
        await make(clients[0], "x", "t1")
        await make(clients[2], "x", "t2")
        for task in ("t1", "t2"):
            world.servers.peers[0].notify("notifications/tasks/status", {"taskId": task, "status": "working"})
        await world.until(lambda: len(heard) == 3)
        assert sorted(heard) == [(0, "t1"), (1, "t1"), (2, "t2")]


@pytest.mark.parametrize("ids", [["t1"], ["t2", "t1"], "t1", [7], {"t1": 1}])
@both_loops
async def test_s3_tsx_49_tsx_55_a_listen_for_anothers_task_is_refused(ids):
    async with World() as world:
        await world_of_one(world, "modern")
        listens = []
        world.servers.on_request("subscriptions/listen")(lambda request: listens.append(request))
        owner, other = await world.client("modern"), await world.client("modern")
        await make(owner, "x", "t1")
        await make(other, "x", "t2")
        assert await fault(other, "subscriptions/listen", notifications={"taskIds": ids}) == UNKNOWN
        assert listens == []


@pytest.mark.parametrize(
    "wanted",
    [
        '"notifications":{"taskIds":["t2"],"taskIds":["t1"]}',
        '"notifications":{"taskIds":["t2"],"TaskIds":["t1"]}',
        '"notifications":{"taskIds":["t2"],"tas\u212aIds":["t1"]}',
        '"notifications":{"taskIds":["t2"]},"notifications":{"taskIds":["t1"]}',
        '"notifications":{"taskIds":["t2"]},"Notifications":{"taskIds":["t1"]}',
        '"Notifications":{"taskIds":["t1"]}',
    ],
)
@both_loops
async def test_s2_s3_a_listen_in_which_readers_find_different_tasks_is_refused(wanted):
    async with World() as world:
        await world_of_one(world, "modern")
        listens = []
        world.servers.on_request("subscriptions/listen")(lambda request: listens.append(request))
        owner, other = await world.client("modern"), await world.client("modern")
        await make(owner, "x", "t1")
        await make(other, "x", "t2")
        with pytest.raises(turnout.RemoteError):
            await other.send("subscriptions/listen", b"{%s}" % wanted.encode())
        assert listens == []


@both_loops
async def test_s3_tsx_49_a_listen_hears_of_its_own_clients_tasks_only():
    async with World() as world:
        await world_of_one(world, "modern")
        listens = []

        @world.servers.on_request("subscriptions/listen")
        async def listen(request):
            listens.append(request)
            request.notify("notifications/subscriptions/acknowledged", request.params["notifications"])
            await request.wait_cancelled()

        owner, other = await world.client("modern"), await world.client("modern")
        heard = []
        for client in (owner, other):
            client.on_notification("notifications/tasks")(
                lambda notification, client=client: heard.append((client, notification.params["taskId"]))
            )
        await make(owner, "x", "t1")
        await make(other, "x", "t2")
        for client, task in ((owner, "t1"), (other, "t2")):
            client.send("subscriptions/listen", {"notifications": {"taskIds": [task]}})
        await world.until(lambda: len(listens) == 2)
        for listen_ in listens:
            for task in ("t1", "t2"):
                listen_.notify("notifications/tasks", {"taskId": task, "status": "working"})
        await world.until(lambda: len(heard) == 2)
        assert heard == [(owner, "t1"), (other, "t2")]
        assert world.relay.counters()["notifications_dropped"] == 2


# ---- what is remembered of those who are away ----


@sides
@both_loops
async def test_max_absent_tasks_below_at_and_above(over):
    async with World(limits={"max_absent_tasks": 6}) as world:
        await world_of_one(world, "legacy")
        # Two with one task each, and one with a task or two more or less: each of them counts for one, too.
        for principal, count in (("ada", 1), ("bob", 1), ("eve", 1 + over)):
            client = await world.client(principal=principal)
            for number in range(count):
                await make(client, "x", f"{principal} {number}")
            await client.close()
            await world.until(lambda: not world.relay.clients)
        forgotten = over > 0
        assert world.relay.counters()["tasks_forgotten"] == int(forgotten)
        clients = {principal: await world.client(principal=principal) for principal in ("ada", "bob", "eve")}
        if forgotten:
            assert await fault(clients["ada"], "tasks/get", taskId="ada 0") == UNKNOWN, "away longest"
        else:
            assert await whose(clients["ada"], "ada 0") == "a"
        assert await whose(clients["bob"], "bob 0") == "a"
        for number in range(1 + over):
            assert await whose(clients["eve"], f"eve {number}") == "a"


@both_loops
async def test_a_principal_that_is_there_is_not_forgotten_however_many_are_away():
    async with World(limits={"max_absent_tasks": 1}) as world:
        await world_of_one(world, "legacy")
        there = await world.client(principal="ada")
        await make(there, "x", "t1")
        for number in range(5):
            client = await world.client(principal=number)
            await make(client, "x", f"of {number}")
            await client.close()
        # One of two leaves: the other is there.
        await (await world.client(principal="ada")).close()
        await world.until(lambda: len(world.relay.clients) == 1)
        await asyncio.sleep(0)
        assert await whose(there, "t1") == "a"
        assert world.relay.counters()["tasks_forgotten"] == 5
