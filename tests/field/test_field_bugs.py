"""25 bugs of other implementations, one test each, named after the thread where people met them.

Where a thread is about Streamable HTTP, its test takes what of it can happen on a byte stream.
"""

from __future__ import annotations

import asyncio

import pytest

import ledger
import turnout
from loops import both_loops
from transport_link import pair
from wire import MODERN, REVISIONS, Raw, Wire, cancelled, error, kinds, outcome, progress, request, result

THREADS = (
    "python-sdk#2507", "csharp-sdk#1365", "rust-sdk#1193", "java-sdk#130", "rust-sdk#857",
    "go-sdk#1259", "python-sdk#1152", "python-sdk#2610", "claude-code#51073",
    "typescript-sdk#2433", "python-sdk#3137", "claude-code#39396", "go-sdk#1253", "leantoken#499",
    "rust-sdk#1251", "typescript-sdk#820",
    "typescript-sdk#2580", "claude-code#47765", "devprojex#382", "python-sdk#953",
    "typescript-sdk#2695", "go-sdk#1150", "opencode#35275",
    "java-sdk#1133", "go-sdk#1160",
)  # fmt: skip
"""By theme: the cancel does not arrive, is answered, ids are confused, progress, timeouts, leaks and hangs."""


def test_every_thread_has_its_test():
    assert len(THREADS) == len(set(THREADS)) == 25
    names = [test.rpartition("::")[2] + "_" for test in ledger.python_tests()]
    for thread in THREADS:
        slug = "_" + thread.replace("-", "_").replace("#", "_") + "_"
        assert any(slug in name for name in names), thread


@both_loops
async def test_python_sdk_2507_x_08_fifty_cancelled_calls_leave_no_handler():
    async with turnout.Router() as router:
        pa, pb = await pair(router)
        running, all_running, none_left = set(), asyncio.Event(), asyncio.Event()

        @pb.on_request("hold")
        async def hold(request):
            running.add(request.id)
            if len(running) == 50:
                all_running.set()
            try:
                await asyncio.Event().wait()
            finally:
                running.discard(request.id)
                if not running:
                    none_left.set()

        calls = [pa.send("hold") for _ in range(50)]
        await all_running.wait()
        for call in calls:
            call.cancel()
        await none_left.wait()
        assert pb.in_flight == (0, 0)


@pytest.mark.parametrize("role", ["client", "server"])
def test_java_sdk_130_can_01_every_method_is_cancellable_in_both_directions(role):
    wire = Wire(role=role)
    for n, method in enumerate(("tools/call", "sampling/createMessage", "roots/list", "x/y")):
        asked = wire.ask(n, method)
        wire.take(cancelled(n))
        assert asked.cancelled is True
        call = wire.call(method)
        assert call.cancel() is True


@pytest.mark.parametrize("late", ["return", "raise", "stop"])
def test_go_sdk_1259_can_13_silence_after_a_cancel(late):
    wire = Wire()
    asked = wire.ask(1)
    wire.take(cancelled(1))
    {"return": lambda: asked.respond({}), "raise": lambda: asked.fail(-1, "x"), "stop": asked.stopped}[late]()
    assert wire.written() == []


def test_python_sdk_1152_can_18_exactly_one_terminal_message_in_every_order():
    import itertools

    steps = ("cancel", "respond", "fail", "cancel")
    for order in set(itertools.permutations(steps)):
        wire = Wire()
        asked = wire.ask(1)
        for step in order:
            if step == "cancel":
                wire.take(cancelled(1))
            elif step == "respond":
                asked.respond({})
            else:
                asked.fail(-1, "x")
        assert len(wire.written()) == (0 if order[0] == "cancel" else 1), order
        assert wire.at_rest


def test_claude_code_51073_x_05_a_late_answer_never_closes_anything():
    wire = Wire(role="client")
    call = wire.call()
    call.cancel()
    wire.raw()
    assert kinds(wire.take(result(call.id), result(12345), error("x"))) == [
        "LateResponse",
        "Unmatched",
        "Unmatched",
    ]
    assert not wire.connection.is_over
    assert wire.answers


@pytest.mark.parametrize(("first", "second"), [(5, 5), (6, "6"), ("6", 6)])
def test_typescript_sdk_2433_python_sdk_3137_rid_05_a_repeated_id_gives_nobody_anothers_result(first, second):
    wire = Wire(role="server")
    one = wire.ask(first)
    others = wire.take(request(second))
    if first == second:
        assert others == []
        wire.raw()
    else:
        others[0].respond({"second": 1})
        assert wire.written()[0] == {"jsonrpc": "2.0", "id": second, "result": {"second": 1}}
    one.respond({"first": 1})
    assert wire.written() == [{"jsonrpc": "2.0", "id": first, "result": {"first": 1}}]


def test_claude_code_39396_rid_05_a_client_that_calls_everything_1_is_served():
    wire = Wire(role="server")
    for n in range(10):
        wire.ask(1).respond({"n": n})
    assert [m["result"]["n"] for m in wire.written()] == list(range(10))


