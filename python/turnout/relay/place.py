"""Where a connection to an upstream stands, epoch after epoch: one starter, and a back-off between attempts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from turnout import _native, opening
from turnout.errors import Error, OpeningFailed, PeerLost
from turnout.escape import escaped
from turnout.raised import EXITS
from turnout.relay.upstream import EXCLUSIVE, Restart
from turnout.transports.base import is_target

if TYPE_CHECKING:
    from typing_extensions import Self

    from turnout.peer import Peer
    from turnout.relay.relay import Relay

log = logging.getLogger("turnout")


class Place(_native.Place):
    """Where one connection stands at a time: for one client, or for those who share it.

    Args:
        relay: whose it is.
        position: which upstream it leads to.
        client: the one client it serves; None for any number of them.

    """

    def __new__(cls, _relay: Relay, position: int, client: Peer | None = None) -> Self:
        """Make the native part."""
        sharing = _relay.upstreams[position].sharing
        return super().__new__(cls, position, client is not None, sharing in EXCLUSIVE)

    def __init__(self, relay: Relay, position: int, client: Peer | None = None) -> None:
        self.relay = relay
        self.client = client
        self.upstream = relay.upstreams[position]
        shared = opening.Identity(relay.router.identity.name, relay.router.identity.version)
        self.identity = shared if client is None else relay.router.identity
        self._serves: str | None = None
        self.peer: Peer | None = None
        self._starter: asyncio.Task[Peer] | None = None
        self._pause = 0.0
        self._not_before = 0.0
        self._closed = False

    @property
    def is_there(self) -> bool:
        """Whether a connection stands there now."""
        return self.peer is not None and self.peer.is_open

    def serve(self, identity: opening.Identity, revision: str) -> None:
        """Say whom the next connection is for; a place that all clients share asks for no one's era.

        Args:
            identity: who the client says that it is, with what it offers.
            revision: the revision that it speaks.

        """
        if self.upstream.sharing == "per_client":
            self.identity = identity
        if self.upstream.sharing == "per_client" or not self.is_there:
            self._serves = revision

    async def start(self) -> Peer:
        """Make the connection, in one attempt, which keeps its distance from one that failed.

        Raises:
            OSError: it could not be started or reached.
            OpeningFailed: it was reached but could not be opened.

        """
        if self.peer is not None and self.peer.is_open:
            return self.peer
        return await self._make()

    async def renew(self, drain: float) -> None:
        """Make another connection, which takes what is new, and close the one before it when that is done.

        Args:
            drain: seconds in which requests in flight on the one before may still end by themselves.

        Raises:
            OSError: it could not be started or reached; the one that stands is left alone.
            OpeningFailed: it was reached but could not be opened, likewise.

        """
        before = self.peer
        await self._make()
        if before is not None and before is not self.peer:
            self.relay.retire(before)
            self.relay.subscriptions.retired(before)
            await before.drain(drain)
            self.relay.cancel_rest(before)
            await before.close()

    async def wait(self, *, patiently: bool = True) -> Peer:
        """The connection; made if it is not there, waited for if somebody makes it.

        Args:
            patiently: False does not wait for an attempt that is put off because the last one failed.

        Raises:
            PeerLost: the next attempt is put off.
            OSError: it could not be made, or not in time.
            OpeningFailed: it was reached but could not be opened.

        """
        if not patiently and not self.is_there and self._not_before > asyncio.get_running_loop().time():
            raise PeerLost(f"{self.upstream.label} is not there; it is tried again later")
        try:
            return await asyncio.wait_for(self.start(), self.upstream.patience)
        except asyncio.TimeoutError:
            raise TimeoutError(
                f"{self.upstream.label} was not there within {self.upstream.patience} s"
            ) from None
        except asyncio.CancelledError:
            if self._closed:
                raise PeerLost(f"{self.upstream.label} is closed") from None
            raise

    async def wait_briefly(self) -> Peer:
        """As `wait`, but no longer than others should wait for this one upstream.

        Raises:
            OSError: as for `wait`, or it took longer than the upstream's `list_timeout`.

        """
        try:
            return await asyncio.wait_for(self.wait(patiently=False), self.upstream.list_timeout)
        except asyncio.TimeoutError as error:
            raise TimeoutError(f"{self.upstream.label} was not there in time") from error

    async def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        if self._starter is not None:
            self._starter.cancel()
        if self.peer is not None and not self.upstream.is_connected:
            await self.peer.close()
            # The relay knows the place by its connection: one that held it would hold both, and their client, for ever.
            self.peer = None

    @property
    def _is_over(self) -> bool:
        """Whether no more connections are made: the relay is closed, or its router is about to close it."""
        return self._closed or self.relay.router.is_closed

    async def _make(self) -> Peer:
        """Make a connection; whoever wants one meanwhile waits for the same."""
        if self._starter is None:
            self._starter = self.relay.router.spawn(self._start())
            self._starter.add_done_callback(self._done)
        try:
            return await asyncio.shield(self._starter)
        except EXITS:
            # It ends the loop already, out of a task of its own: once, however many wait.
            raise PeerLost(f"{self.upstream.label} is not there, since the program ends") from None

    def _done(self, _starter: asyncio.Task[Peer]) -> None:
        self._starter = None

    async def _attempt(self) -> Peer:
        if self._is_over:
            raise PeerLost(f"{self.upstream.label} is closed")
        target = self.upstream.target
        router = self.relay.router
        if self.upstream.is_connected:
            peer: Peer = target  # type: ignore[assignment]
            if not peer.is_open:
                raise PeerLost(f"{self.upstream.label} is gone")
        else:
            made = target if is_target(target) else target()  # type: ignore[operator]
            peer = await router.connect(
                made,
                era=self.upstream.era,
                name=self.upstream.label,
                open_timeout=self.upstream.open_timeout,
                identity=self._identity(),
            )
        self.peer = peer
        self.relay.opened(peer, self)
        router.spawn(self._watch(peer))
        return peer

    def _identity(self) -> opening.Identity:
        """Who we are: to a server that speaks both eras, of the era of the client that the connection is private to."""
        if self.upstream.sharing not in ("per_client", "per_identity"):
            return self.identity
        serves = self._serves or (opening.MODERN if self.client is None else self.client.revision)
        return replace(self.identity, revision=None if serves == opening.MODERN else serves)

    async def _watch(self, peer: Peer) -> None:
        """Restart what is lost: at once if it had worked, with a growing pause if it keeps failing."""
        loop = asyncio.get_running_loop()
        opened = loop.time()
        await peer.wait_lost()
        self.relay.leave(peer)
        restart = self.upstream.restart
        if restart is None or self.upstream.is_connected or self.peer is not peer:
            return
        if loop.time() - opened >= restart.healthy:
            self._pause = 0.0
        else:
            self._fail()
        while not self._is_over:
            try:
                await self.start()
            except (OSError, Error):  # noqa: PERF203
                continue
            else:
                return

    async def _start(self) -> Peer:
        pause = self._not_before - asyncio.get_running_loop().time()
        if pause > 0:
            await asyncio.sleep(pause)
        label = self.upstream.label
        try:
            return await self._attempt()
        except EXITS:
            self._fail()
            raise
        except (OSError, Error) as error:
            self._fail()
            if not self._is_over:
                log.warning(
                    "the upstream %s could not be opened: %s", escaped(label), escaped(str(error), 2000)
                )
            if isinstance(error, OSError) and not isinstance(error, Error):
                raise ConnectionError(
                    f"the upstream {label} could not be started or reached: {error}"
                ) from error
            if isinstance(error, OpeningFailed):
                raise OpeningFailed(f"the upstream {label} could not be opened: {error}") from error
            raise

    def _fail(self) -> None:
        """Put the next attempt off."""
        restart = self.upstream.restart or Restart()
        self._pause = min(max(self._pause * 2, restart.first), restart.most)
        self._not_before = asyncio.get_running_loop().time() + self._pause
