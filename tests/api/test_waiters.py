"""A call under asyncio's own helpers: gather, wait, wait_for, shield and timeouts treat it as a future."""

import asyncio

import pytest

import turnout
from transport_link import pair


async def echoing(router):
    client, server = await pair(router)

    @server.on_request("echo")
    async def echo(request):
        return request.params

    @server.on_request("wait")
    async def wait(request):
        await asyncio.Event().wait()

    return client, server


def run(test):
    async def main():
        async with turnout.Router() as router:
            await test(*await echoing(router))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_gather_gives_results_and_raw_results():
    async def test(client, server):
        calls = client.send("echo", [1], progress=False), client.send("echo", [2], progress=False).raw()
        assert await asyncio.gather(*calls) == [[1], b"[2]"]

    run(test)


def test_gather_gives_the_exceptions_of_waiters():
    async def test(client, server):
        ended = await asyncio.gather(client.send("nobody").raw(), return_exceptions=True)
        assert isinstance(ended[0], turnout.RemoteError)

    run(test)


@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("waiter", ["raw", "wait_ended", "progress"])
def test_s4_who_gathers_waiters_is_ended_by_a_cancel(waiter, returns):
    async def test(client, server):
        call = client.send("wait")
        waits = call.progress().__anext__() if waiter == "progress" else getattr(call, waiter)()
        gathered = asyncio.gather(waits, client.send("wait"), return_exceptions=returns)
        await asyncio.sleep(0)
        gathered.cancel("the user left")
        with pytest.raises(asyncio.CancelledError):
            await gathered
        call.cancel()

    run(test)


@pytest.mark.parametrize("waiter", ["raw", "wait_ended", "progress"])
def test_s4_who_waits_for_a_waiter_that_was_cancelled_is_told(waiter):
    async def test(client, server):
        call = client.send("wait")
        waits = call.progress(shield=True).__anext__() if waiter == "progress" else getattr(call, waiter)()
        assert waits.cancel()
        told = asyncio.Event()
        waits.add_done_callback(lambda _: told.set())
        await told.wait()
        call.cancel()

    run(test)


def test_wait_tells_done_from_pending():
    async def test(client, server):
        quick, slow = client.send("echo", []), client.send("wait")
        done, pending = await asyncio.wait({quick, slow}, return_when=asyncio.FIRST_COMPLETED)
        # Before 3.11 asyncio wraps what it waits for in tasks of its own.
        assert (len(done), len(pending)) == (1, 1)
        assert quick.done()
        assert not slow.done()

    run(test)


def test_tmo_05_wait_for_cancels_the_call_with_it():
    async def test(client, server):
        call = client.send("wait")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(call, 0.01)
        assert call.record.outcome == "cancelled"
        assert call.record.cancelled_by == "caller"

    run(test)


def test_can_02_a_cancelled_task_cancels_its_call_and_says_why():
    async def test(client, server):
        call = client.send("wait")

        async def waits():
            await call

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        task.cancel("the user left")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.record.cancel_reason == "the user left"
        assert call.record.cancel_written is (call.record.written is not None)

    run(test)


def test_s4_a_task_cancelled_with_what_has_no_text_ends_its_call():
    class Silent:
        def __str__(self):
            raise ValueError

    async def test(client, server):
        call = client.send("wait")

        async def waits():
            await call

        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        assert task.cancel(Silent())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert call.record.cancel_reason == "the caller's task was cancelled"

    run(test)


def test_shield_leaves_the_call_alone():
    async def test(client, server):
        call = client.send("wait")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 0.01)
        assert not call.done()
        call.cancel()
        assert (await call.wait_ended()).outcome == "cancelled"

    run(test)


def test_prg_13_the_next_update_can_be_waited_for_with_a_bound():
    async def test(client, server):
        @server.on_request("one")
        async def one(request):
            request.progress(1)
            await asyncio.Event().wait()

        call = client.send("one")
        updates = call.progress(shield=True)
        assert (await asyncio.wait_for(updates.__anext__(), 5)).progress == 1
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(updates.__anext__(), 0.01)
        assert not call.done()

    run(test)


def test_callbacks_hear_of_the_end_and_can_be_taken_back():
    async def test(client, server):
        heard = []
        call = client.send("echo", [])
        call.add_done_callback(heard.append)
        call.add_done_callback(print)
        assert call.remove_done_callback(print) == 1
        await call
        assert heard == [call]
        assert call.exception() is None

    run(test)


def test_a_shield_that_is_over_takes_its_own_callback_back_only():
    async def test(client, server):
        waiter = client.send("wait").raw()
        outer = asyncio.shield(waiter)
        await asyncio.sleep(0)
        outer.cancel()
        shielded = asyncio.shield(waiter)
        await asyncio.sleep(0)
        waiter.cancel()
        ended = await asyncio.gather(shielded, return_exceptions=True)
        assert isinstance(ended[0], asyncio.CancelledError)

    run(test)
