"""A server as our child process, spoken to over its standard input and output.

Two things end independently, in either order: the process, and the last write end of its output. The
channel is lost when both have, so that every byte was delivered and the exit code is known; where the
second does not follow the first within `settle_timeout`, the channel is lost without it and whatever
still runs is terminated. The child leads its own process group: a signal reaches what it started, and a
Ctrl-C at our terminal does not reach it. Whichever way it ends, what is left of the group is ended, too: asked by
SIGTERM, and forced by SIGKILL after `terminate_timeout`. Out of reach is what left the group by a session or group of
its own, as daemons do; and where our own process is killed before it can act, what does not heed the end of its
stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from turnout.arguments import require_seconds
from turnout.escape import escaped
from turnout.transports._child_process import ChildProcess
from turnout.transports.by_value import ByValue
from turnout.transports.pipes import PipeReader, PipeWriter, widen
from turnout.transports.stderr import LOGGER, StderrLines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turnout.transports.channel import Link

Stderr: TypeAlias = "Callable[[str], object] | logging.Logger | Literal['inherit', 'discard'] | None"

T = TypeVar("T")

NAME_LENGTH = 80
"""Characters of a command line that become a peer's name."""

REAP_TIMEOUT = 5.0
"""Seconds to wait for a process that was killed: only one stuck in the kernel takes longer."""

POLL_INTERVAL = 0.05
"""Seconds between looks at a group whose leader is gone: nobody tells us when the rest of it ends."""


def stdio(
    command: str | os.PathLike[str],
    *args: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stderr: Stderr = None,
    name: str | None = None,
    close_timeout: float = 2.0,
    terminate_timeout: float = 2.0,
    settle_timeout: float = 1.0,
) -> StdioTarget:
    """A server to be started as a child process and spoken to over its stdin and stdout.

    Closing it closes its stdin, waits `close_timeout`, sends SIGTERM to its process group, waits
    `terminate_timeout` and sends SIGKILL (stdio transport, "Shutdown"; TRS-10). However the server ends, what it left
    behind in its process group is ended likewise; a process that started a group or session of its own is not.

    Args:
        command: a program, looked up in `PATH` when it has no slash.
        args: its arguments; no shell takes part.
        env: the whole environment of the child; None hands on ours. To add to ours, pass
            `{**os.environ, "KEY": "value"}`.
        cwd: its working directory; None means ours.
        stderr: where the lines of its standard error go: a callback, a logger (level INFO),
            `"inherit"` for our own stderr, `"discard"`; None means the logger
            `turnout.stdio.stderr`. Lines are cut at `max_stderr_bytes` and control characters escaped, except
            with `"inherit"`.
        name: how records and logs call this peer; None takes the start of the command line, so give
            one where arguments hold secrets.
        close_timeout: seconds that it has to exit by itself once its stdin is closed.
        terminate_timeout: seconds between SIGTERM and SIGKILL.
        settle_timeout: seconds to wait for the exit code after its output ended, and for the end of
            its output after it exited.

    Raises:
        ValueError: a timeout is negative, or `stderr` an unknown word.

    """
    if isinstance(stderr, str) and stderr not in ("inherit", "discard"):
        raise ValueError(f"stderr is a callback, a logger, 'inherit' or 'discard', not {stderr!r}")
    timeouts = (close_timeout, terminate_timeout, settle_timeout)
    for timeout in timeouts:
        require_seconds("a timeout", timeout)
    return StdioTarget((command, *args), env, cwd, stderr, name, timeouts)


class StdioTarget(ByValue):
    """A server not yet started; made by `stdio`, and good for any number of processes."""

    kind = "stdio"

    def __init__(
        self,
        command: tuple[str | os.PathLike[str], ...],
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
        stderr: Stderr,
        name: str | None,
        timeouts: tuple[float, float, float],
    ) -> None:
        self._command = [os.fspath(part) for part in command]
        self._env = env
        self._cwd = cwd
        self._stderr = stderr
        self._timeouts = timeouts
        self.name = name if name is not None else _short_name(self._command)

    async def open(self, link: Link) -> ChildTransport:
        """Start the process.

        Raises:
            FileNotFoundError: there is no such command, or no such working directory.
            PermissionError: it may not be executed.
            OSError: the system refused for another reason.

        """
        if sys.platform == "win32":
            raise NotImplementedError("stdio needs POSIX pipes; Windows is not supported yet")
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            stdin, our_stdin = _pipe(theirs, ours)
            our_stdout, stdout = _pipe(ours, theirs)
            widen(our_stdout)
            stderr: int | None = None
            our_stderr = -1
            if self._stderr == "discard":
                stderr = subprocess.DEVNULL
            elif self._stderr != "inherit":
                our_stderr, stderr = _pipe(ours, theirs)
            for fd in (our_stdin, our_stdout, our_stderr):
                if fd >= 0:
                    os.set_blocking(fd, False)
            process = ChildProcess(loop, self._command, (stdin, stdout, stderr), self._env, self._cwd)
            ours.pop_all()
        lines = None
        if our_stderr >= 0:
            lines = StderrLines(loop, our_stderr, self._sink(), link.limit("max_stderr_bytes"))
        return ChildTransport(loop, link, process, (our_stdin, our_stdout), lines, self._timeouts)

    def _sink(self) -> Callable[[str], object]:
        if callable(self._stderr):
            return self._stderr
        logger = self._stderr if isinstance(self._stderr, logging.Logger) else LOGGER
        name = escaped(self.name)
        return lambda line: logger.info("%s: %s", name, line)


