"""How `turnout call` ends for the shell: one number for each way a call can end."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from turnout import errors

if TYPE_CHECKING:
    from typing_extensions import Self

    from turnout.cli.session import Ended


class Exit(enum.IntEnum):
    """Exit codes; the text in `--help` is made of these comments."""

    RESULT = 0, "a result"
    ERROR = 1, "the peer answered with an error, or with a result that says isError"
    USAGE = 2, "the command line was wrong"
    TIMED_OUT = 3, "a timeout passed"
    LOST = 4, "the server could not be started or opened, or was lost"
    OTHER = 5, "it ended in another way: refused here, cancelled by the server, or nobody read the output"
    CANCELLED = 130, "cancelled by Ctrl-C"
    TERMINATED = 143, "cancelled because turnout was terminated"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member of a number and what it means."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


def exit_code(ended: Ended) -> Exit:
    """The exit code for how a call ended, when nobody interrupted it."""
    error = ended.error
    if error is None:
        return Exit.ERROR if is_error_result(ended.result) else Exit.RESULT
    if isinstance(error, (errors.RemoteError, errors.InvalidResponse)):
        return Exit.ERROR
    if isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError):
        return Exit.TIMED_OUT
    if isinstance(error, (OSError, errors.HandshakeFailed)):
        return Exit.LOST
    return Exit.OTHER


def is_error_result(result: Any) -> bool:
    """Whether a tool says that it failed; to the protocol that is a result (tools, "Error Handling")."""
    return isinstance(result, dict) and result.get("isError") is True
