"""Whatever a callback raises, and wherever: everything else of the same read is taken, and every request ends (S4)."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

import turnout
from raising import EXCEPTIONS, EXITS, Bang, run
from wire import cancelled, notification, progress, request, result

pytestmark = [
    pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda kind: kind.__name__),
]


class Far:
    """The other end of a socket, played by hand."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        self._changed = asyncio.Event()
        self._here = asyncio.Event()

    async def start(self):
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader, writer):
        self._writer = writer
        self._here.set()
        while line := await reader.readline():
            self.lines.append(json.loads(line))
            self._changed.set()
        writer.close()

    async def says(self, *frames):
        await self._here.wait()
        self._writer.write(b"".join(frames))

    async def until_answered(self, id):
        return await self._until(lambda line: line.get("id") == id and "method" not in line)

    async def until_asked(self, *calls):
        """No answer counts that comes before its request left."""
        for call in calls:
            await self._until(lambda line, id=call.id: line.get("id") == id and "method" in line)

    async def _until(self, fits):
        while not (found := [line for line in self.lines if fits(line)]):
            self._changed.clear()
            await self._changed.wait()
        return found[0]

    async def close(self):
        self._server.close()


class Stage:
    """A peer over a Unix socket, with requests in flight both ways.

    Attributes:
        bang: the callback that raises.
        expected: ids of requests that have to be answered beside the common ones.
        calls: requests of ours that are answered in the read, likewise.
        waits: what has to be awaited without an exception in the end.
        reported: whether the loop is told of what is raised, where that is no exit; None where asyncio decides.
        ends_loop: whether an exit ends the loop.

    """

    def __init__(self, peer, far, bang):
        self.peer, self.far, self.bang = peer, far, bang
        self.expected = []
        self.calls = []
        self.waits = []
        self.reported = True
        self.ends_loop = True


def on_cancel(stage):
    release = asyncio.Event()

    @stage.peer.on_request("slow")
    async def slow(asked):
        asked.on_cancel(stage.bang)
        ready.set()
        await release.wait()

    ready = asyncio.Event()

    async def before():
        await stage.far.says(request("slow", "slow"))
        await ready.wait()

    async def after():
        release.set()

    stage.before, stage.after = before, after
    return [cancelled("slow")]


def observer(stage):
    stage.peer.on_notification("n")(stage.bang)
    heard = asyncio.get_running_loop().create_future()
    stage.peer.on_notification("n")(lambda _: heard.set_result(None))
    stage.waits.append(heard)
    return [notification("n")]


def async_observer(stage):
    @stage.peer.on_notification("n")
    async def observe(_):
        stage.bang()

    stage.reported = None
    return [notification("n")]


def listener(stage):
    stage.peer.on_event(stage.bang)
    heard = asyncio.get_running_loop().create_future()
    stage.peer.on_event(heard.set_result)
    stage.waits.append(heard)
    return [result(999_999)]


def filter_of_requests(stage):
    stage.peer.rewrite_incoming("f")(stage.bang)
    stage.expected.append("f")
    return [request("f", "f")]


def filter_of_notifications(stage):
    stage.peer.rewrite_incoming("f")(stage.bang)
    return [notification("f")]


def progress_option(stage):
    call = stage.peer.send("p", on_progress=stage.bang)
    stage.calls.append(call)
    return [progress(call.id, 1), result(call.id)]


def progress_callback(stage):
    call = stage.peer.send("p")
    call.on_progress(stage.bang)
    stage.calls.append(call)
    return [progress(call.id, 1), result(call.id)]


def done_callback(stage):
    call = stage.peer.send("d")
    call.add_done_callback(stage.bang)
    stage.calls.append(call)
    return [result(call.id)]


def done_callback_of_a_child(stage):
    @stage.peer.on_request("parent")
    async def parent(asked):
        call = asked.send("child")
        call.add_done_callback(stage.bang)
        ready.set()
        await call

    ready = asyncio.Event()

    async def before():
        await stage.far.says(request("parent", "parent"))
        await ready.wait()

    stage.before = before
    return [cancelled("parent")]


