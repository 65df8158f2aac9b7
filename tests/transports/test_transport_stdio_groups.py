"""What a child process leaves behind in its group, and an end that somebody else took note of."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from child_process import gone, python, reaped
from loops import both_loops
from transport_link import FakeLink
from turnout.transports import _child_process

STAYS = (
    "[sys.executable, '-c', 'import time; time.sleep(600)'], stdin=nothing, stdout=nothing, stderr=nothing"
)
"""A grandchild that holds no pipe of its parent's."""

LEAVES = f"""
import os, subprocess, sys, time
nothing = subprocess.DEVNULL
child = subprocess.Popen({STAYS})
os.write(1, b'%d\\n' % child.pid)
"""

STUBBORN = (
    LEAVES.replace("'import time;", "'import signal, time; signal.signal(15, 1); print(flush=True);")
    .replace("stdout=nothing", "stdout=subprocess.PIPE")
    .replace("os.write", "child.stdout.readline()\nos.write", 1)
)
"""One that does not heed SIGTERM."""


async def started(code, **options):
    """A child that runs the code, and the grandchild that it told of."""
    link = FakeLink()
    transport = await python(code, **options).open(link)
    await link.until(lambda: link.lines)
    return link, transport, int(link.lines[0])


@both_loops
async def test_l7_an_orderly_close_ends_what_holds_no_pipe():
    link, transport, grandchild = await started(LEAVES + "sys.stdin.read()")
    await transport.close()
    assert link.losses == [(None, 0)]
    assert await gone(grandchild)
    await reaped(transport.pid)


@pytest.mark.parametrize("code", ["os._exit(5)", "os.kill(os.getpid(), 9)"])
@both_loops
async def test_l7_a_crash_ends_what_holds_no_pipe(code):
    """Nobody has to close for it."""
    link, transport, grandchild = await started(f"{LEAVES}sys.stdin.readline()\n{code}")
    transport.write(b"\n")
    assert (await link.until_lost())[1] in (5, -9)
    assert await gone(grandchild)
    await transport.close()


@both_loops
async def test_l7_abort_kills_the_group_of_a_leader_that_is_gone_already():
    link, transport, grandchild = await started(STUBBORN + "os._exit(0)", terminate_timeout=600)
    transport.abort()
    await link.until_lost()
    assert await gone(grandchild)
    await reaped(transport.pid)


@both_loops
async def test_l7_what_does_not_heed_sigterm_is_killed():
    link, transport, grandchild = await started(STUBBORN + "sys.stdin.read()", terminate_timeout=0.1)
    await transport.close()
    assert link.losses == [(None, 0)]
    assert await gone(grandchild)


@both_loops
async def test_l7_a_cancel_of_the_close_ends_the_group():
    _, transport, grandchild = await started(STUBBORN + "time.sleep(600)")
    closing = asyncio.ensure_future(transport.close())
    await asyncio.sleep(0)
    [ending] = [task for task in asyncio.all_tasks() if "_terminate" in repr(task)]
    ending.cancel()
    await asyncio.wait([closing])
    assert await gone(grandchild)
    assert await gone(transport.pid)
    transport.abort()


def test_l7_a_program_that_ends_without_closing_terminates_the_group(on_loop, tmp_path):
    """What is left running at the exit of the interpreter is asked to end."""
    script = tmp_path / "host.py"
    script.write_text(
        "import asyncio, sys\n"
        "from transport_link import FakeLink\n"
        "from child_process import python\n"
        f"CODE = {LEAVES + 'time.sleep(600)'!r}\n"
        "async def main():\n"
        "    link = FakeLink()\n"
        "    main.kept = await python(CODE).open(link)\n"
        "    await link.until(lambda: link.lines)\n"
        "    print(link.lines[0])\n"
        "asyncio.run(main())\n"
    )
    here = str(pathlib.Path(__file__).parents[1] / "kit")
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": here},
        capture_output=True,
        check=True,
        timeout=30,
    )
    on_loop(asserted_gone(int(done.stdout)))


async def asserted_gone(pid):
    assert await gone(pid)


def test_l7_a_group_without_members_is_not_signalled_again(on_loop, monkeypatch):
    """Its number may be another's by then."""
    signalled = []
    killpg = os.killpg

    def note(group, number):
        signalled.append(number)
        killpg(group, number)

    monkeypatch.setattr(_child_process.os, "killpg", note)

    async def main():
        link = FakeLink()
        transport = await python("pass").open(link)
        await link.until_lost()
        assert signalled == [signal.SIGTERM, 0]
        transport.abort()
        await transport.close()
        assert signalled == [signal.SIGTERM, 0]

    on_loop(main())


async def loses_the_exit_code():
    """Somebody else takes what the process ended with."""
    link = FakeLink()
    transport = await python("import sys\nprint(flush=True)\nsys.stdin.read()\nsys.exit(3)").open(link)
    await link.until(lambda: link.data)
    # Any program may wait for children that are not its own, or have the system forget them all.
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        await transport.close()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert link.losses == [(None, None)]


def test_l5_an_exit_code_that_somebody_else_took_is_not_known(on_loop):
    on_loop(loses_the_exit_code())


def test_l5_nor_where_a_thread_waits(on_loop, monkeypatch):
    def refuse(pid, flags=0):
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    on_loop(loses_the_exit_code())