@pytest.mark.parametrize(
    "id", ["9007199254740993", "1.9", "1e3", "9223372036854775807", "9223372036854775808"]
)
def test_go_sdk_1253_go_sdk_1178_rid_02_ids_never_go_through_a_float(id):
    wire = Wire()
    asked = wire.ask(Raw(id))
    near = [Raw("9007199254740992"), 1, 1000, Raw("9223372036854775806"), Raw("9223372036854775809")]
    wire.take(*(cancelled(other) for other in near))
    assert asked.cancelled is False
    asked.respond({})
    assert f'"id":{id},'.encode() in wire.raw()


def test_leantoken_499_x_01_an_id_reused_right_after_its_cancel():
    wire = Wire()
    old = wire.ask(1)
    wire.take(cancelled(1))
    new = wire.ask(1)
    old.respond({"old": 1})
    assert (wire.written(), new.cancelled) == ([], False)
    new.respond({"new": 1})
    assert [m["result"] for m in wire.written()] == [{"new": 1}]


def test_rust_sdk_1251_x_03_a_servers_cancel_reaches_its_own_request_and_nothing_else():
    wire = Wire(role="client")
    ours = wire.call()
    theirs = wire.ask(ours.id, "sampling/createMessage")
    wire.take(cancelled(ours.id))
    assert (theirs.cancelled, ours.done()) == (True, False)


@both_loops
async def test_typescript_sdk_820_trm_18_two_clients_one_process():
    async with turnout.Router() as router:

        @router.on_request("who")
        async def who(request):
            await asyncio.sleep(0)
            return {"who": request.params["who"]}

        clients = [(await pair(router))[0] for _ in range(5)]
        answers = await asyncio.gather(*(c.send("who", {"who": n}) for n, c in enumerate(clients)))
        assert [answer["who"] for answer in answers] == list(range(5))


def test_typescript_sdk_2580_x_06_progress_and_result_in_one_read_ten_thousand_times():
    wire = Wire()
    for _ in range(10_000):
        call = wire.call()
        wire.take(progress(call.id, 1), result(call.id))
        assert call.record.progress_accepted == 1
    assert wire.counts["progress_unmatched"] == 0
    assert wire.counts["late_progress"] == 0


def test_claude_code_47765_x_05_unknown_late_and_made_up_tokens_harm_nobody():
    wire = Wire(role="client")
    done, live = wire.call(), wire.call()
    wire.take(result(done.id))
    wire.take(progress(done.id, 1), progress("made-up", 1), progress(77, 1), progress(Raw("null"), 1))
    wire.take(progress(live.id, 1), result(live.id, {"whole": "x" * 1000}))
    assert live.result() == {"whole": "x" * 1000}
    assert wire.answers


@both_loops
async def test_devprojex_382_x_06_the_last_update_is_seen_before_the_await_returns():
    async with turnout.Router() as router:
        pa, pb = await pair(router)

        @pb.on_request("work")
        async def work(request):
            for n in (1, 2, 3):
                request.progress(n, 3)
            return {}

        for _ in range(200):
            seen = []
            await pa.send("work", on_progress=lambda update, seen=seen: seen.append(update.progress))
            assert seen == [1, 2, 3]


@pytest.mark.parametrize("idle", [None, 600, 50])
def test_typescript_sdk_2695_tmo_09_the_cap_holds_without_progress_below_the_timeout_and_in_a_storm(idle):
    wire = Wire()
    call = wire.call(timeout=idle, max_timeout=100)
    for n in range(99):
        wire.later(1)
        wire.take(progress(call.id, n))
    assert not call.done()
    wire.later(1.01)
    assert outcome(call) == "max_timeout"


@both_loops
async def test_go_sdk_1150_tmo_05_x_04_a_peer_that_does_not_read_delays_no_caller():
    async with turnout.Router() as router:
        pa, _pb = await pair(router)
        pa.link.pause_writing()
        call = pa.send("m", timeout=0.01)
        with pytest.raises(turnout.CallTimedOut):
            await call
        other = pa.send("m")
        assert other.cancel() is True
        with pytest.raises(turnout.CallCancelled):
            await other


def test_opencode_35275_codex_17566_executor_1953_can_27_the_clock_stops_while_a_person_is_asked():
    wire = Wire(role="client")
    call = wire.call(timeout=30, max_timeout=3600)
    asked = wire.ask("q", "elicitation/create")
    wire.later(1800)
    asked.respond({"action": "accept"})
    assert not call.done()
    wire.take(result(call.id, {"ok": 1}))
    assert call.result() == {"ok": 1}


@pytest.mark.parametrize("end", ["timeout", "cancel", "result", "error", "close", "invalid"])
def test_java_sdk_1133_x_08_every_table_is_empty_after_every_kind_of_end(end):
    wire = Wire()
    calls = [wire.call("ping", timeout=1) for _ in range(100)]
    if end == "timeout":
        wire.later(2)
    elif end == "close":
        wire.connection.end()
    for call in calls:
        if end == "cancel":
            call.cancel()
        elif end in ("result", "error"):
            wire.take((result if end == "result" else error)(call.id))
        elif end == "invalid":
            wire.take(error(call.id, "x", None))
    assert all(call.done() for call in calls)
    assert wire.at_rest


