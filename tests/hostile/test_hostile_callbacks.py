"""Callbacks that raise, block, cancel, close or come back in: the rest of the batch goes on, and no lock is held."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import turnout
from wire import Wire, cancelled, notification, progress, request, result


@pytest.fixture
def complaints(monkeypatch):
    """What callbacks without a loop raised."""
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(repr(report.exc_value)))
    return reported


def values(updates):
    return [update.progress for update in updates]


def read(iterator):
    async def all_of_it():
        return [update.progress async for update in iterator]

    return asyncio.run(all_of_it())


def test_x_06_who_subscribes_in_a_callback_gets_what_is_still_to_come_in_order_and_once():
    wire = Wire()
    later = []

    def subscribe(update):
        if not later:
            later.append(call.progress())

    call = wire.call(on_progress=subscribe)
    wire.take(*(progress(call.id, n) for n in (1, 2, 3)), result(call.id))
    assert read(later[0]) == [2, 3]


def test_x_06_who_subscribes_between_reads_starts_with_the_latest():
    wire = Wire()
    call = wire.call()
    wire.take(progress(call.id, 1), progress(call.id, 2))
    late = call.progress()
    wire.take(progress(call.id, 3), result(call.id))
    assert read(late) == [2, 3]


def test_x_07_a_callback_that_cancels_its_own_call_meets_the_result_of_the_same_read():
    wire = Wire()
    won = []
    call = wire.call(on_progress=lambda update: won.append(call.cancel("seen enough")))
    wire.take(progress(call.id, 1), progress(call.id, 2), result(call.id))
    assert (won, call.record.outcome, wire.written()) == ([False, False], "result", [])
    assert wire.at_rest


def test_x_07_a_callback_that_cancels_its_own_call_hears_nothing_more():
    wire = Wire()
    heard = []

    def stop(update):
        heard.append(update.progress)
        call.cancel("seen enough")

    call = wire.call(on_progress=stop)
    wire.take(progress(call.id, 1), progress(call.id, 2))
    wire.take(progress(call.id, 3), result(call.id))
    assert heard == [1]
    assert (call.record.outcome, call.record.late_response) == ("cancelled", "result")
    assert [message["method"] for message in wire.written()] == ["notifications/cancelled"]
    assert wire.at_rest


@pytest.mark.parametrize("outcome", ["closed", "peer_closed", "peer_exited"])
def test_x_07_a_callback_that_ends_the_connection(outcome):
    wire = Wire()
    other = wire.call()
    call = wire.call(on_progress=lambda update: wire.connection.end(outcome))
    wire.take(progress(call.id, 1), result(call.id), result(other.id), request("late"))
    # All of one read was taken before anybody was told of it.
    assert (call.record.outcome, other.record.outcome) == ("result", "result")
    assert wire.connection.in_flight == (0, 0)
    wire.take(request("later"))
    assert wire.at_rest


def test_a_callback_may_feed_send_answer_and_ask_what_is_held():
    wire = Wire()
    asked = wire.ask("theirs", token="t")
    sent = []

    def busy(update):
        if sent:
            return
        sent.append(wire.connection.send("more", {}))
        asked.progress(1)
        asked.respond({})
        assert wire.take(progress(call.id, 5), request("nested")) == []
        assert wire.connection.data_to_send()
        assert wire.connection.memory > 0
        assert repr(wire.connection)
        wire.connection.expire()

    heard = []
    call = wire.call(on_progress=busy)
    call.on_progress(lambda update: heard.append(update.progress))
    (nested,) = wire.take(progress(call.id, 1))
    assert nested.id == "nested"
    assert heard == [1, 5]
    nested.respond({})
    wire.take(result(call.id), result(sent[0].id))
    assert wire.at_rest


def test_a_callback_that_blocks_holds_no_lock():
    """While it blocks, another thread uses every other part of the same connection."""
    wire = Wire()
    asked = wire.ask("theirs", token="t")
    doomed = wire.call()
    entered, leave, finished = threading.Event(), threading.Event(), threading.Event()

    def block(update):
        entered.set()
        assert leave.wait(30)

    call = wire.call(on_progress=block)
    other = wire.call()

    def work():
        assert entered.wait(30)
        doomed.cancel("meanwhile")
        wire.connection.send("more", {}).cancel()
        asked.progress(1)
        asked.respond({})
        call.on_progress(lambda update: None)
        call.progress()
        wire.connection.entries()
        wire.connection.counters()
        wire.connection.receive_data(result(other.id))  # left to the one that is in
        wire.raw()
        finished.set()
        leave.set()

    thread = threading.Thread(target=work)
    thread.start()
    wire.take(progress(call.id, 1), result(call.id, {"still": "here"}))
    thread.join(30)
    assert finished.is_set()
    assert call.result() == {"still": "here"}
    assert (doomed.record.outcome, other.record.outcome) == ("cancelled", "result")
    wire.take(result(doomed.id))
    assert wire.at_rest


def test_a_done_callback_that_raises_keeps_nobody_from_their_end(complaints):
    wire = Wire()
    calls = [wire.call() for _ in range(3)]
    told = []

    def bad(call):
        told.append(call.id)
        raise RuntimeError("mine")

    for call in calls:
        call.add_done_callback(bad)
        call.add_done_callback(lambda call: told.append(call.result()))
    wire.take(*(result(call.id, {"n": call.id}) for call in calls))
    assert told == [step for call in calls for step in (call.id, {"n": call.id})]
    assert complaints == ["RuntimeError('mine')"] * 3


def test_a_follower_of_records_that_raises_keeps_nobody_from_their_end(complaints):
    wire = Wire()

    def bad(records):
        raise OSError("no space left")

    wire.connection.follow_records(bad, every=True)
    call, gone = wire.call(), wire.call()
    (asked,) = wire.take(result(call.id), request("r"))
    assert asked.respond({}) is True
    assert gone.cancel() is True
    wire.connection.follow_records(None)
    assert complaints == ["OSError('no space left')"] * 3
    wire.take(result(gone.id))
    assert wire.answers


def test_a_follower_of_records_that_raises_does_not_cost_a_peer(tmp_path):
    """A full disk, or a file that was closed too early, is the log's trouble."""

    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with turnout.Router() as router:
            seen = []

            @router.on_request("echo")
            async def echo(request):
                return request.params

            path = str(tmp_path / "s")
            await router.serve(turnout.listen_unix(path), accepted=seen.append)
            file = (tmp_path / "records").open("wb")
            router.records.write(file)
            peer = await router.connect(turnout.unix(path), era=None)
            file.close()
            for n in range(5):
                assert await peer.send("echo", [n]) == [n]
            assert peer.is_open
            assert seen[0].is_open
            router.records._readers.clear()
        assert complaints
        assert {type(context["exception"]) for context in complaints} == {ValueError}

    asyncio.run(asyncio.wait_for(main(), 30))


