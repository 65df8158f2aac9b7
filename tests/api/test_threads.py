"""Several threads on one connection, and several loops on one core: nothing here leans on the interpreter's lock."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import subprocess
import sys
import sysconfig
import threading
from collections import Counter

import pytest

import turnout
from loops import LIMIT, new_loop
from transport_link import pair
from wire import Wire, cancelled, progress, request, result

LOOPS = ("asyncio", "uvloop")


@pytest.fixture(autouse=True)
def restless():
    """Threads change places as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def together(*works):
    """Run plain functions in threads that start at one moment; what one raises fails the test."""
    start, raised = threading.Barrier(len(works)), []

    def run(work):
        start.wait(LIMIT)
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive(), "a thread hangs"
    if raised:
        raise raised[0]


def repeated(times):
    """Run a test so many times: threads meet in another way each time."""

    def repeat(test):
        @functools.wraps(test)
        def run(**arguments):
            for _ in range(times):
                test(**arguments)

        return run

    return repeat


class Loop(threading.Thread):
    """A loop of its own in a thread of its own; in debug mode it refuses calls from the wrong thread."""

    def __init__(self, kind: str) -> None:
        super().__init__(daemon=True)
        if kind == "uvloop":
            pytest.importorskip("uvloop")
        self.loop = new_loop(kind)
        self.loop.set_debug(True)
        self.loop.slow_callback_duration = 60
        self.complaints: list[dict] = []
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def __enter__(self):
        self.start()
        return self

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def __exit__(self, *_) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.join(LIMIT)
        assert not self.is_alive()
        self.loop.close()
        assert not self.complaints, self.complaints


async def linked(router):
    client, server = await pair(router)

    @server.on_request("echo")
    async def echo(request):
        request.progress(1)
        await asyncio.sleep(0)
        request.progress(2)
        return request.params

    @server.on_request("threaded")
    def threaded(request):
        request.progress(1)
        return request.params

    @server.on_request("wait")
    async def wait(request):
        await request.wait_cancelled()

    return client, server


@pytest.mark.parametrize("home", LOOPS)
@pytest.mark.parametrize("kind", LOOPS)
def test_x_07_x_08_one_connection_used_from_the_loops_of_other_threads(home, kind):
    rounds, settled = 60, Counter()

    async def user(client, seed):
        chance = random.Random(seed)
        for n in range(rounds):
            way = chance.choice(["echo", "threaded", "wait", "progress", "timeout"])
            if way in {"echo", "threaded"}:
                assert await client.send(way, [seed, n]) == [seed, n]
                settled["result"] += 1
            elif way == "progress":
                call = client.send("echo", {"n": n})
                assert [update.progress async for update in call.progress()] in ([1, 2], [2])
                assert (await call.wait_ended()).outcome == "result"
                settled["result"] += 1
            elif way == "timeout":
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.send("wait"), 0.001)
                settled["cancelled"] += 1
            else:
                call = client.send("wait")
                canceller = asyncio.to_thread(call.cancel, "by another thread")
                ended, won = await asyncio.gather(call, canceller, return_exceptions=True)
                assert (type(ended), won) == (turnout.CallCancelled, True)
                settled["cancelled"] += 1

    with Loop(home) as main, Loop(kind) as second, Loop("asyncio") as third:
        router = turnout.Router(timeout=None, max_timeout=None)
        client, server = main.do(linked(router)).result(LIMIT)
        users = [loop.do(user(client, seed)) for seed, loop in enumerate((main, second, third, second))]
        for used in users:
            used.result(LIMIT)

        async def end():
            ended = router.records.follow()
            while any(server.in_flight):
                await ended.__anext__()
            assert not any(client.entries().values())
            await router.close()

        main.do(end()).result(LIMIT)
        outbound = Counter(record.outcome for record in router.records if record.direction == "outbound")
        assert outbound == settled
        assert sum(settled.values()) == 4 * rounds


@pytest.mark.parametrize("kind", LOOPS)
def test_a_follower_hears_of_a_cancel_from_another_thread(kind):
    async def follow(router, ready):
        following = router.records.follow()
        ready.set()
        heard = 0
        while heard < 100:
            record = await following.__anext__()
            assert record.outcome == "cancelled"
            heard += record.direction == "outbound"

    with Loop(kind) as main:
        router = turnout.Router()
        client, _ = main.do(linked(router)).result(LIMIT)
        ready = threading.Event()
        followed = main.do(follow(router, ready))
        assert ready.wait(LIMIT)
        for _ in range(100):
            assert client.send("wait").cancel("from here") is True
        followed.result(LIMIT)
        main.do(router.close()).result(LIMIT)


@pytest.mark.parametrize("kind", LOOPS)
def test_a_drain_ends_with_the_last_call_whoever_ends_it(kind):
    with Loop(kind) as main:
        router = turnout.Router()
        client, _ = main.do(linked(router)).result(LIMIT)
        call = client.send("wait")
        closing = main.do(client.close(drain=3600))

        async def draining():
            # The close has begun, and had every turn that it needs before it waits.
            for _ in range(5):
                await asyncio.sleep(0)

        main.do(draining()).result(LIMIT)
        assert call.cancel("nobody waits any more") is True
        closing.result(LIMIT)
        main.do(router.close()).result(LIMIT)


