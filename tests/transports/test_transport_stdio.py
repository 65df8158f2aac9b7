"""The stdio transport towards a child process: its start, bytes in both directions, flow."""

from __future__ import annotations

import asyncio
import threading

import pytest

from child_process import ECHO, descriptors, python
from loops import both_loops
from transport_link import FakeLink
from turnout.transports import stdio
from turnout.transports.pipes import HIGH_WATER, READ_BUDGET
from turnout.transports.stdio import ChildTransport


@both_loops
async def test_bytes_go_both_ways_and_a_clean_exit_is_known():
    """close shuts stdin, the child exits by itself, and its exit code is told."""
    link = FakeLink()
    transport = await python(ECHO).open(link)
    transport.write(b'{"a":1}\n{"b":2}\n')
    await link.until(lambda: link.data.count(b"\n") == 2)
    await transport.close()
    assert link.losses == [(None, 0)]
    assert link.lines == ['{"a":1}', '{"b":2}']
    assert {call for call, _ in link.calls} == {"received"}
    await transport.close()
    transport.abort()
    transport.write(b"dropped")
    assert len(link.losses) == 1


@both_loops
async def test_a_large_write_is_flushed_before_stdin_ends():
    """What was written before close arrives whole, through pause and resume."""
    link = FakeLink()
    code = "import sys\nprint(len(sys.stdin.buffer.read()), flush=True)"
    transport = await python(code).open(link)
    for _ in range(50):
        transport.write(b"x" * 100_000)
    assert link.paused == 1
    await transport.close()
    assert link.lines == [str(50 * 100_000)]


@both_loops
async def test_writing_pauses_and_resumes():
    """A child that reads late pauses us once and resumes us once it reads."""
    link = FakeLink()
    code = (
        "import sys\nsys.stdin.readline()\nprint('go', flush=True)\n"
        "data = sys.stdin.buffer.read()\nprint(len(data), flush=True)"
    )
    transport = await python(code).open(link)
    transport.write(b"x" * (2 * 1024 * 1024))
    assert (link.paused, link.resumed) == (1, 0)
    transport.write(b"x" * HIGH_WATER)
    assert link.paused == 1
    transport.write(b"\n")
    await link.until(lambda: link.resumed)
    assert (link.paused, link.resumed) == (1, 1)
    await transport.close()


@both_loops
async def test_a_flood_shares_the_loop():
    """One turn of the loop reads a bounded number of bytes, however many there are."""
    loop = asyncio.get_running_loop()
    link = FakeLink()
    in_turn = [0]
    most = [0]

    def count():
        in_turn[0] += link.calls[-1][1]
        most[0] = max(most[0], in_turn[0])

    def next_turn():
        in_turn[0] = 0
        if not link.losses:
            loop.call_soon(next_turn)

    link.on_data = count
    loop.call_soon(next_turn)
    transport = await python("import os\nfor _ in range(100): os.write(1, b'z' * 100_000)").open(link)
    await link.until_lost()
    assert len(link.data) == 10_000_000
    assert most[0] <= READ_BUDGET + len(link.input)
    await transport.close()


@both_loops
async def test_environment_and_working_directory(tmp_path):
    link = FakeLink()
    target = python(
        "import os\nprint(os.getcwd(), os.environ.get('COLOUR'), 'HOME' in os.environ)",
        env={"COLOUR": "green"},
        cwd=tmp_path,
    )
    transport = await target.open(link)
    await link.until_lost()
    assert link.lines == [f"{tmp_path.resolve()} green False"]
    await transport.close()


@both_loops
async def test_what_cannot_start_says_so_and_leaks_nothing(tmp_path):
    """A missing command, a missing directory, a file that is no program: builtin errors that name it."""
    before = descriptors()
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await stdio("no-such-program").open(FakeLink())
    with pytest.raises(FileNotFoundError, match="nowhere"):
        await python("", cwd=tmp_path / "nowhere").open(FakeLink())
    (tmp_path / "text").write_text("no program")
    with pytest.raises(PermissionError, match="text"):
        await stdio(tmp_path / "text").open(FakeLink())
    assert descriptors() == before


def test_a_loop_in_another_thread_can_have_children(on_loop):
    """No child watcher of the main thread is needed."""
    results: list[object] = []

    def body():
        async def main():
            link = FakeLink()
            transport = await python(ECHO).open(link)
            transport.write(b"hi\n")
            await link.until(lambda: link.lines)
            await transport.close()
            return link.losses

        results.append(on_loop(main()))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    assert results == [[(None, 0)]]


@both_loops
async def test_many_children_at_once():
    links = [FakeLink() for _ in range(8)]
    transports = await asyncio.gather(*(python(ECHO).open(link) for link in links))
    for number, transport in enumerate(transports):
        transport.write(b"%d\n" % number)
    for number, link in enumerate(links):
        await link.until(lambda link=link: link.lines)
        assert link.lines == [str(number)]
    await asyncio.gather(*(transport.close() for transport in transports))
    assert all(link.losses == [(None, 0)] for link in links)


def test_names_and_refused_arguments():
    assert stdio("/usr/bin/python3", "server.py", "--x").name == "python3 server.py --x"
    assert stdio("python", "server.py", name="files").name == "files"
    assert len(stdio("python", "x" * 500).name) == 80
    with pytest.raises(ValueError, match="a timeout must be at least 0 seconds"):
        stdio("python", close_timeout=-1)
    with pytest.raises(ValueError, match="loudly"):
        stdio("python", stderr="loudly")  # type: ignore[arg-type]
    assert ChildTransport.kind == stdio("python").kind == "stdio"
