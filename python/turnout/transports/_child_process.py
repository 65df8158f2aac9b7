"""One child process: started, watched and signalled the same way on every event loop and thread.

The loops' own `subprocess_exec` was tried and left: uvloop's leaves the child with second, inheritable
copies of its pipes, so that a server that closes its stdout, or whose own child lives on, never ends its
output; and it refuses to start two processes at once from two threads.

A process that ended is looked at first and reaped later: as long as its parent has not done that, no other process
or group can get its number, and a signal to its group reaches what it left behind and nobody else.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence

_started: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()
"""Those that were not reaped here."""


class ChildProcess:
    """A process that leads its own session and group.

    Args:
        loop: the loop that hears of its end.
        command: the program and its arguments.
        stdio: descriptors, or the constants of `subprocess`, for its stdin, stdout and stderr.
        env: its whole environment; None hands on ours.
        cwd: its working directory; None means ours.

    Raises:
        OSError: it could not be started; `filename` says what is missing.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        command: Sequence[str],
        stdio: tuple[int, int, int | None],
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
    ) -> None:
        self._loop = loop
        self.exited: asyncio.Future[int | None] = loop.create_future()
        """The exit code, negative for a signal, once the process ended; None where somebody else reaped it."""
        self._group_is_over = False
        stdin, stdout, stderr = stdio
        self._process = subprocess.Popen(  # noqa: S603 - running what the caller names is the purpose
            command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, start_new_session=True
        )
        _started.add(self._process)
        try:
            # Not on macOS, and refused by old kernels.
            self._pidfd = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):
            self._pidfd = -1
            name = f"turnout-wait-{self._process.pid}"
            threading.Thread(target=self._wait, name=name, daemon=True).start()
        else:
            loop.add_reader(self._pidfd, self._ready)

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    def signal_group(self, number: int) -> bool:
        """Signal the process and all it started; False when nobody is left.

        A process that ended counts until it was reaped; from then on a group keeps its number as long as it has
        members, and one that was seen without any is not signalled again.
        """
        if self._group_is_over:
            return False
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            self._group_is_over = True
            return False
        except PermissionError:
            # What macOS says of a group of zombies.
            return not self.exited.done()
        return True

    def end_group(self) -> bool:
        """Terminate what an ended process left behind, and let go of its number; False when nobody is left."""
        if self._process.returncode is None:
            self.signal_group(signal.SIGTERM)
            self._reap()
        return self.signal_group(0)

    def _ready(self) -> None:
        if self._look(os.WNOHANG):
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)

    def _wait(self) -> None:
        self._look(0)

    def _look(self, flags: int) -> bool:
        """Look at how the process ended, without reaping it where the system can; False while it runs."""
        pid = self._process.pid
        code: int | None
        try:
            if hasattr(os, "waitid"):
                seen = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | flags)
                if seen is None:
                    return False
                code = seen.si_status if seen.si_code == os.CLD_EXITED else -seen.si_status
            else:
                found, status = os.waitpid(pid, flags)
                if found == 0:
                    return False
                code = self._process.returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            # Somebody else waits for any child, or had the system do so: nobody knows any more.
            code = None
            self._process.returncode = 0
        self._tell(code)
        return True

    def _tell(self, code: int | None) -> None:
        if self._pidfd >= 0:
            self._exit(code)
            return
        with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
            self._loop.call_soon_threadsafe(self._exit, code)

    def _exit(self, code: int | None) -> None:
        if not self.exited.done():
            self.exited.set_result(code)

    def _reap(self) -> None:
        _started.discard(self._process)
        try:
            _, status = os.waitpid(self._process.pid, os.WNOHANG)
        except ChildProcessError:
            status = 0
        # Popen would wait for it once more.
        self._process.returncode = os.waitstatus_to_exitcode(status)


def _terminate_all() -> None:
    """Terminate, as this process exits, the groups of servers that nobody closed."""
    for process in tuple(_started):
        with contextlib.suppress(OSError):
            # One that somebody else reaped has a number that may be another's by now.
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            os.killpg(process.pid, signal.SIGTERM)


if hasattr(os, "waitid"):
    atexit.register(_terminate_all)
    # What a fork's child knows of are its parent's.
    os.register_at_fork(after_in_child=_started.clear)

__all__ = ["ChildProcess"]