def test_whatever_runs_in_the_loop_and_raises_is_reported_and_harms_nobody_else():
    async def main():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with turnout.Router() as router:
            near, far = turnout.memory()
            client, server = await asyncio.gather(
                router.connect(near, era=None), router.connect(far, era=None)
            )

            def bad(*_):
                raise RuntimeError("mine")

            @server.on_request("echo")
            async def echo(request):
                request.progress(1)
                return request.params

            @server.on_request("raises")
            async def raises(request):
                raise RuntimeError("a secret of the handler's")

            server.on_request("not a coroutine")(bad)
            server.on_notification("n")(bad)
            server.on_event(bad)
            server.rewrite_incoming("filtered")(bad)
            client.connection.follow_records(bad, every=True)
            for _ in range(3):
                client.notify("n")
                client.link.transport.write(b"noise\n" + result(99))
                call = client.send("echo", [1], on_progress=bad)
                call.add_done_callback(bad)
                assert await call == [1]
                for method in ("raises", "not a coroutine", "filtered"):
                    with pytest.raises(turnout.RemoteError) as caught:
                        await client.send(method)
                    assert caught.value.code == -32603
                    assert "secret" not in str(caught.value)
            assert client.is_open
            assert server.is_open
        assert complaints

    asyncio.run(asyncio.wait_for(main(), 30))


DEL = """
import sys
sys.path.insert(0, {tests!r})
from wire import Wire, error, progress, request, result, cancelled

wire = Wire()
died = []

class Nosy:
    "Comes back in when it is thrown away."
    def __call__(self, *_):
        pass
    def __del__(self):
        died.append((wire.connection.in_flight, wire.connection.entries(), wire.connection.memory))
        wire.connection.send("from the grave", {{}})
        wire.connection.expire()
        wire.raw()

ways = [
    lambda call: wire.take(result(call)),
    lambda call: wire.take(error(call)),
    lambda call: wire.take(b'{{"jsonrpc":"2.0","id":%d}}\\n' % call),
    lambda call: wire.connection.end(),
]
for way in ways[:3]:
    call = wire.call(on_progress=Nosy())
    call.add_done_callback(Nosy())
    call.add_done_callback(nosy := Nosy())
    call.remove_done_callback(nosy)
    del nosy
    number = call.id
    del call
    way(number)
for end in ("cancel", "timeout"):
    call = wire.call(on_progress=Nosy(), timeout=1)
    call.add_done_callback(Nosy())
    if end == "cancel":
        call.cancel()
    del call
    wire.later(2)
asked = wire.ask("a", token=1)
child = asked.send("child", on_progress=Nosy())
del child
wire.take(cancelled("a"))
del asked
wire.connection.follow_records(Nosy())
wire.connection.follow_records(None)
wire.connection.set_handlers({{"m": (Nosy(), True)}})
wire.ask("m1", "m")
wire.connection.set_handlers({{}})
call = wire.call(on_progress=Nosy())
del call
wire.connection.end()
del Nosy.__del__
print(len(died))
"""


def test_an_object_thrown_away_may_come_back_in():
    """No reference is dropped under a lock: what a `__del__` does must not wait for its own thread."""
    code = DEL.format(tests=str(Path(__file__).parents[1] / "kit"))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stderr.count("ConnectionClosed") <= 4, ran.stderr
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 14


def test_can_14_an_observer_that_answers_what_it_observes():
    wire = Wire()
    wire.connection.observe({"*", "notifications/cancelled"})
    asked = wire.ask("a")
    (seen,) = wire.take(cancelled("a"), notification("other"))[:1]
    assert seen.method == "notifications/cancelled"
    assert asked.cancelled is True
    assert asked.respond({}) is False


def test_x_07_a_callback_whose_comparison_ends_the_call_loses_nobody():
    """Callbacks are compared by Python when one is taken back, and the call may end meanwhile."""
    wire, heard = Wire(), []
    call = wire.call()

    class Ending:
        def __eq__(self, other):
            if not call.done():
                wire.take(result(call.id))
            return self is other

        __hash__ = None

        def __call__(self, done):
            heard.append("ending")

    call.add_done_callback(lambda _: heard.append("first"))
    call.add_done_callback(Ending())
    call.add_done_callback(lambda _: heard.append("last"))
    assert call.remove_done_callback(print) == 0
    assert call.done()
    assert heard == ["first", "ending", "last"]
