"""Streams of the SDK as the dispatcher reads and writes them: at once, in turn, or as they are."""

import asyncio

import pytest

pytest.importorskip("mcp", reason="the official SDK is an optional extra")

import anyio
from mcp.shared._context_streams import create_context_streams

from loops import both_loops
from sdk_streams import turns
from turnout.mcp.dispatch.queues import BATCH, Reader, Writer


class Plain:
    """A stream of the SDK's shape around another one, and no more than that."""

    def __init__(self, inner):
        self.inner = inner

    async def send(self, item):
        await self.inner.send(item)

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return await self.inner.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


async def take(reader):
    return (reader.receive_nowait() or await reader.receive())[1]


@pytest.fixture(params=["memory", "context", "plain"])
def streams(request):
    def make(buffer):
        kind = create_context_streams if request.param == "context" else anyio.create_memory_object_stream
        write, read = kind[object](buffer)
        if request.param == "plain":
            return Writer(Plain(write)), Reader(Plain(read)), write, read
        return Writer(write), Reader(read), write, read

    return make


@pytest.mark.parametrize("buffer", [0, 1, 1000])
@both_loops
async def test_messages_arrive_in_order_however_many_wait(streams, buffer):
    writer, reader, write, read = streams(buffer)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:

            async def send():
                for n in range(300):
                    await writer.send(n)

            tasks.start_soon(send)
            assert [await take(reader) for _ in range(300)] == list(range(300))
    write.close()
    with pytest.raises(anyio.EndOfStream):
        await take(reader)
    read.close()


@both_loops
async def test_many_writers_wait_in_turn(streams):
    writer, reader, write, read = streams(1)
    sent = [asyncio.ensure_future(writer.send(n)) for n in range(50)]
    await turns()
    assert [await take(reader) for _ in range(50)] == list(range(50))
    await asyncio.gather(*sent)
    write.close()
    read.close()


@both_loops
async def test_a_writer_that_gives_up_takes_its_message_back(streams):
    writer, reader, write, read = streams(1)
    await writer.send("first")
    given_up = asyncio.ensure_future(writer.send("given up"))
    last = asyncio.ensure_future(writer.send("last"))
    await turns()
    given_up.cancel()
    await turns()
    assert [await take(reader), await take(reader)] == ["first", "last"]
    await last
    assert given_up.cancelled()
    write.close()
    read.close()


@both_loops
async def test_a_reader_that_gives_up_loses_nothing(streams):
    writer, reader, write, read = streams(1)
    waiting = asyncio.ensure_future(take(reader))
    await turns()
    # It is over, and has not left the queue yet.
    waiting.cancel()
    await writer.send("kept")
    await turns()
    assert waiting.cancelled()
    assert await take(reader) == "kept"
    write.close()
    read.close()


@both_loops
async def test_a_writer_learns_that_the_other_end_is_gone(streams):
    writer, _, write, read = streams(0)
    waiting = asyncio.ensure_future(writer.send("lost"))
    await turns()
    read.close()
    with pytest.raises(anyio.BrokenResourceError):
        await waiting
    with pytest.raises(anyio.BrokenResourceError):
        await writer.send("lost, too")
    write.close()


@both_loops
async def test_a_writer_learns_that_its_own_end_is_closed(streams):
    writer, _, write, read = streams(0)
    waiting = asyncio.ensure_future(writer.send("withdrawn"))
    await turns()
    write.close()
    with pytest.raises(anyio.ClosedResourceError):
        await waiting
    with pytest.raises(anyio.ClosedResourceError):
        await writer.send("too late")
    read.close()


@pytest.mark.parametrize(
    ("end", "error"), [("write", anyio.EndOfStream), ("read", anyio.ClosedResourceError)]
)
@both_loops
async def test_a_reader_that_waits_learns_of_either_end(streams, end, error):
    _, reader, write, read = streams(0)
    waiting = asyncio.ensure_future(take(reader))
    await turns()
    (write if end == "write" else read).close()
    with pytest.raises(error):
        await waiting
    write.close()
    read.close()


@both_loops
async def test_a_full_stream_does_not_keep_the_loop_to_itself():
    write, read = anyio.create_memory_object_stream(BATCH * 4)
    reader = Reader(read)
    for n in range(BATCH * 3):
        write.send_nowait(n)
    others = []

    async def other():
        while True:
            others.append(len(taken))
            await asyncio.sleep(0)

    taken = []
    beside = asyncio.ensure_future(other())
    while len(taken) < BATCH * 3:
        taken.append(await take(reader))
    beside.cancel()
    assert taken == list(range(BATCH * 3))
    assert BATCH in others
    write.close()
    read.close()


@both_loops
async def test_a_message_comes_with_the_context_of_its_sender():
    import contextvars

    who = contextvars.ContextVar("who", default="nobody")

    write, read = create_context_streams(0)
    writer, reader = Writer(write), Reader(read)

    async def send(name):
        who.set(name)
        await writer.send(name)

    sent = [asyncio.ensure_future(send(name)) for name in ("one", "other")]
    for name in ("one", "other"):
        context, item = reader.receive_nowait() or await reader.receive()
        assert item == name
        assert context[who] == name
    await asyncio.gather(*sent)
    write.close()
    read.close()


@both_loops
async def test_an_anyio_that_keeps_its_queues_elsewhere_is_awaited_as_it_is(monkeypatch):
    monkeypatch.setattr("turnout.mcp.dispatch.queues._has_queues", lambda stream: False)

    write, read = create_context_streams(1)
    writer, reader = Writer(write), Reader(read)
    sent = [asyncio.ensure_future(writer.send(n)) for n in range(20)]
    assert [await take(reader) for _ in range(20)] == list(range(20))
    await asyncio.gather(*sent)
    write.close()
    with pytest.raises(anyio.EndOfStream):
        await take(reader)
    read.close()