@pytest.mark.parametrize("stuck", ["handler", "listen", "dead peer"])
@both_loops
async def test_go_sdk_1160_python_sdk_332_x_09_tmo_02_close_is_bounded(stuck):
    async with turnout.Router(close_timeout=0.05) as router:
        pa, pb = await pair(router)
        begun, free = asyncio.Event(), asyncio.Event()

        @pb.on_request("*")
        async def hold(request):
            begun.set()
            while not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    continue

        if stuck == "listen":
            pa.set_rules(MODERN, "client")
            pb.set_rules(MODERN, "server")
        call = pa.send("subscriptions/listen" if stuck == "listen" else "hold")
        await begun.wait()
        if stuck == "dead peer":
            pa.abort()
        else:
            await pb.close()
        if stuck == "listen":
            # A server that closes ends its listens by a result (SUB-11), whatever the handler does.
            assert call.id in (await call)["_meta"].values()
        else:
            with pytest.raises(turnout.PeerLost):
                await call
        free.set()


@pytest.mark.parametrize("phase", ["queued", "sent", "progressing", "half an answer"])
@pytest.mark.parametrize("revision", REVISIONS)
def test_csharp_sdk_1365_can_02_a_cancel_arrives_before_and_after_the_first_byte_of_the_answer(
    revision, phase
):
    wire = Wire(revision, "client")
    call = wire.connection.send("tools/call", {})
    if phase != "queued":
        wire.raw()
    answer = result(call.id, {"x": "y" * 100})
    if phase == "progressing":
        wire.take(progress(call.id, 1))
    elif phase == "half an answer":
        wire.take(answer[:50])
    assert call.cancel("stop") is True
    told = [m["params"] for m in wire.written() if m.get("method") == "notifications/cancelled"]
    assert told == ([] if phase == "queued" else [{"requestId": call.id, "reason": "stop"}])
    if phase == "half an answer":
        assert kinds(wire.take(answer[50:])) == ["LateResponse"]
    assert outcome(call) == "cancelled"


@both_loops
async def test_rust_sdk_1193_can_18_a_cancel_waits_for_no_byte_of_the_peer():
    async with turnout.Router(timeout=None, max_timeout=None) as router:
        pa, pb = await pair(router)
        pb.link.pause_writing()
        call = pa.send("tools/call")
        waiter = asyncio.ensure_future(call.wait_ended())
        await asyncio.sleep(0)
        assert call.cancel("stop") is True
        assert call.done()
        await waiter
        with pytest.raises(turnout.CallCancelled):
            await call


@pytest.mark.parametrize("phase", ["begun", "progressing", "many"])
@pytest.mark.parametrize("revision", REVISIONS)
@both_loops
async def test_rust_sdk_857_k4_a_client_that_goes_away_leaves_no_handler_running(revision, phase):
    async with turnout.Router() as router:
        pa, pb = await pair(router)
        pa.set_rules(revision, "client")
        pb.set_rules(revision, "server")
        wanted = 20 if phase == "many" else 1
        begun, stopped, counts = asyncio.Event(), asyncio.Event(), {"begun": 0, "stopped": 0}

        @pb.on_request("hold")
        async def hold(request):
            if phase == "progressing":
                request.progress(1)
            counts["begun"] += 1
            if counts["begun"] == wanted:
                begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                counts["stopped"] += 1
                if counts["stopped"] == wanted:
                    stopped.set()

        calls = [pa.send("hold") for _ in range(wanted)]
        await begun.wait()
        pa.abort()
        await stopped.wait()
        assert {call.record.outcome for call in calls} == {"closed"}
        theirs = router.records.query(direction="inbound")
        assert {(r.outcome, r.cancelled_by) for r in theirs} == {("peer_closed", "disconnect")}


def test_effect_7131_can_14_a_cancel_of_nothing_does_not_silence_the_next_request_of_that_id():
    wire = Wire(role="server")
    wire.take(cancelled(5), cancelled(5))
    asked = wire.ask(5)
    assert asked.cancelled is False
    asked.respond({"heard": 1})
    assert wire.written() == [{"jsonrpc": "2.0", "id": 5, "result": {"heard": 1}}]


@both_loops
async def test_python_sdk_1830_x_07_the_end_of_a_connection_does_not_look_like_a_cancel_of_the_callers():
    async def hold(request):
        await asyncio.Event().wait()

    async with turnout.Router() as router:
        pa, pb = await pair(router)
        pb.on_request("hold")(hold)
        call = pa.send("hold")
        task = asyncio.ensure_future(call.wait_ended())
        await asyncio.sleep(0)
        pb.abort()
        await task
        with pytest.raises(turnout.PeerLost) as lost:
            await call
        assert not isinstance(lost.value, (asyncio.CancelledError, turnout.CallCancelled))
        assert not call.cancelled()