def test_x_01_x_07_x_08_senders_cancellers_and_the_reader_in_threads_of_their_own():
    """Level (a): one thread sends, two cancel, one reads answers, one lets time pass, one takes the bytes."""
    wire = Wire()
    connection, count = wire.connection, 2000
    calls, ends, out = [], Counter(), []
    sent = threading.Event()

    def send():
        for n in range(count):
            call = connection.send("m", {"n": n}, timeout=5 if n % 7 == 0 else None, max_timeout=None)
            call.add_done_callback(lambda call: ends.update([call.id]))
            calls.append(call)
        sent.set()

    def each(step):
        seen = 0
        while not (sent.is_set() and seen == len(calls)):
            while seen < len(calls):
                step(calls[seen])
                seen += 1

    def cancel():
        each(lambda call: call.id % 3 == 0 and call.cancel("why"))

    def answer():
        each(lambda call: call.id % 5 and connection.receive_data(progress(call.id, 1) + result(call.id)))

    def write():
        while not sent.is_set() or connection.pending_bytes:
            out.append(connection.data_to_send())

    def tick():
        while not sent.is_set():
            wire.later(0.01)

    together(send, cancel, cancel, answer, write, tick)
    wire.later(10)
    for call in calls:
        if not call.done():
            connection.receive_data(result(call.id))
        if not call.done():
            out.append(connection.data_to_send())
            connection.receive_data(result(call.id))
    assert len({call.id for call in calls}) == count
    assert ends == Counter(dict.fromkeys((call.id for call in calls), 1))
    assert all(call.record.outcome in {"result", "cancelled", "idle_timeout"} for call in calls)
    out.append(wire.raw())
    written = [json.loads(line) for line in b"".join(out).splitlines()]
    requested = [message["id"] for message in written if "id" in message]
    stopped = [message["params"]["requestId"] for message in written if "id" not in message]
    assert len(requested) == len(set(requested))
    assert len(stopped) == len(set(stopped))
    told = {call.id for call in calls if call.record.cancel_written}
    assert set(stopped) == told
    assert told <= set(requested)
    # Whatever is still remembered waits for a late answer, and is bounded.
    assert connection.in_flight == (0, 0)
    assert wire.counts["late_responses"] <= count


@repeated(150)
def test_can_13_answers_progress_and_cancels_of_one_request_from_different_threads():
    """One answer at most, no word after it, none after a cancel that was told."""
    wire = Wire()
    asked = wire.ask(1, token="t")
    answered = []

    def work(ways):
        asked.progress(1)
        answered.append(ways())

    together(
        lambda: work(lambda: asked.respond({"by": "one"})),
        lambda: work(lambda: asked.fail(-1, "another")),
        lambda: [asked.progress(n) for n in range(2, 9)],
        lambda: wire.take(cancelled(1, "stop")),
    )
    written = wire.written()
    answers = [message for message in written if "id" in message]
    assert len(answers) == answered.count(True) <= 1
    assert (asked.record.outcome == "cancelled") is (answers == [])
    assert asked.cancelled is (answers == [])
    if answers:
        assert written[-1] is answers[0]
    steps = [message["params"]["progress"] for message in written if "id" not in message]
    assert steps == sorted(set(steps))
    assert wire.at_rest


@pytest.mark.parametrize("outcome", ["closed", "peer_closed"])
@repeated(100)
def test_x_07_the_end_meets_senders_readers_and_answers(outcome):
    wire = Wire()
    calls, asked = [], wire.take(*(request(n) for n in range(4)))

    def send():
        with contextlib.suppress(turnout.ConnectionClosed):
            while True:
                calls.append(wire.connection.send("m", {}))

    def read():
        for n in range(10, 40):
            taken = wire.take(request(n), result(n - 9), progress(n - 9, 1))
            # A result may come before its call is made: nobody asked for it then.
            asked.extend(one for one in taken if isinstance(one, turnout.Request))

    together(
        send,
        read,
        lambda: [request.respond({}) for request in tuple(asked)],
        lambda: wire.connection.end(outcome),
    )
    assert wire.connection.in_flight == (0, 0)
    assert all(call.done() and call.record.outcome for call in calls)
    for request_ in asked:
        assert request_.record.outcome in {"result", outcome}
        assert request_.cancelled is (request_.record.outcome == outcome)
        assert request_.respond({}) is False


@repeated(100)
def test_progress_and_results_reach_every_subscriber_whoever_subscribes_when():
    wire = Wire()
    call = wire.call()
    iterators = []

    def read():
        for n in range(1, 30):
            wire.take(progress(call.id, n))
        wire.take(result(call.id))

    def follow():
        for _ in range(10):
            iterators.append(call.progress())

    together(read, follow, follow)

    async def all_of(iterator):
        return [update.progress async for update in iterator]

    for iterator in iterators:
        heard = asyncio.run(all_of(iterator))
        assert heard == list(range(int(heard[0]), 30)) if heard else True
        assert heard[-1:] == [29]


def test_the_extension_says_whether_it_needs_the_interpreters_lock():
    """It does not: on a free-threaded interpreter, importing it switches no lock on."""
    locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert turnout.build_info()["free_threaded"] is not locked
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this interpreter has a lock: the threads above took turns")
    code = [sys.executable, "-W", "always", "-c", "import turnout"]
    ran = subprocess.run(code, capture_output=True, text=True, timeout=60)
    assert "turnout._native" not in ran.stderr
