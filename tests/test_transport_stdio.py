"""The stdio transport towards a child process: start, bytes, flow, stderr, every way to end."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import signal
import sys
import threading

import pytest

from transport_link import FakeLink, run
from turnout.transports import stdio
from turnout.transports.child import ChildTransport
from turnout.transports.pipes import HIGH_WATER, READ_BUDGET

LOOPS = ["asyncio", "uvloop"]
pytestmark = pytest.mark.parametrize("loop_kind", LOOPS)

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)\n"


def python(code: str, **options):
    return stdio(sys.executable, "-c", code, **options)


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descriptors() -> int:
    return len(list(pathlib.Path("/dev/fd").iterdir()))


async def gone(pid: int) -> bool:
    """Whether the process ends; the kernel needs a moment after a signal."""
    for _ in range(200):
        if not alive(pid):
            return True
        await asyncio.sleep(0.01)
    return False


def test_bytes_go_both_ways_and_a_clean_exit_is_known(loop_kind):
    """TRS_10: close shuts stdin, the child exits by itself, and its exit code is told."""

    async def main():
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

    run(loop_kind, main())


def test_close_hands_up_what_still_comes(loop_kind):
    """A late answer, written after stdin ended, reaches the link before the end does."""

    async def main():
        link = FakeLink()
        code = "import sys\nsys.stdin.read()\nprint('late', flush=True)\nsys.exit(3)"
        transport = await python(code).open(link)
        await transport.close()
        assert link.lines == ["late"]
        assert link.losses == [(None, 3)]

    run(loop_kind, main())


def test_a_large_write_is_flushed_before_stdin_ends(loop_kind):
    """What was written before close arrives whole, through pause and resume."""

    async def main():
        link = FakeLink()
        code = "import sys\nprint(len(sys.stdin.buffer.read()), flush=True)"
        transport = await python(code).open(link)
        for _ in range(50):
            transport.write(b"x" * 100_000)
        assert link.paused == 1
        await transport.close()
        assert link.lines == [str(50 * 100_000)]

    run(loop_kind, main())


def test_writing_pauses_and_resumes(loop_kind):
    """A child that reads late pauses us once and resumes us once it reads."""

    async def main():
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

    run(loop_kind, main())


def test_all_bytes_come_before_the_end(loop_kind):
    """A child that writes much and exits at once: every byte, then the exit code."""

    async def main():
        link = FakeLink()
        transport = await python("import os\nos.write(1, b'y' * 200_000)\nos._exit(7)").open(link)
        assert await link.until_lost() == (None, 7)
        assert len(link.data) == 200_000
        await transport.close()

    run(loop_kind, main())


def test_a_flood_shares_the_loop(loop_kind):
    """One turn of the loop reads a bounded number of bytes, however many there are."""

    async def main():
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

    run(loop_kind, main())


@pytest.mark.parametrize(("code", "exit_code"), [("os._exit(9)", 9), ("os.kill(os.getpid(), 9)", -9)])
def test_trs_14_an_unexpected_exit_carries_its_code(loop_kind, code, exit_code):
    """TRS_14: a crash mid-call is the end of file, with the exit code or the negative signal."""

    async def main():
        link = FakeLink()
        transport = await python(f"import os, sys\nsys.stdin.readline()\n{code}").open(link)
        transport.write(b"{}\n")
        assert await link.until_lost() == (None, exit_code)
        await transport.close()

    run(loop_kind, main())


def test_trs_11_a_server_may_end_by_closing_its_output(loop_kind):
    """TRS_11: stdout closed, exit soon after: one end, with the exit code."""

    async def main():
        link = FakeLink()
        code = "import os\nos.write(1, b'bye\\n')\nos.close(1)\nos._exit(4)"
        transport = await python(code).open(link)
        assert await link.until_lost() == (None, 4)
        assert link.lines == ["bye"]
        await transport.close()

    run(loop_kind, main())


def test_a_server_that_closes_its_output_and_lives_on_is_ended(loop_kind):
    """Without stdout there is no channel: after the bound the link hears of it, and the process goes."""

    async def main():
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

    run(loop_kind, main())


def test_a_server_that_closes_its_input_only_is_lost_at_the_next_write(loop_kind):
    """A broken stdin is the end of the channel too: nothing can be asked any more."""

    async def main():
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

    run(loop_kind, main())


def test_trs_10_tmo_02_a_server_that_ignores_eof_is_terminated(loop_kind):
    """TRS_10: SIGTERM after the wait."""

    async def main():
        link = FakeLink()
        code = "import os, time\nos.write(1, b'ready\\n')\ntime.sleep(600)"
        transport = await python(code, close_timeout=0.05).open(link)
        await link.until(lambda: link.lines)
        await transport.close()
        assert link.losses == [(None, -signal.SIGTERM)]

    run(loop_kind, main())


def test_trs_10_a_server_that_ignores_sigterm_is_killed(loop_kind):
    """TRS_10: SIGKILL after the second wait, for the whole group."""

    async def main():
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

    run(loop_kind, main())


def test_a_grandchild_that_holds_stdout_does_not_keep_the_connection(loop_kind):
    """The child is dead and its own child holds the pipe: bounded, and the holder is ended."""

    async def main():
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

    run(loop_kind, main())


def test_abort_kills_at_once(loop_kind):
    """No waiting: the group is killed, and the link hears of it in a later turn."""

    async def main():
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

    run(loop_kind, main())


def test_a_loop_that_goes_away_during_close_leaves_no_process(loop_kind):
    """Whatever cancels the closing, as a second Ctrl-C does, ends the patience and not the duty."""

    async def main():
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

    run(loop_kind, main())


def test_abort_from_within_received(loop_kind):
    """A peer that refuses a frame aborts while the transport is still reading."""

    async def main():
        link = FakeLink(size=16)
        transport = await python("import os, time\nos.write(1, b'n' * 1000)\ntime.sleep(600)").open(link)
        link.on_data = transport.abort
        await link.until_lost()
        assert len(link.data) == 16
        await transport.close()

    run(loop_kind, main())


def test_a_link_that_fails_ends_its_channel(loop_kind):
    """What a failing link made of the bytes is unknown: no more may follow."""

    async def main():
        link = FakeLink()
        link.on_data = lambda: 1 / 0
        code = "import os, sys\nos.write(1, b'x')\nsys.stdin.read()"
        transport = await python(code, settle_timeout=0.05).open(link)
        error, _ = await link.until_lost()
        assert isinstance(error, ZeroDivisionError)
        await transport.close()

    run(loop_kind, main())


def test_stderr_lines_reach_a_callback_cut_and_escaped(loop_kind):
    """Control characters are escaped, long lines cut, the last words come before the end."""

    async def main():
        lines: list[str] = []
        link = FakeLink()
        seen_at_end: list[int] = []
        link.on_lost = lambda: seen_at_end.append(len(lines))
        code = (
            "import os\n"
            "os.write(2, b'plain\\n\\x1b[31mred\\xff\\r\\n' + b'l' * 70000 + b'\\n\\nlast words')\n"
            "os._exit(1)"
        )
        transport = await python(code, stderr=lines.append).open(link)
        await link.until_lost()
        assert lines[:2] == ["plain", "\\x1b[31mred\\xff"]
        assert lines[2] == "l" * 65536 + " [and 4464 bytes more]"
        assert lines[3:] == ["", "last words"]
        assert seen_at_end == [5]
        await transport.close()

    run(loop_kind, main())


def test_stderr_goes_to_a_logger_by_default(loop_kind, caplog):
    """The logger `turnout.stdio.stderr`, level INFO, with the peer's name."""
    caplog.set_level(logging.INFO)

    async def main():
        link = FakeLink()
        transport = await python("import sys\nprint('hello', file=sys.stderr)", name="srv").open(link)
        await link.until_lost()
        await transport.close()

    run(loop_kind, main())
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name != "asyncio"] == [
        ("turnout.stdio.stderr", "INFO", "srv: hello")
    ]


