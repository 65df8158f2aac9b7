"""Joins one connection to its transport: bytes in and out, and how either of them ends the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from turnout._native import memory_usage
from turnout.errors import LimitExceeded
from turnout.protocol.keepalive import Keepalive

if TYPE_CHECKING:
    from turnout._native import Input
    from turnout.peer import Peer
    from turnout.transports.channel import Transport


class PeerLink:
    """What a transport sees of a peer: `turnout.transports.Link`.

    Args:
        peer: the peer.

    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._connection = self.connection = peer.connection
        # Called for every read: nothing of Python's is between the transport and the connection.
        vars(self).update(received=peer.connection.received, feed=peer.connection.feed)
        self.transport: Transport | None = None
        self.keepalive: Keepalive | None = None
        self._is_paused = False
        self._lost = peer.loop.create_future()
        self._eof_timer: asyncio.TimerHandle | None = None

    def use(self, transport: Transport) -> None:
        """Write to `transport` from now on."""
        peer = self._peer
        self.transport = transport
        self._connection.attach(
            peer.loop,
            transport.write,
            takes_views=getattr(transport, "takes_views", False),
            unread=getattr(transport, "unread", None),
            delay_answers=peer.router.delay_answers and getattr(transport, "delays_answers", True),
        )
        if peer.router.ping is not None:
            self.keepalive = Keepalive(peer, peer.router.ping)

    # ---- the transport's side ----

    @property
    def input(self) -> Input:
        """The read buffer that the native core owns."""
        return self._connection.input

    def received(self, count: int) -> None:
        """Process `count` bytes that now stand in `input`."""
        self._connection.received(count)

    def feed(self, data: bytes) -> None:
        """Process bytes that the transport already holds."""
        self._connection.feed(data)

    def pause_writing(self) -> None:
        """Keep frames back, bounded and with progress coalesced, until `resume_writing`."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Write again: the transport has room."""
        self._connection.resume_writing()

    def limit(self, name: str) -> int:
        """The value of a limit: the router's."""
        return self._peer.router.limit(name)

    def eof_received(self) -> None:
        """Take note that the peer writes no more: what it asked is answered yet, within `eof_timeout`; then it is over.

        Our own requests end at once: nobody answers them any more.
        """
        self._connection.feed_end()
        self._connection.end_input()
        if self.keepalive is not None:
            self.keepalive.stop()
        if self._connection.is_over or self.transport is None:
            return
        transport, loop = self.transport, self._peer.loop

        def write(data: bytes) -> None:
            transport.write(data)
            loop.call_soon(self._end_if_answered)

        # What it has read does not matter any more: no answer waits for that.
        self._connection.attach(loop, write, takes_views=getattr(transport, "takes_views", False))
        self._eof_timer = loop.call_later(self._peer.router.eof_timeout, self._end_unanswered)
        loop.call_soon(self._end_if_answered)

    def _end_if_answered(self) -> None:
        if not self._connection.is_over and self._connection.is_answered:
            self._end_unanswered()

    def _end_unanswered(self) -> None:
        if self._eof_timer is not None:
            self._eof_timer.cancel()
        if not self._connection.is_over and self.transport is not None:
            self._connection.end("peer_closed")
            self._connection.flush()
            self._peer.router.spawn(self.transport.close())

    def lost(self, error: BaseException | None, *, exit_code: int | None = None) -> None:
        """Take the end of the channel: everything in flight ends, once."""
        peer = self._peer
        peer.error, peer.exit_code = peer.error or error, exit_code
        self._connection.feed_end()
        self._connection.end("peer_closed" if exit_code is None else "peer_exited", exit_code=exit_code)
        if error is None:
            # A peer that closed its side may still read; write the delayed answers.
            self._connection.flush()
        self.release()

    # ---- the end ----

    def release(self) -> None:
        """Let go of the transport, the loop and the router: the connection is over."""
        self._connection.detach()
        if self.keepalive is not None:
            self.keepalive.stop()
        if self._eof_timer is not None:
            self._eof_timer.cancel()
        if not self._lost.done():
            self._lost.set_result(None)
        self._peer.router.forget(self._peer)
        self._peer.delivery.connection_lost()

    async def wait_lost(self) -> None:
        """Wait until the channel is over, whoever ended it."""
        await asyncio.shield(self._lost)

    async def close(self) -> None:
        """Close the transport, gracefully; the connection is over already."""
        if self.transport is not None:
            await self.transport.close()
        self.release()

    def break_off(self, outcome: Literal["closed", "peer_closed", "peer_silent", "evicted"]) -> None:
        """Close at once, without writing anything."""
        self._connection.end(outcome)
        if self.transport is not None:
            self.transport.abort()
        self.release()

    # ---- what the connection reports ----

    def write_failed(self, error: BaseException) -> None:
        """End the connection after a failed write."""
        self._peer.error = error
        self.break_off("peer_closed")

    def follow_account(self) -> None:
        """Act on how much all connections hold, and this one of it."""
        peer, connection = self._peer, self._connection
        if connection.account_state == "evicted":
            if not connection.is_over:
                held, most = connection.held_bytes, memory_usage()["max_total_bytes"]
                peer.router.warn_of_end(
                    peer,
                    f"max_total_bytes ({most}) is reached, and no connection holds more than its {held} bytes",
                )
                peer.error = LimitExceeded("max_total_bytes", most)
            self.break_off("evicted")
            return
        is_paused = connection.account_state == "paused"
        if is_paused == self._is_paused or connection.is_over:
            return
        self._is_paused = is_paused
        switch = getattr(self.transport, "pause_reading" if is_paused else "resume_reading", None)
        if switch is not None:
            switch()
        connection.set_reading(not is_paused)

    def overdue(self, limit: str, value: int) -> None:
        """Close the connection, which was not opened or whose frame was not ended in time."""
        peer = self._peer
        peer.error = LimitExceeded(limit, value)
        peer.router.overdue_peers += 1
        peer.router.warn_of_end(peer, f"{limit} ({value}) is reached")
        self.break_off("peer_silent")


__all__ = ["PeerLink"]
