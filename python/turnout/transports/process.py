"""One child process: started, watched and signalled the same way on every event loop and thread.

The loops' own `subprocess_exec` was tried and left: uvloop's leaves the child with second, inheritable
copies of its pipes, so that a server that closes its stdout, or whose own child lives on, never ends its
output; and it refuses to start two processes at once from two threads.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence


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
        self.exited: asyncio.Future[int] = loop.create_future()
        """The exit code, negative for a signal, once the process ended and was reaped."""
        stdin, stdout, stderr = stdio
        self._process = subprocess.Popen(  # noqa: S603 - running what the caller names is the purpose
            command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, start_new_session=True
        )
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

        Once the leader has been reaped this is for when something still holds its pipes open: a group
        that has members keeps its number.
        """
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            # What macOS says of a group of zombies.
            return not self.exited.done()
        return True

    def _ready(self) -> None:
        code = self._process.poll()
        if code is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._exit(code)

    def _wait(self) -> None:
        code = self._process.wait()
        with contextlib.suppress(RuntimeError):  # The loop was closed meanwhile.
            self._loop.call_soon_threadsafe(self._exit, code)

    def _exit(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)