def test_stderr_goes_to_a_given_logger(loop_kind, caplog):
    caplog.set_level(logging.INFO)

    async def main():
        link = FakeLink()
        target = python(
            "import sys\nprint('x', file=sys.stderr)", stderr=logging.getLogger("mine"), name="srv"
        )
        await target.open(link)
        await link.until_lost()

    run(loop_kind, main())
    assert [r.getMessage() for r in caplog.records if r.name == "mine"] == ["srv: x"]


def test_stderr_is_inherited_or_discarded(loop_kind, capfd):
    async def main():
        for way in ("inherit", "discard"):
            link = FakeLink()
            transport = await python(f"import sys\nprint('{way}ed', file=sys.stderr)", stderr=way).open(link)
            await link.until_lost()
            await transport.close()

    run(loop_kind, main())
    assert capfd.readouterr().err == "inherited\n"


def test_a_stderr_callback_that_raises_is_reported_and_reading_goes_on(loop_kind):
    async def main():
        complaints: list[object] = []
        loop = asyncio.get_running_loop()
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
        link = FakeLink()
        transport = await python("import os\nos.write(2, b'a\\nb\\n')", stderr=lambda _: 1 / 0).open(link)
        await link.until_lost()
        await transport.close()
        loop.set_exception_handler(handler)
        assert [type(c) for c in complaints] == [ZeroDivisionError] * 2

    run(loop_kind, main())