def task_that_waits(stage):
    call = stage.peer.send("t")
    stage.calls.append(call)

    async def wait():
        await call
        stage.bang()

    async def look():
        # asyncio keeps what a task raises for whoever asks it.
        await asyncio.wait({task})
        with contextlib.suppress(type(stage.bang.error)):
            task.result()

    task = asyncio.get_running_loop().create_task(wait())
    stage.waits.append(look())
    stage.reported = False
    return [result(call.id)]


def follower_of_records(stage):
    stage.peer.connection.follow_records(stage.bang, every=True)
    return []


def file_of_records(stage):
    class File:
        write = staticmethod(stage.bang)
        flush = staticmethod(lambda: None)

    stage.peer.router.records.write(File())
    return []


def async_handler(stage):
    @stage.peer.on_request("h")
    async def handle(_):
        stage.bang()

    stage.expected.append("h")
    stage.reported = None
    return [request("h", "h")]


def async_handler_that_waited(stage):
    @stage.peer.on_request("h")
    async def handle(_):
        await asyncio.sleep(0)
        stage.bang()

    stage.expected.append("h")
    stage.reported = None
    return [request("h", "h")]


def handler_in_a_thread(stage):
    stage.peer.on_request("h")(stage.bang)
    stage.expected.append("h")
    stage.reported = stage.ends_loop = False
    return [request("h", "h")]


def exception_handler(stage):
    """The handler of the loop raises while it is told what an observer raised."""

    def observe(_):
        raise ValueError("first")

    loop = asyncio.get_running_loop()
    told = loop.get_exception_handler()

    def handle(loop, context):
        loop.set_exception_handler(told)
        stage.bang()

    loop.set_exception_handler(handle)
    stage.peer.on_notification("n")(observe)
    # asyncio tells the default handler, not the one that raised.
    stage.reported = False
    return [notification("n")]


KINDS = [
    on_cancel, observer, async_observer, listener, filter_of_requests, filter_of_notifications, progress_option,
    progress_callback, done_callback, done_callback_of_a_child, task_that_waits, follower_of_records, file_of_records,
    async_handler, async_handler_that_waited, handler_in_a_thread, exception_handler,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_s4_what_shares_a_read_with_a_callback_that_raises_is_taken(tmp_path, loop_kind, raised, kind):
    bang = Bang(raised)

    async def nothing():
        pass

    async def main():
        far = Far(str(tmp_path / "s"))
        await far.start()
        async with turnout.Router() as router:
            peer = await router.connect(turnout.unix(far.path), era=None)

            @peer.on_request("echo")
            async def echo(asked):
                return asked.params

            # A frame that a filter looks at ends a batch: what follows in the read is another one.
            peer.rewrite_incoming("look")(lambda *_: None)
            stage = Stage(peer, far, bang)
            stage.before = stage.after = nothing
            first, second, third = (peer.send("ask") for _ in range(3))
            frames = kind(stage)
            await stage.before()
            await far.until_asked(first, second, third, *stage.calls)
            await far.says(
                result(first.id, {"n": 1}),
                request("e1", "echo", {"n": 1}),
                *frames,
                result(second.id, {"n": 2}),
                request("e2", "echo", {"n": 2}),
                notification("look"),
                result(third.id, {"n": 3}),
                request("e3", "echo", {"n": 3}),
            )
            assert [await call for call in (first, second, third)] == [{"n": n} for n in (1, 2, 3)]
            for n in (1, 2, 3):
                assert (await far.until_answered(f"e{n}"))["result"] == {"n": n}
            for id in stage.expected:
                assert (await far.until_answered(id))["error"]["code"] == -32603
            for waits in (*stage.calls, *stage.waits):
                await waits
            await stage.after()
            assert peer.is_open
            # It serves on.
            call = peer.send("last")
            await far.until_asked(call)
            await far.says(result(call.id, {"still": "here"}), request("last", "echo"))
            assert await call == {"still": "here"}
            await far.until_answered("last")
            while peer.in_flight != (0, 0):
                await asyncio.sleep(0)
            assert not any(peer.entries().values())
        await far.close()
        return stage

    stage, told, exits = run(loop_kind, main())
    assert bang.calls >= 1
    is_exit = issubclass(raised, EXITS)
    assert exits == ([bang.error] if is_exit and stage.ends_loop else []), "once"
    if stage.reported is not None:
        assert told.count(bang.error) == (stage.reported and not is_exit)
