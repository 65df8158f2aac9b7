"""How tasks that wait are woken: together, in order, each in its own context, and no exit is swallowed."""

import asyncio
import contextvars
import gc
import io
import weakref

import pytest

import turnout
import wire
from loops import both_loops
from transport_link import pair

name = contextvars.ContextVar("name")


class Counting(asyncio.SelectorEventLoop):
    """A loop that knows whose callbacks it was given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def call_soon(self, callback, *arguments, context=None):
        self.given.append(getattr(callback, "__name__", None))
        return super().call_soon(callback, *arguments, context=context)


def test_tasks_that_are_cancelled_together_are_woken_by_one_callback_in_order_and_in_their_contexts():
    async def main():
        loop = asyncio.get_running_loop()
        async with turnout.Router() as router:
            client, _ = await pair(router)
            ended = []

            async def ask(number):
                name.set(number)
                try:
                    await client.send("work")
                finally:
                    ended.append((number, name.get()))

            tasks = [loop.create_task(ask(number)) for number in range(50)]
            await asyncio.sleep(0)
            loop.given.clear()
            for task in tasks:
                assert task.cancel("stop")
            assert loop.given.count("task_wakeup") == 0
            assert loop.given.count("run_scheduled") == 1
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(outcome, asyncio.CancelledError)
            assert ended == [(number, number) for number in range(50)]

    loop = Counting()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 30))
    finally:
        loop.close()


@pytest.mark.unwatched("its loop stops, and it looks at what is collected then")
def test_who_was_never_woken_because_the_loop_stopped_is_collected():
    async def main():
        router = turnout.Router()
        client, _ = await pair(router)

        async def ask():
            # Whoever sleeps holds the connection, which holds those who are to be woken.
            await client.send("work")

        task = asyncio.get_running_loop().create_task(ask())
        await asyncio.sleep(0)
        task.cancel()
        return weakref.ref(client)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    gone = loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert gone() is None


@both_loops
async def test_who_waits_in_another_way_than_a_task_is_told_of_what_it_waited_for():
    async with turnout.Router() as router:
        client, server = await pair(router)

        @server.on_request("echo")
        async def echo(request):
            return request.params

        waiter = client.send("echo", [1]).__await__()
        told = asyncio.get_running_loop().create_future()
        waiter.add_done_callback(told.set_result)
        assert await told is waiter
        assert waiter.result() == [1]


@both_loops
async def test_who_waits_is_woken_on_the_next_turn_where_bytes_are_fed_from_inside_another_task():
    """asyncio runs one task at a time: the one that waits cannot begin while the one that feeds goes on."""
    async with turnout.Router() as router:
        client, _ = await pair(router)
        calls = [client.send("work") for _ in range(3)]

        async def ask(call):
            name.set(call.id)
            answer = await call
            return answer, name.get()

        tasks = [asyncio.get_running_loop().create_task(ask(call)) for call in calls]
        await asyncio.sleep(0)
        client.connection.feed(b"".join(wire.result(call.id, {"n": call.id}) for call in calls))
        assert not any(task.done() for task in tasks)
        assert await asyncio.gather(*tasks) == [({"n": call.id}, call.id) for call in calls]


@pytest.mark.parametrize("exits", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("cancels", [False, True])
def test_a_task_that_exits_when_it_is_woken_ends_the_loop(exits, cancels):
    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)

            @server.on_request("echo")
            async def echo(request):
                return request.params

            async def ask():
                try:
                    await client.send("work" if cancels else "echo", [1])
                finally:
                    raise exits

            task = asyncio.get_running_loop().create_task(ask())
            # Otherwise the loop complains of it whenever it is collected, in the middle of another test.
            task.add_done_callback(lambda task: task.exception())
            await asyncio.sleep(0)
            if cancels:
                task.cancel()
            await asyncio.Event().wait()

    # Not in a `wait_for`, which would cancel the close of the router.
    with pytest.raises(exits):
        asyncio.run(main())


@both_loops
async def test_what_a_flush_or_a_timer_runs_is_in_no_callers_context():
    """A loop would take the context of whoever made it necessary, and show it to everybody else."""
    seen = []

    class File(io.BytesIO):
        def write(self, line):
            seen.append(("record", name.get(None)))
            return super().write(line)

    async with turnout.Router() as router:
        near, far = await pair(router)

        @far.on_request("work")
        async def work(request):
            seen.append(("handler", name.get(None)))
            await asyncio.get_running_loop().create_future()

        async def ask():
            name.set("the caller's")
            with pytest.raises(turnout.CallTimedOut):
                await near.send("work", timeout=0.01)

        with router.records.write(File()):
            await asyncio.create_task(ask())
    assert ("handler", None) in seen
    assert ("record", None) in seen
    assert {value for _, value in seen} == {None}
