"""Log levels of legacy clients (`logging/setLevel`) on upstreams that several of them share, or of the other era."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from turnout import json, opening
from turnout.errors import Error, RequestError
from turnout.relay.listing import members_of
from turnout.relay.meta import going_on
from turnout.relay.refusal import reaching

if TYPE_CHECKING:
    from turnout._native import Notification, Request
    from turnout.peer import Peer
    from turnout.relay.place import Place
    from turnout.relay.relay import Relay

MESSAGE = "notifications/message"
SET_LEVEL = "logging/setLevel"

LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""From the most verbose to the least."""


class Levels:
    """Which client wants to hear how much of the log.

    A server's log belongs to its one client, or to nobody: what a shared server says is dropped, unless its upstream
    was declared with `shares_log`. Then the server is set to the most verbose level that a client asked for, and each
    client is told what is at least as grave as its own level; one that set none is told nothing.

    Args:
        relay: whose they are.

    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._by_client: dict[Peer, int] = {}
        self._followed: WeakSet[Peer] = WeakSet()

    async def answer(self, request: Request) -> dict[str, Any] | None:
        """Answer `logging/setLevel`.

        Raises:
            RequestError: there is no such level, or the server refused it.

        """
        level = json.loads(members_of(request.raw_params).get("level", b"null"))
        if level not in LEVELS:
            raise RequestError(
                opening.INVALID_PARAMS, f"there is no such log level; there are {', '.join(LEVELS)}"
            )
        client, relay = request.peer, self._relay
        places = relay.places_of(client)
        if len(places) == 1 and places[0].is_private:
            with reaching(places[0].upstream.label):
                peer = await places[0].wait()
            if peer.revision != opening.MODERN:
                await relay.forward(request, places[0].upstream.label)
                return None
        self._by_client[client] = LEVELS.index(level)
        for place in places:
            if place.is_private or place.upstream.shares_log:
                with reaching(place.upstream.label):
                    peer = await place.wait()
                    await self._set(place, peer, level if place.is_private else self._of(place))
        return {}

    def opened(self, peer: Peer, place: Place) -> None:
        """Set the level of a new connection, as far as clients asked for one."""
        level = self._of(place)
        if (place.upstream.shares_log or place.is_private) and level is not None:
            self._relay.attempt(self._set(place, peer, level))

    def forget(self, client: Peer) -> None:
        """Take note that a client is gone, which may leave only less verbose ones."""
        if self._by_client.pop(client, None) is None:
            return
        for place in self._relay.places_of(client):
            level = self._of(place)
            if (
                place.upstream.shares_log
                and not place.is_private
                and place.peer is not None
                and level is not None
            ):
                self._relay.attempt(self._set(place, place.peer, level))

    def _of(self, place: Place) -> str | None:
        """The most verbose level that a client of the place asked for."""
        asked = [level for client, level in self._by_client.items() if self._relay.holds(client, place)]
        return LEVELS[min(asked)] if asked else None

    async def _set(self, place: Place, peer: Peer, level: str | None) -> None:
        if level is None or "logging" not in peer.server_capabilities:
            return
        if peer.revision == opening.MODERN:
            # Each request says how much of the log it wants; to a shared server nobody's does.
            if place.is_private:
                opening.mark_requests(peer, place.identity, level)
            return
        if not place.is_private and peer not in self._followed:
            self._followed.add(peer)
            peer.on_notification(MESSAGE)(lambda notification: self._tell(place, notification))
        await peer.send(SET_LEVEL, {"level": level}, progress=False)

    def _tell(self, place: Place, notification: Notification) -> None:
        params = going_on(members_of(notification.raw_params), keeps_envelope=False)
        level = json.loads(params.get("level", b"null"))
        if level not in LEVELS:
            return
        for client, least in list(self._by_client.items()):
            if LEVELS.index(level) >= least and self._relay.holds(client, place):
                with contextlib.suppress(Error):
                    client.notify(MESSAGE, json.joined(params))


__all__ = ["LEVELS", "Levels"]
