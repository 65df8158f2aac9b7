"""The stdio transport towards a child process: every way to end, and what is left of the child."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from child_process import ECHO, alive, descriptors, gone, python
from loops import both_loops
from transport_link import FakeLink


@both_loops
async def test_close_hands_up_what_still_comes():
    """A late answer, written after stdin ended, reaches the link before the end does."""
    link = FakeLink()
    code = "import sys\nsys.stdin.read()\nprint('late', flush=True)\nsys.exit(3)"
    transport = await python(code).open(link)
    await transport.close()
    assert link.lines == ["late"]
    assert link.losses == [(None, 3)]


@both_loops
async def test_all_bytes_come_before_the_end():
    """A child that writes much and exits at once: every byte, then the exit code."""
    link = FakeLink()
    transport = await python("import os\nos.write(1, b'y' * 200_000)\nos._exit(7)").open(link)
    assert await link.until_lost() == (None, 7)
    assert len(link.data) == 200_000
    await transport.close()


@pytest.mark.parametrize(("code", "exit_code"), [("os._exit(9)", 9), ("os.kill(os.getpid(), 9)", -9)])
@both_loops
async def test_trs_14_an_unexpected_exit_carries_its_code(code, exit_code):
    """a crash mid-call is the end of file, with the exit code or the negative signal."""
    link = FakeLink()
    transport = await python(f"import os, sys\nsys.stdin.readline()\n{code}").open(link)
    transport.write(b"{}\n")
    assert await link.until_lost() == (None, exit_code)
    await transport.close()


@both_loops
async def test_trs_11_a_server_may_end_by_closing_its_output():
    """stdout closed, exit soon after: one end, with the exit code."""
    link = FakeLink()
    code = "import os\nos.write(1, b'bye\\n')\nos.close(1)\nos._exit(4)"
    transport = await python(code).open(link)
    assert await link.until_lost() == (None, 4)
    assert link.lines == ["bye"]
    await transport.close()


@both_loops
async def test_a_server_that_closes_its_output_and_lives_on_is_ended():
    """Without stdout there is no channel: after the bound the link hears of it, and the process goes."""
    link = FakeLink()
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.write(1, b'%d\\n' % os.getpid())\nos.close(1)\ntime.sleep(600)"
    )
    transport = await python(code, settle_timeout=0.05, terminate_timeout=0.05).open(link)
    assert await link.until_lost() == (None, None)
    assert await gone(int(link.lines[0]))
    await transport.close()
    assert len(link.losses) == 1


@both_loops
async def test_a_server_that_closes_its_input_only_is_lost_at_the_next_write():
    """A broken stdin is the end of the channel too: nothing can be asked any more."""
    link = FakeLink()
    code = "import os, time\nos.close(0)\nos.write(1, b'%d\\n' % os.getpid())\ntime.sleep(600)"
    transport = await python(code, settle_timeout=0.05).open(link)
    await link.until(lambda: link.lines)
    transport.write(b"{}\n")
    error, exit_code = await link.until_lost()
    assert isinstance(error, BrokenPipeError)
    assert exit_code is None
    await transport.close()
    assert not alive(int(link.lines[0]))


@both_loops
async def test_trs_10_tmo_02_a_server_that_ignores_eof_is_terminated():
    """SIGTERM after the wait."""
    link = FakeLink()
    code = "import os, time\nos.write(1, b'ready\\n')\ntime.sleep(600)"
    transport = await python(code, close_timeout=0.05).open(link)
    await link.until(lambda: link.lines)
    await transport.close()
    assert link.losses == [(None, -signal.SIGTERM)]


@both_loops
async def test_trs_10_a_server_that_ignores_sigterm_is_killed():
    """SIGKILL after the second wait, for the whole group."""
    link = FakeLink()
    code = (
        "import os, signal, subprocess, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "os.write(1, b'%d\\n' % child.pid)\ntime.sleep(600)"
    )
    transport = await python(code, close_timeout=0.05, terminate_timeout=0.05).open(link)
    await link.until(lambda: link.lines)
    await transport.close()
    assert link.losses == [(None, -signal.SIGKILL)]
    assert await gone(int(link.lines[0]))


@both_loops
async def test_a_grandchild_that_holds_stdout_does_not_keep_the_connection():
    """The child is dead and its own child holds the pipe: bounded, and the holder is ended."""
    link = FakeLink()
    code = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "os.write(1, b'%d\\n' % child.pid)\nos._exit(5)"
    )
    transport = await python(code, settle_timeout=0.05, terminate_timeout=0.5).open(link)
    assert await link.until_lost() == (None, 5)
    await transport.close()
    assert await gone(int(link.lines[0]))


@both_loops
async def test_abort_kills_at_once():
    """No waiting: the group is killed, and the link hears of it in a later turn."""
    link = FakeLink()
    code = "import os, time\nos.write(1, b'%d\\n' % os.getpid())\ntime.sleep(600)"
    transport = await python(code).open(link)
    await link.until(lambda: link.lines)
    transport.abort()
    assert not link.losses
    transport.abort()
    await link.until_lost()
    assert len(link.losses) == 1
    await transport.close()
    assert not alive(int(link.lines[0]))


@both_loops
async def test_a_loop_that_goes_away_during_close_leaves_no_process():
    """Whatever cancels the closing, as a second Ctrl-C does, ends the patience and not the duty."""
    link = FakeLink()
    transport = await python("import os, time\nos.write(1, b'up\\n')\ntime.sleep(600)").open(link)
    await link.until(lambda: link.lines)
    closing = asyncio.ensure_future(transport.close())
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task(), closing}
    for task in others:
        if "_terminate" in repr(task):
            task.cancel()
    await asyncio.wait([closing])
    assert await gone(transport.pid)
    transport.abort()
    assert await link.until_lost() == (None, -signal.SIGKILL)


@both_loops
async def test_abort_from_within_received():
    """A peer that refuses a frame aborts while the transport is still reading."""
    link = FakeLink(size=16)
    transport = await python("import os, time\nos.write(1, b'n' * 1000)\ntime.sleep(600)").open(link)
    link.on_data = transport.abort
    await link.until_lost()
    assert len(link.data) == 16
    await transport.close()


@both_loops
async def test_a_link_that_fails_ends_its_channel():
    """What a failing link made of the bytes is unknown: no more may follow."""
    link = FakeLink()
    link.on_data = lambda: 1 / 0
    code = "import os, sys\nos.write(1, b'x')\nsys.stdin.read()"
    transport = await python(code, settle_timeout=0.05).open(link)
    error, _ = await link.until_lost()
    assert isinstance(error, ZeroDivisionError)
    await transport.close()


@both_loops
async def test_no_descriptor_outlives_the_channel():
    counts = []
    for _ in range(3):
        link = FakeLink()
        transport = await python(ECHO, stderr=print).open(link)
        await transport.close()
        counts.append(descriptors())
    assert counts[0] == counts[-1]


def test_the_exit_is_heard_without_process_descriptors(on_loop, monkeypatch):
    """Where the system has no pidfd, a thread waits."""

    def refuse(pid, flags=0):
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)

    async def main():
        link = FakeLink()
        transport = await python(ECHO).open(link)
        await transport.close()
        assert link.losses == [(None, 0)]

    on_loop(main())
