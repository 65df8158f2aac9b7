"""What stands between a peer and its wire: four small protocols and who may call whom when.

The rules both sides rely on:

- A transport calls its link only from callbacks of the event loop, never inside a task, because the
  link settles futures on the spot. `received` and `feed` may run application callbacks, and those may
  call `write`, `close` or `abort` of the same transport before they return.
- `lost` is called exactly once for every transport that was opened, whoever ended it: after all bytes
  that arrived, before `close()` returns, and in a later turn of the loop than `abort()`.
- A peer that only writes no more may still read: `eof_received` says so, once, and the link closes the transport when
  what was asked is answered. Where the system tells that the peer is gone altogether, `lost` says that at once.
- While `close()` runs, bytes that still arrive are still handed up: a late answer is evidence.
- `write` after the end is silently dropped. `pause_writing` may be called from inside `write`.
- A transport may have a method `unread() -> int | None`: how many of the bytes that it was given its peer has not
  read yet, those that wait in the transport included; None where the system cannot tell. An answer waits until the
  progress before it was read (`Router(delay_answers=...)`); without the method it waits as where nobody can tell, and
  only for a write of its own where the transport's `delays_answers` is false: its peer loses nothing then.
- A transport may have methods `pause_reading()` and `resume_reading()`, idempotent: in between it reads nothing from
  its peer, which holds too much here. One without them is read on, and closed sooner.
- A transport whose `takes_views` is true is given large writes as a `memoryview`, which saves a copy. It may
  keep the view for as long as it likes: what it shows does not change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard

if TYPE_CHECKING:
    from turnout._native import Input


class Link(Protocol):
    """What a transport sees of the peer above it."""

    @property
    def input(self) -> Input:
        """The read buffer that the native core owns.

        It implements the writable buffer protocol, so that a socket is received straight into it, and
        `read(fd)`, one read(2) into it: the number of bytes read, 0 at end of file, -1 when it would
        block, `OSError` otherwise.
        """
        ...

    def received(self, count: int) -> None:
        """Process `count` bytes that now stand in `input`."""
        ...

    def feed(self, data: bytes) -> None:
        """Process bytes that the transport already holds."""
        ...

    def pause_writing(self) -> None:
        """Keep frames back, bounded and with progress coalesced, until `resume_writing`."""
        ...

    def resume_writing(self) -> None:
        """Write again: the transport has room."""
        ...

    def limit(self, name: str) -> int:
        """The value of a limit, by its name in `turnout.LIMITS`."""
        ...

    def eof_received(self) -> None:
        """Take note that the peer writes no more, after all bytes that arrived.

        What it asked may still be answered; the link calls `close` when that is done, and `lost` follows.
        """
        ...

    def lost(self, error: BaseException | None, *, exit_code: int | None = None) -> None:
        """Take note that the channel is over; called once.

        Args:
            error: what broke the channel; None for an end of file or a close of our own.
            exit_code: how the peer's process ended, negative for a signal; None where there is no
                process, or where it had not ended in time.

        """
        ...


class Transport(Protocol):
    """An open channel of bytes to one peer."""

    @property
    def kind(self) -> str:
        """`"stdio"`, `"unix"`, `"tcp"` or `"memory"`."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes; called once per turn of the loop with everything there is."""
        ...

    async def close(self) -> None:
        """End the channel gracefully within the transport's own bounds; idempotent."""
        ...

    def abort(self) -> None:
        """End the channel at once, without waiting for anything; idempotent."""
        ...


class Target(Protocol):
    """A peer that can be connected to: what `Router.connect` takes."""

    @property
    def kind(self) -> str:
        """The `Transport.kind` that `open` will give."""
        ...

    @property
    def name(self) -> str:
        """A short name for people and records: `"python server.py"`, `"/run/x.sock"`."""
        ...

    async def open(self, link: Link) -> Transport:
        """Start or connect to the peer; bytes may reach `link` before this returns.

        Raises:
            OSError: the peer could not be started or reached.

        """
        ...


class Accept(Protocol):
    """What a listener hands its connections to: whoever has their peers."""

    def __call__(self, transport: Transport, name: str, /) -> Link:
        """Take a connection in, and give the link that its bytes then go to.

        Raising refuses the connection: it is aborted, and no `lost` follows.

        Args:
            transport: of the connection.
            name: for its other end.

        """
        ...

    def limit(self, name: str) -> int:
        """The value of a limit of the peers that it makes, by its name in `turnout.LIMITS`."""
        ...


class Listener(Protocol):
    """A place where peers arrive: what `Router.serve` takes.

    The whole of `Router.serve`: `await listener.start(accept)`, where `accept` builds a peer around
    the transport it is given and returns that peer's link, and later `await listener.close()`, which
    ends the accepting only. Connections that were accepted belong to the router.
    """

    @property
    def kind(self) -> str:
        """The `Transport.kind` of every connection accepted here."""
        ...

    @property
    def name(self) -> str:
        """Where it listens; the port that the system chose is in it once `start` returned."""
        ...

    async def start(self, accept: Accept) -> None:
        """Listen; each connection is handed to `accept` in a callback of the loop.

        Raises:
            OSError: the address is in use or not ours.

        """
        ...

    async def close(self) -> None:
        """Accept no more; idempotent. Accepted connections live on."""
        ...


def is_target(value: object) -> TypeGuard[Target]:
    """True for what `Router.connect` takes."""
    return hasattr(value, "open") and hasattr(value, "kind")
