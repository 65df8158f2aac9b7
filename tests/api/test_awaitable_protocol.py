"""What asyncio touches on the awaitable of a call is there: a name that is missing fails here, instead of hanging.

A spy takes the awaitable's place and records every name that is asked for.
"""

from __future__ import annotations

import asyncio
import sys

import pytest

import internals
import turnout
from loops import both_loops
from transport_link import pair

LISTED = internals.names("What asyncio asks of `Waiter`")
OPTIONAL = {"throw", "close", "send"}
"""An `await` looks these up on whatever it iterates, and does without."""


class Spy:
    """Stands for an awaitable, and notes what is asked of it."""

    def __init__(self, waiter, touched):
        object.__setattr__(self, "_given", (waiter, touched))

    def __getattribute__(self, name):
        waiter, touched = object.__getattribute__(self, "_given")
        touched.add(name)
        if name == "add_done_callback":
            return lambda callback, **options: waiter.add_done_callback(Calls(self, callback), **options)
        if name == "remove_done_callback":
            return lambda callback: waiter.remove_done_callback(Calls(self, callback))
        return getattr(waiter, name)

    def __setattr__(self, name, value):
        waiter, touched = object.__getattribute__(self, "_given")
        touched.add(name)
        setattr(waiter, name, value)

    @property
    def _asyncio_future_blocking(self):
        """`isfuture` asks the class for it; `__getattribute__` answers for the object."""

    def __await__(self):
        return self

    __iter__ = __await__

    def __next__(self):
        waiter, _ = object.__getattribute__(self, "_given")
        next(waiter)
        return self


class Calls:
    """A callback that is given the spy, as asyncio's callbacks are given their future."""

    def __init__(self, spy, callback):
        self.spy, self.callback = spy, callback

    def __call__(self, _):
        self.callback(self.spy)

    def __eq__(self, other):
        return self.callback == other.callback

    __hash__ = None


class World:
    """Makes spies on calls that succeed, fail, or wait."""

    def __init__(self, client, touched):
        self.client, self.touched = client, touched

    def spy(self, method, params=None):
        return Spy(self.client.send(method, params, progress=False).raw(), self.touched)


async def end_of(future):
    """The result or the exception; the end of the test's own time is neither."""
    return (await asyncio.gather(future, return_exceptions=True))[0]


async def awaiting(world):
    assert await world.spy("echo", [1]) == b"[1]"
    with pytest.raises(turnout.RemoteError):
        await world.spy("nobody")


async def cancelling_a_task(world):
    async def wait():
        await world.spy("wait")

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    task.cancel()
    assert isinstance(await end_of(task), asyncio.CancelledError)


async def gather(world):
    assert await asyncio.gather(world.spy("echo", [1]), world.spy("echo", [2])) == [b"[1]", b"[2]"]
    with pytest.raises(turnout.RemoteError):
        await asyncio.gather(world.spy("nobody"), world.spy("echo"))


async def gather_of_the_cancelled(world):
    for returns in (False, True):
        gathered = asyncio.gather(world.spy("wait"), world.spy("wait"), return_exceptions=returns)
        await asyncio.sleep(0)
        gathered.cancel()
        assert isinstance(await end_of(gathered), asyncio.CancelledError)
    for returns in (False, True):
        child = world.spy("wait")
        gathered = asyncio.gather(child, return_exceptions=returns)
        await asyncio.sleep(0)
        child.cancel("no more")
        ended = await end_of(gathered)
        assert isinstance(ended[0] if returns else ended, asyncio.CancelledError)


async def wait(world):
    done, waiting = await asyncio.wait([world.spy("echo"), world.spy("wait")], return_when="FIRST_COMPLETED")
    assert (len(done), len(waiting)) == (1, 1)
    done, _ = await asyncio.wait(waiting, timeout=0)
    assert not done
    waiting.pop().cancel()


async def as_completed(world):
    ended = [await next_ended for next_ended in asyncio.as_completed([world.spy("echo"), world.spy("echo")])]
    assert ended == [b"null", b"null"]


async def shield(world):
    assert await asyncio.shield(world.spy("echo")) == b"null"
    with pytest.raises(turnout.RemoteError):
        await asyncio.shield(world.spy("nobody"))
    inner = world.spy("wait")
    outer = asyncio.shield(inner)
    await asyncio.sleep(0)
    outer.cancel()
    assert not inner.done()
    shielded = asyncio.shield(inner)
    await asyncio.sleep(0)
    inner.cancel()
    assert isinstance(await end_of(shielded), asyncio.CancelledError)


async def wait_for(world):
    assert await asyncio.wait_for(world.spy("echo"), 30) == b"null"
    for timeout in (0, 0.001):
        waits = asyncio.ensure_future(asyncio.wait_for(world.spy("wait"), timeout))
        assert isinstance(await end_of(waits), asyncio.TimeoutError)


async def ensure_future(world):
    spy = world.spy("echo")
    assert asyncio.isfuture(spy)
    assert await asyncio.ensure_future(spy) == b"null"
    assert await asyncio.wrap_future(world.spy("echo")) == b"null"


async def task_group(world):
    async def call():
        return await world.spy("echo")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call()) for _ in range(2)]
    assert [task.result() for task in tasks] == [b"null", b"null"]

    async def wait():
        await world.spy("wait")

    async def fail():
        raise KeyError

    async def fill():
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())

    ended = await end_of(asyncio.ensure_future(fill()))
    assert [type(error) for error in ended.exceptions] == [KeyError]


async def timeout(world):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await world.spy("wait")


async def run_coroutine_threadsafe(world):
    loop = asyncio.get_running_loop()

    async def call():
        return await world.spy("echo")

    def elsewhere():
        return asyncio.run_coroutine_threadsafe(call(), loop).result(30)

    assert await loop.run_in_executor(None, elsewhere) == b"null"


USES = [
    awaiting, cancelling_a_task, gather, gather_of_the_cancelled, wait, as_completed, shield, wait_for,
    ensure_future, task_group, timeout, run_coroutine_threadsafe,
]  # fmt: skip
FROM_3_11 = (task_group, timeout)


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@both_loops
async def test_asyncio_touches_what_the_header_lists_and_the_class_has(use):
    if use in FROM_3_11 and sys.version_info < (3, 11):
        pytest.skip("asyncio has it from 3.11 on")
    touched = set()
    async with turnout.Router() as router:
        client, server = await pair(router)

        @server.on_request("echo")
        async def echo(request):
            return request.params

        @server.on_request("wait")
        async def wait(request):
            await asyncio.Event().wait()

        await use(World(client, touched))
    asked = {name for name in touched if not name.startswith("__")} - OPTIONAL
    assert "add_done_callback" in asked
    assert asked <= LISTED
    assert all(hasattr(turnout._native.Waiter, name) for name in asked)
