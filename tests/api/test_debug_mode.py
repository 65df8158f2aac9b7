"""Handlers of every kind in asyncio's debug mode, which shows tasks, and in the hands of whoever shows them (S5)."""

from __future__ import annotations

import asyncio
import functools
import logging

import pytest

import turnout
from loops import new_loop
from transport_link import pair


async def plain(request):
    await asyncio.sleep(0)
    return request.method


class Callable:
    async def __call__(self, request):
        return await plain(request)

    async def method(self, request):
        return await plain(request)


class Lying(Callable):
    """Says that it is what it is not, as test doubles do."""

    def __init__(self):
        self.__code__, self.__name__, self.__qualname__ = "no code", 7, None


HANDLERS = {
    "function": plain,
    "partial": functools.partial(plain),
    "partial of a partial": functools.partial(functools.partial(plain)),
    "callable": Callable(),
    "method": Callable().method,
    "lying": Lying(),
}


@pytest.mark.parametrize("kind", HANDLERS)
def test_s5_a_handler_of_any_kind_is_shown_and_answers_in_debug_mode(loop_kind, kind, caplog):
    caplog.set_level(logging.WARNING, logger="asyncio")
    handler, shown = HANDLERS[kind], []

    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)

            async def waits(request):
                await asyncio.sleep(0)
                shown.extend(repr(task) for task in asyncio.all_tasks())
                for task in asyncio.all_tasks():
                    task.get_stack()
                return await handler(request)

            server.on_request("shown")(handler)
            server.on_request("waits")(waits)
            assert await client.send("shown") == "shown"
            assert await client.send("waits") == "waits"

    loop = new_loop(loop_kind)
    loop.set_debug(True)
    # Whatever runs is slow, and is shown.
    loop.slow_callback_duration = 0
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 30))
    finally:
        loop.close()
    assert any("waits" in text for text in shown)


@pytest.mark.parametrize("kind", HANDLERS)
def test_s5_what_handles_a_request_has_a_name_and_maybe_code(kind):
    """Before its first step, while it runs, and after its end."""

    async def main():
        async with turnout.Router() as router:
            client, server = await pair(router)
            server.on_request("shown")(HANDLERS[kind])
            call = client.send("shown")
            seen = {}
            while not call.done():
                await asyncio.sleep(0)
                seen.update(dict.fromkeys(server.connection.handler_tasks()))
                for task in seen:
                    coroutine = task.get_coro()
                    assert isinstance(coroutine.__name__, str)
                    assert isinstance(coroutine.__qualname__, str)
                    assert coroutine.cr_code is None or coroutine.cr_code.co_filename == __file__
                    assert coroutine.cr_running is False
                    assert repr(task)
            assert len(seen) == 1

    asyncio.run(main())
