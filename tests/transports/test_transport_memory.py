"""The pair in memory: order, one delivery a turn, and every way to end."""

from __future__ import annotations

import asyncio

import pytest

from loops import both_loops, new_loop
from transport_link import FakeLink
from turnout.transports import memory
from turnout.transports.memory import HIGH_WATER


async def opened():
    left, right = memory()
    links = FakeLink(), FakeLink()
    return links, (await left.open(links[0]), await right.open(links[1]))


@both_loops
async def test_what_one_writes_is_fed_to_the_other_once_per_turn():
    (a, b), (left, right) = await opened()
    for number in range(3):
        left.write(b"%d\n" % number)
    right.write(b"up\n")
    assert not b.data
    await b.until(lambda: b.data)
    assert b.calls == [("feed", 6)]
    assert b.lines == ["0", "1", "2"]
    await a.until(lambda: a.data)
    assert a.lines == ["up"]
    assert left.kind == right.kind == "memory"
    left.abort()
    await b.until_lost()


@both_loops
async def test_close_is_the_end_of_file_after_everything_written():
    (a, b), (left, right) = await opened()
    right.write(b"late\n")
    left.write(b"last\n")
    await left.close()
    assert (b.lines, a.lines) == (["last"], ["late"])
    assert a.losses == b.losses == [(None, None)]
    right.write(b"dropped")
    await right.close()
    await left.close()
    assert len(a.losses) == len(b.losses) == 1
    assert not a.in_task
    assert not b.in_task


@both_loops
async def test_closing_from_within_feed():
    (a, b), (left, right) = await opened()
    tasks = []

    def answer_and_close():
        right.write(b"answer\n")
        tasks.append(asyncio.ensure_future(right.close()))

    b.on_data = answer_and_close
    left.write(b"ask\n")
    await a.until_lost()
    assert a.lines == ["answer"]
    await tasks[0]


@both_loops
async def test_abort_drops_what_waits_and_breaks_the_other():
    (a, b), (left, _) = await opened()
    left.write(b"dropped")
    left.abort()
    left.abort()
    assert not a.losses
    error, _ = await b.until_lost()
    assert isinstance(error, ConnectionResetError)
    assert a.losses == [(None, None)]
    assert not b.data
    await left.close()


@both_loops
async def test_what_is_written_before_the_other_end_opens_waits():
    """And the writer is paused past the mark, then resumed."""
    left, right = memory(name="pair")
    assert left.name == right.name == "pair"
    a, b = FakeLink(), FakeLink()
    transport = await left.open(a)
    transport.write(b"x" * (HIGH_WATER + 1))
    transport.write(b"y")
    assert (a.paused, a.resumed) == (1, 0)
    await right.open(b)
    await a.until(lambda: a.resumed)
    assert len(b.data) == HIGH_WATER + 2
    await transport.close()
    assert b.losses == [(None, None)]


@both_loops
async def test_closing_before_the_other_end_opens():
    """The close does not wait for it; it still gets what was written, and the end."""
    left, right = memory()
    a, b = FakeLink(), FakeLink()
    transport = await left.open(a)
    transport.write(b"only\n")
    await transport.close()
    assert a.losses == [(None, None)]
    other = await right.open(b)
    await b.until_lost()
    assert b.lines == ["only"]
    assert len(a.losses) == 1
    await other.close()


def test_an_end_is_opened_once_and_both_in_one_loop(on_loop, loop_kind):
    async def main():
        left, right = memory()
        transport = await left.open(FakeLink())
        with pytest.raises(RuntimeError, match="before"):
            await left.open(FakeLink())
        return transport, right

    _, right = on_loop(main())
    other = new_loop(loop_kind)
    try:
        with pytest.raises(RuntimeError, match="one event loop"):
            other.run_until_complete(right.open(FakeLink()))
    finally:
        other.close()
