"""Being the server: our own stdin and stdout, kept clean, in a child process of the test."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from loops import both_loops
from transport_link import FakeLink
from turnout.transports import own_stdio, stdio
from turnout.transports.pipes import READ_BUDGET

HERE = pathlib.Path(__file__).parents[1] / "kit"

SERVER = """
import asyncio, os, subprocess, sys
sys.path.insert(0, {here!r})
from loops import run
from transport_link import FakeLink
from turnout.transports import own_stdio

async def main():
    link = FakeLink()
    {before}
    transport = await own_stdio(close_timeout={close_timeout}).open(link)
    {body}
    await transport.close()
    assert not link.in_task and len(link.losses) == 1
    {after}

run({kind!r}, main())
"""


def code(kind, body, *, before="pass", after="pass", close_timeout=2.0):
    parts = {"before": before, "body": body, "after": after}
    parts = {name: part.strip().replace("\n", "\n    ") for name, part in parts.items()}
    return SERVER.format(here=str(HERE), kind=kind, close_timeout=close_timeout, **parts)


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": ""}


def start(script):
    lines: list[str] = []
    return stdio(sys.executable, "-c", script, env=environment(), stderr=lines.append), lines


ECHO = """
link.on_data = lambda: transport.write(bytes(link.data)) or link.data.clear()
await link.until_eof()
"""


@both_loops
async def test_a_client_and_a_server_meet(loop_kind):
    """TRS_12: the end of stdin ends the channel, and the process."""
    target, errors = start(code(loop_kind, ECHO))
    link = FakeLink()
    transport = await target.open(link)
    transport.write(b"hello\n")
    await link.until(lambda: link.data)
    await transport.close()
    assert link.lines == ["hello"]
    assert link.losses == [(None, 0)], errors


@both_loops
async def test_trs_02_nothing_but_the_protocol_reaches_stdout(loop_kind):
    """TRS_02: prints, raw writes to descriptor 1 and children's output are no protocol; stdin is empty."""
    body = """
print("stray")
sys.__stdout__.write("kept reference")
os.write(1, b"raw\\n")
subprocess.run([sys.executable, "-c", "import sys; print('child', repr(sys.stdin.read()))"], check=True)
transport.write(b"frame\\n")
"""

    target, errors = start(
        code(loop_kind, body, before="sys.stdout.write('buffered before')", after="print('free again')")
    )
    link = FakeLink()
    transport = await target.open(link)
    assert await link.until_lost() == (None, 0), errors
    assert link.lines == ["frame", "free again"]
    text = "\n".join(errors)
    for stray in ("stray", "kept reference", "raw", "child ''", "buffered before"):
        assert stray in text
    await transport.close()


@both_loops
async def test_what_was_written_is_flushed_at_close(loop_kind):
    target, errors = start(code(loop_kind, "transport.write(b'x' * 1_000_000)"))
    link = FakeLink()
    transport = await target.open(link)
    assert await link.until_lost() == (None, 0), errors
    assert len(link.data) == 1_000_000
    await transport.close()


@pytest.mark.parametrize("lines", [2, READ_BUDGET // 2])
def test_a_client_that_is_done_asking_still_gets_what_was_written(loop_kind, tmp_path, lines):
    """Requests from a file, answers to a file: neither can be polled, both work, and take several turns of the loop."""
    asked = b"".join(b"%d\n" % line for line in range(lines))
    (tmp_path / "in").write_bytes(asked)
    with (tmp_path / "in").open() as stdin, (tmp_path / "out").open("w") as stdout:
        subprocess.run(
            [sys.executable, "-c", code(loop_kind, ECHO)],
            stdin=stdin,
            stdout=stdout,
            env=environment(),
            check=True,
            timeout=30,
        )
    assert (tmp_path / "out").read_bytes() == asked


def test_no_input_at_all(loop_kind):
    """`/dev/null` as stdin is an end of file at once."""
    done = subprocess.run(
        [sys.executable, "-c", code(loop_kind, "await link.until_eof()", after="print('done')")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(),
        check=True,
        timeout=30,
    )
    assert done.stdout == b"done\n"


def test_a_client_that_never_reads_does_not_hold_up_close(loop_kind):
    """Bounded: what it did not take within `close_timeout` is dropped."""
    script = code(loop_kind, "transport.write(b'x' * 1_000_000)\nassert link.paused", close_timeout=0.05)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    assert process.wait(30) == 0
    process.stdin.close()
    process.stdout.close()


def test_abort_gives_the_streams_back(loop_kind):
    body = """
transport.write(b'frame\\n')
transport.abort()
assert not link.losses
await link.until_lost()
"""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code(loop_kind, body, after="print('mine', os.get_blocking(0), os.get_blocking(1))"),
        ],
        stdin=subprocess.PIPE,
        capture_output=True,
        env=environment(),
        check=True,
        timeout=30,
    )
    assert done.stdout == b"frame\nmine True True\n"


def test_only_one_at_a_time(loop_kind):
    body = """
try:
    await own_stdio().open(FakeLink())
except RuntimeError as error:
    transport.write(str(error).encode())
"""
    after = "again = await own_stdio().open(FakeLink())\nawait again.close()"
    done = subprocess.run(
        [sys.executable, "-c", code(loop_kind, body, after=after)],
        stdin=subprocess.PIPE,
        capture_output=True,
        env=environment(),
        check=True,
        timeout=30,
    )
    assert b"already speaks" in done.stdout


def test_a_terminal_stays_as_it_was(loop_kind):
    """The non-blocking flag of a terminal is shared with the shell: it is opened anew instead."""
    import pty

    ours, theirs = pty.openpty()
    body = """
transport.write(b'frame\\n')
assert os.get_blocking(2)
link.on_data = transport.abort
await link.until_lost()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code(loop_kind, body)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(),
    )
    os.close(theirs)
    seen = os.read(ours, 1000)
    assert seen.startswith(b"frame")
    os.write(ours, b"line\n")
    assert process.wait(30) == 0
    os.close(ours)


def test_refused_arguments():
    with pytest.raises(ValueError, match="close_timeout"):
        own_stdio(close_timeout=-1)
    assert own_stdio().kind == "stdio"
