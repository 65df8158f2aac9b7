"""Keepalive: pings a silent peer, and closes the connection after unanswered pings (ping, up to 2025-11-25)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnout.errors import CallTimedOut, Error, LimitExceeded, RemoteError
from turnout.escape import escaped
from turnout.protocol.handshake import MODERN

if TYPE_CHECKING:
    from turnout.peer import Peer

log = logging.getLogger("turnout")


@dataclass(frozen=True)
class Ping:
    """When peers are pinged; peers of 2026-07-28, which has no ping, never are.

    Args:
        interval: seconds of silence after which a peer is pinged (PNG-07).
        timeout: seconds for its answer (PNG-08).
        failures: how many pings in a row it may leave without an answer before the connection is given up
            (PNG-10, PNG-11).

    Raises:
        ValueError: one of them is not more than 0.

    """

    interval: float = 30.0
    timeout: float = 30.0
    failures: int = 1

    def __post_init__(self) -> None:
        for name in ("interval", "timeout", "failures"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0")


class Keepalive:
    """Pings one peer.

    Args:
        peer: the peer.
        ping: interval, timeout and failures.

    """

    def __init__(self, peer: Peer, ping: Ping) -> None:
        self.missed = 0
        self._peer = peer
        self._ping = ping
        self._heard = self._frames()
        self._task = peer.router.spawn(self._run())

    def stop(self) -> None:
        """Stop pinging."""
        self._task.cancel()

    async def check(self) -> None:
        """Ping the peer if nothing arrived since the last check; close the connection after too many failures."""
        peer, ping = self._peer, self._ping
        if self._has_spoken() or peer.revision == MODERN:
            return
        try:
            await peer.send("ping", timeout=ping.timeout, max_timeout=ping.timeout, progress=False)
        except (CallTimedOut, LimitExceeded):
            if self._has_spoken():
                return
            self.missed += 1
            log.warning(
                "%s left a ping without an answer for %s s (%d of %d)",
                escaped(peer.name), ping.timeout, self.missed, ping.failures,
            )  # fmt: skip
            if self.missed >= ping.failures:
                peer.link.break_off("peer_silent")
        except RemoteError:
            self._has_spoken()
        else:
            self._has_spoken()

    async def _run(self) -> None:
        while self._peer.is_open:
            await asyncio.sleep(self._ping.interval)
            try:
                await self.check()
            except Error:
                return  # the connection is over

    def _has_spoken(self) -> bool:
        """Return whether anything arrived since the last call."""
        before, self._heard = self._heard, self._frames()
        if before == self._heard:
            return False
        self.missed = 0
        return True

    def _frames(self) -> int:
        return self._peer.counters()["frames_in"]
