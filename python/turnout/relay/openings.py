"""Openings of clients, answered from what the upstreams said at their own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from turnout import opening
from turnout._native import Connection
from turnout.errors import Error, RequestError
from turnout.handlers import members_of
from turnout.relay.catalogue import together
from turnout.relay.rounds import Rounds, meta_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout._native import Request
    from turnout.peer import Peer
    from turnout.relay.relay import Relay


class Openings:
    """Answers `initialize` and `server/discover` for a relay.

    Args:
        relay: whose clients open their connections.

    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    async def initialize(self, request: Request) -> dict[str, Any]:
        """Answer `initialize`.

        Raises:
            RequestError: no upstream was there.

        """
        relay, client, params = self._relay, request.peer, members_of(request.params)
        asked = params.get("protocolVersion")
        wanted = asked if asked in opening.LEGACY else opening.LEGACY[0]
        able = opening.capabilities_in(wanted, members_of(params.get("capabilities")))
        offered = _identity(params.get("clientInfo"), able, relay.router.identity.name)
        # Nothing but `ping` is asked of it before it sent `notifications/initialized` (PNG-14), as it may have already.
        if not client.is_opened:
            relay.clients[client].may_be_asked.clear()
        client.set_rules(wanted, "server", opened=None, era="settled")
        peers = await self._opened(client, offered, wanted)
        first = peers[0]
        newest = opening.LEGACY[0] if first.revision == opening.MODERN else first.revision
        revision = min(wanted, newest)
        taken = (opening.taken_as_tasks(peer.server_capabilities) for peer in peers)
        client.declare_tasks(ours=set().union(*taken))
        client.set_rules(revision, "server", opened=None, era="settled")
        meta = meta_of(offered)
        if meta is not None and client.on_input_needed is None:
            client.on_input_needed = Rounds(relay, offered.capabilities).go_on
            relay.ask_client_as(client, meta)
        relay.begin_session(client)
        return {
            "protocolVersion": revision,
            **self._offer(client, peers),
            "serverInfo": self._info(client, peers),
        }

    async def discover(self, request: Request) -> dict[str, Any]:
        """Answer `server/discover`; the client is of the modern era when this succeeds, and may shake hands otherwise.

        Raises:
            RequestError: no upstream was there.

        """
        client = request.peer
        peers = await self._opened(client, said_in(request, self._relay), opening.MODERN)
        client.settle_era(opening.MODERN)
        info = {f"{opening.META}serverInfo": self._info(client, peers)}
        return {"supportedVersions": [opening.MODERN], "_meta": info, **self._offer(client, peers)}

    def _offer(self, client: Peer, peers: list[Peer]) -> dict[str, Any]:
        offered = together(peers)
        self._relay.plan_of(client).offer(offered["capabilities"])
        offered["capabilities"] = opening.capabilities_in(client.revision, offered["capabilities"])
        return offered

    async def _opened(self, client: Peer, identity: opening.Identity, revision: str) -> list[Peer]:
        """The connections that serve a client: all of them, or of several those that are there in time."""
        places = self._relay.places_of(client)
        if not places:
            data = {"reason": "no_route", "sent": False}
            raise RequestError(-32603, "no route leads this client to a server", data)
        for place in places:
            place.serve(identity, revision)
        waits = [place.wait() if len(places) == 1 else place.wait_briefly() for place in places]
        opened = await asyncio.gather(*waits, return_exceptions=True)
        peers = [peer for peer in opened if isinstance(peer, Connection)]
        if not peers:
            for error in opened:
                if isinstance(error, BaseException) and not isinstance(error, (OSError, Error)):
                    raise error
            labels = ", ".join(place.upstream.label for place in places)
            data = {"reason": "upstream_closed", "sent": False, "upstream": labels}
            raise RequestError(-32603, "the server could not be started, reached or opened", data)
        return peers

    def _info(self, client: Peer, peers: list[Peer]) -> Mapping[str, Any]:
        sole = peers[0].server_info if len(self._relay.places_of(client)) == 1 else None
        return sole or self._relay.router.identity.info


def said_in(request: Request, relay: Relay) -> opening.Identity:
    """Who a modern client says that it is, with each request."""
    meta = members_of(members_of(request.params).get("_meta"))
    info, able = meta.get(f"{opening.META}clientInfo"), meta.get(f"{opening.META}clientCapabilities")
    return _identity(info, able, relay.router.identity.name)


def _identity(info: Any, capabilities: Any, otherwise: str) -> opening.Identity:
    info = members_of(info)
    return opening.Identity(
        info.get("name") or otherwise, info.get("version"), dict(members_of(capabilities))
    )


__all__ = ["Openings", "said_in"]