def test_environment_and_working_directory(loop_kind, tmp_path):
    async def main():
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

    run(loop_kind, main())


def test_what_cannot_start_says_so_and_leaks_nothing(loop_kind, tmp_path):
    """A missing command, a missing directory, a file that is no program: builtin errors that name it."""

    async def main():
        before = descriptors()
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            await stdio("no-such-program").open(FakeLink())
        with pytest.raises(FileNotFoundError, match="nowhere"):
            await python("", cwd=tmp_path / "nowhere").open(FakeLink())
        (tmp_path / "text").write_text("no program")
        with pytest.raises(PermissionError, match="text"):
            await stdio(tmp_path / "text").open(FakeLink())
        assert descriptors() == before

    run(loop_kind, main())


def test_no_descriptor_outlives_the_channel(loop_kind):
    async def main():
        counts = []
        for _ in range(3):
            link = FakeLink()
            transport = await python(ECHO, stderr=print).open(link)
            await transport.close()
            counts.append(descriptors())
        assert counts[0] == counts[-1]

    run(loop_kind, main())


def test_the_exit_is_heard_without_process_descriptors(loop_kind, monkeypatch):
    """Where the system has no pidfd, a thread waits."""

    def refuse(pid, flags=0):
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)

    async def main():
        link = FakeLink()
        transport = await python(ECHO).open(link)
        await transport.close()
        assert link.losses == [(None, 0)]

    run(loop_kind, main())


def test_a_loop_in_another_thread_can_have_children(loop_kind):
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

        results.append(run(loop_kind, main()))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    assert results == [[(None, 0)]]


def test_many_children_at_once(loop_kind):
    async def main():
        links = [FakeLink() for _ in range(8)]
        transports = await asyncio.gather(*(python(ECHO).open(link) for link in links))
        for number, transport in enumerate(transports):
            transport.write(b"%d\n" % number)
        for number, link in enumerate(links):
            await link.until(lambda link=link: link.lines)
            assert link.lines == [str(number)]
        await asyncio.gather(*(transport.close() for transport in transports))
        assert all(link.losses == [(None, 0)] for link in links)

    run(loop_kind, main())


def test_names_and_refused_arguments(loop_kind):
    assert stdio("/usr/bin/python3", "server.py", "--x").name == "python3 server.py --x"
    assert stdio("python", "server.py", name="files").name == "files"
    assert len(stdio("python", "x" * 500).name) == 80
    with pytest.raises(ValueError, match="timeouts"):
        stdio("python", close_timeout=-1)
    with pytest.raises(ValueError, match="loudly"):
        stdio("python", stderr="loudly")  # type: ignore[arg-type]
    assert ChildTransport.kind == stdio("python").kind == "stdio"