class ChildTransport:
    """The channel to a child process; made by `StdioTarget.open`."""

    kind = "stdio"
    takes_views = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        process: ChildProcess,
        fds: tuple[int, int],
        lines: StderrLines | None,
        timeouts: tuple[float, float, float],
    ) -> None:
        self._loop = loop
        self._link = link
        self._process = process
        self._lines = lines
        self._close_timeout, self._terminate_timeout, self._settle_timeout = timeouts
        stdin, self._stdout = fds
        self._writer = PipeWriter(loop, stdin, link, self._stdin_broke)
        self._reader = PipeReader(loop, self._stdout, link, self._stdout_ended)
        self._output_over = False
        self._error: Exception | None = None
        self._lost: asyncio.Future[None] = loop.create_future()
        self._settling: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None
        self._reader.start()
        process.exited.add_done_callback(self._exited)

    @property
    def pid(self) -> int:
        """The child's process id, and that of its process group."""
        return self._process.pid

    @property
    def last_stderr(self) -> tuple[str, ...]:
        """The last lines of its standard error, escaped and cut; none where that is inherited or discarded."""
        return () if self._lines is None else self._lines.last

    def write(self, data: bytes | memoryview) -> None:
        """Write to the child's stdin."""
        self._writer.write(data)

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self._reader.pause()

    def resume_reading(self) -> None:
        """Read on."""
        self._reader.resume()

    async def close(self) -> None:
        """Close stdin, and see to it that the process ends."""
        await asyncio.shield(self._end(self._close_timeout))

    def abort(self) -> None:
        """Kill the process group."""
        self._process.signal_group(signal.SIGKILL)
        self._reader.stop()
        self._writer.abort()
        self._loop.call_soon(self._finish)

    # Which of the two ends came first decides nothing but who waits for whom.

    def _stdout_ended(self, error: Exception | None) -> None:
        self._output_over = True
        self._error = error
        self._settle()

    def _exited(self, _: asyncio.Future[int | None]) -> None:
        self._writer.abort()
        self._settle()
        if self._lost.done():
            self._end_group()

    def _stdin_broke(self, error: OSError) -> None:
        # Mostly the first sign of a crash; but a child that only closed its stdin is of no use either.
        self._error = self._error or error
        self._settle()

    def _settle(self) -> None:
        if self._output_over and self._process.exited.done():
            self._finish()
        elif self._settling is None and self._ending is None and not self._lost.done():
            self._settling = self._loop.call_later(self._settle_timeout, self._give_up)

    def _give_up(self) -> None:
        self._finish()
        self._end(0)

    def _finish(self) -> None:
        if self._lost.done():
            return
        self._lost.set_result(None)
        if self._settling is not None:
            self._settling.cancel()
        self._reader.stop()
        os.close(self._stdout)
        self._writer.abort()
        if self._lines is not None:
            # The child's last words come before the news of its end.
            self._lines.close()
        exited = self._process.exited
        exit_code = exited.result() if exited.done() else None
        # A broken stdin explains nothing that the end of the process does not explain better.
        error = None if exited.done() else self._error
        if exited.done():
            self._end_group()
        self._link.lost(error, exit_code=exit_code)

    def _end_group(self) -> None:
        """Reap the child and end what it left behind, unless somebody is at it."""
        if self._ending is not None and not self._ending.done():
            return
        if self._process.end_group():
            self._end(0)

    def _end(self, grace: float) -> asyncio.Task[None]:
        if self._ending is None:
            self._ending = self._loop.create_task(self._terminate(grace))
            self._ending.add_done_callback(self._terminated)
        return self._ending

    def _terminated(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            # The loop is going away, and nobody will ask again.
            self._process.signal_group(signal.SIGKILL)
            if self._process.exited.done():
                self._process.end_group()

    async def _terminate(self, grace: float) -> None:
        """Wait, ask, force: each bounded, for the process and then for what it left behind."""
        self._writer.finish()
        await self._wait_exit(grace)
        if not self._process.exited.done():
            self._process.signal_group(signal.SIGTERM)
            await self._wait_exit(self._terminate_timeout)
        if not self._process.exited.done():
            self._process.signal_group(signal.SIGKILL)
            await self._wait_exit(REAP_TIMEOUT)
        await self._wait(self._lost, self._settle_timeout)
        if self._process.exited.done():
            await self._end_leftovers()
        if not self._lost.done():
            # The link must hear of it from the loop, not from inside this task.
            self._loop.call_soon(self._finish)
            await self._wait(self._lost, None)

    async def _end_leftovers(self) -> None:
        """End what outlived the child in its group."""
        deadline = self._loop.time() + self._terminate_timeout
        left = self._process.end_group()
        while left and self._loop.time() < deadline:
            await asyncio.sleep(POLL_INTERVAL)
            left = self._process.signal_group(0)
        if left:
            self._process.signal_group(signal.SIGKILL)

    async def _wait_exit(self, timeout: float) -> None:
        await self._wait(self._process.exited, timeout)

    @staticmethod
    async def _wait(future: asyncio.Future[T], timeout: float | None) -> None:
        if not future.done():
            await asyncio.wait([future], timeout=timeout)


def _pipe(readers: contextlib.ExitStack, writers: contextlib.ExitStack) -> tuple[int, int]:
    """A pipe whose two ends are closed with the stacks that own them."""
    reader, writer = os.pipe()
    readers.callback(os.close, reader)
    writers.callback(os.close, writer)
    return reader, writer


def _short_name(command: list[str]) -> str:
    text = shlex.join([Path(command[0]).name or command[0], *command[1:]])
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "…"
