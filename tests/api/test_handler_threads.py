"""The threads of handlers that are plain functions: their number, their rest, and an end that waits for nobody."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

import turnout
from loops import both_loops
from raising import run
from relay_world import World, call
from transport_link import pair
from turnout.threads import HandlerThreads


@both_loops
async def test_l2_functions_run_in_as_many_threads_as_they_may():
    threads = HandlerThreads(2)
    both, go_on = threading.Barrier(3), threading.Event()

    def work(number):
        if number < 2:
            both.wait(30)
            go_on.wait(30)
        return threading.current_thread()

    done = [threads.submit(work, number) for number in range(20)]
    both.wait(30)
    assert not any(future.done() for future in done)
    go_on.set()
    used = {await asyncio.wrap_future(future) for future in done}
    assert len(used) == 2
    assert all(thread.daemon for thread in used)
    await threads.shut_down(30)
    with pytest.raises(RuntimeError, match="the router is closed"):
        threads.submit(work, 3)


@both_loops
async def test_l2_what_a_function_raises_is_told_and_the_thread_goes_on():
    threads = HandlerThreads(1)
    for error in (ValueError, SystemExit, KeyboardInterrupt):
        raised = threads.submit(_raise, error)
        assert isinstance(await asyncio.get_running_loop().run_in_executor(None, raised.exception), error)
    assert await asyncio.wrap_future(threads.submit(max, 1, 2)) == 2
    await threads.shut_down(30)


def _raise(error):
    raise error


WHO = contextvars.ContextVar("WHO", default="nobody")


@both_loops
async def test_s3_what_a_function_sets_for_its_client_is_not_seen_by_the_next_one():
    """Programs keep on whose behalf they work in a context variable; a thread works for one client after the other."""
    threads = HandlerThreads(1)

    def work(who):
        before = WHO.get()
        WHO.set(who)
        return before

    WHO.set("host")
    assert await asyncio.wrap_future(threads.submit(work, "ada")) == "host"
    assert await asyncio.wrap_future(threads.submit(work, "bob")) == "host"
    assert WHO.get() == "host"
    await threads.shut_down(30)


@pytest.mark.parametrize("kind", ["handler", "policy", "handler behind a policy", "allow"])
@both_loops
async def test_s3_clients_of_a_relay_meet_no_context_of_anothers(kind):
    async with World() as world:
        seen = []

        def work(*arguments):
            seen.append(WHO.get())
            WHO.set(str(arguments))
            return True if kind == "allow" else None

        relay = world.build()
        if kind == "policy":
            relay.policy.decide("tools/call")(work)
        elif kind == "allow":
            relay.policy.allow("tool")(work)
        else:
            relay.on_request("tools/call")(lambda request: work(request) or {})
        if kind == "handler behind a policy":
            relay.policy.decide("tools/call")(work)
        # As many as there are threads, twice.
        clients = [await world.client(principal=who) for who in ("ada", "bob")]
        for client in clients * 40:
            await client.send("tools/call", call(who="x"))
        assert set(seen) == {"nobody"}


@pytest.fixture
def system_without_threads(monkeypatch):
    """Lets no thread be started until it is called."""

    def start(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield patch.undo


@both_loops
async def test_s4_a_thread_that_cannot_be_started_is_told_of_and_is_missing_to_nobody_later(
    system_without_threads,
):
    threads = HandlerThreads(2)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threads.submit(_raise, AssertionError)
    system_without_threads()
    assert await asyncio.wrap_future(threads.submit(max, 1, 2)) == 2
    await threads.shut_down(30)


@both_loops
async def test_s4_what_another_thread_was_wanted_for_is_done_by_those_there_are(monkeypatch):
    threads = HandlerThreads(2)
    began, go_on = threading.Event(), threading.Event()
    at_work = threads.submit(lambda: (began.set(), go_on.wait(30)))
    began.wait(30)
    monkeypatch.setattr(threading.Thread, "start", lambda _: _raise(MemoryError))
    waits = [threads.submit(max, number, 1) for number in (2, 3)]
    go_on.set()
    assert [await asyncio.wrap_future(future) for future in waits] == [2, 3]
    assert at_work.done()
    await threads.shut_down(30)


def test_s4_a_request_is_answered_where_no_thread_can_be_started_for_it(loop_kind, system_without_threads):
    async def main():
        router = turnout.Router()
        near, far = await pair(router)
        far.on_request("tools/call")(lambda _: {"content": []})
        calls = [near.send("tools/call") for _ in range(40)]
        for end in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(end, turnout.RemoteError)
            assert end.code == -32603
        system_without_threads()
        assert await near.send("tools/call") == {"content": []}
        await router.close()

    _, told, _ = run(loop_kind, main())
    assert [str(error) for error in told] == ["can't start new thread"] * 40


@both_loops
async def test_l2_the_end_waits_for_what_is_at_work_and_drops_the_rest():
    threads = HandlerThreads(1)
    began, go_on = threading.Event(), threading.Event()
    at_work = threads.submit(lambda: (began.set(), go_on.wait(30)))
    waits = threads.submit(_raise, AssertionError)
    began.wait(30)
    ending = asyncio.ensure_future(threads.shut_down(30))
    await asyncio.sleep(0)
    assert waits.cancelled()
    assert not ending.done()
    go_on.set()
    await ending
    assert at_work.done()
    await threads.shut_down(30)


@both_loops
async def test_l2_x_09_the_end_is_bounded():
    """And a router's likewise: what a function does goes on without it."""
    go_on, began = threading.Event(), threading.Event()
    router = turnout.Router(close_timeout=0.05)
    near, far = await pair(router)

    @far.on_request("tools/call")
    def call(_):
        began.set()
        go_on.wait(60)

    near.send("tools/call")
    while not began.is_set():
        await asyncio.sleep(0)
    await router.close()
    assert not go_on.is_set()
    go_on.set()


@both_loops
async def test_l2_threads_without_work_end(monkeypatch):
    monkeypatch.setattr("turnout.threads.IDLE_TIMEOUT", 0.01)

    threads = HandlerThreads(4)
    thread = await asyncio.wrap_future(threads.submit(threading.current_thread))
    await asyncio.get_running_loop().run_in_executor(None, thread.join, 30)
    assert not thread.is_alive()
    assert await asyncio.wrap_future(threads.submit(threading.current_thread)) is not thread
    await threads.shut_down(30)
