"""The relay's handshake with clients, answered with what the upstreams offered in theirs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from turnout._native import INTERNAL_ERROR
from turnout.errors import Error, RequestError
from turnout.handlers import members_of
from turnout.protocol import handshake
from turnout.relay.errors import relay_fault
from turnout.relay.features.merged_lists import merged_capabilities
from turnout.relay.mrtr.replay import meta_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turnout._native import Relay, Request
    from turnout.peer import Peer
    from turnout.relay.clients import Client, Clients
    from turnout.relay.mrtr.replay import InputReplay
    from turnout.router import Router


class RelayHandshake:
    """Answers `initialize` and `server/discover` for a relay.

    Args:
        router: says who we are.
        core: the native relay.
        clients: who opens a connection.
        replay: makes what asks a client for input, of what it said that it can do.
        begun: is called with each legacy client that was told what its upstreams offer.

    """

    def __init__(
        self,
        router: Router,
        core: Relay,
        clients: Clients,
        replay: Callable[[dict[str, Any]], InputReplay],
        begun: Callable[[Client], None],
    ) -> None:
        self._router = router
        self._core = core
        self._clients = clients
        self._replay = replay
        self._begun = begun

    async def initialize(self, request: Request) -> dict[str, Any]:
        """Answer `initialize`.

        Raises:
            RequestError: no upstream was there.

        """
        client, params = request.peer, members_of(request.params)
        asked = params.get("protocolVersion")
        wanted = asked if asked in handshake.LEGACY else handshake.LEGACY[0]
        able = handshake.capabilities_in(wanted, members_of(params.get("capabilities")))
        offered = _implementation(params.get("clientInfo"), able, self._router.implementation.name)
        # Nothing but `ping` is asked of it before it sent `notifications/initialized` (PNG-14), as it may have already.
        if not client.connection.is_opened:
            self._clients[client].accepts_requests.clear()
        self._clients[client].offered = offered
        client.set_rules(wanted, "server", opened=None, era="settled")
        peers = await self._connected_upstreams(client, offered, wanted)
        first = peers[0]
        newest = handshake.LEGACY[0] if first.revision == handshake.MODERN else first.revision
        revision = min(wanted, newest)
        taken = (handshake.declared_tasks(peer.server_capabilities) for peer in peers)
        client.connection.declare_tasks(ours=set().union(*taken))
        client.set_rules(revision, "server", opened=None, era="settled")
        meta = meta_of(offered)
        if meta is not None and client.on_input_needed is None:
            client.on_input_needed = self._replay(offered.capabilities).run
            self._core.ask_client_as(client.connection, meta)
        self._begun(self._clients[client])
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
        peers = await self._connected_upstreams(
            client, client_implementation(request, self._router), handshake.MODERN
        )
        client.connection.settle_era(handshake.MODERN)
        info = {f"{handshake.META}serverInfo": self._info(client, peers)}
        return {"supportedVersions": [handshake.MODERN], "_meta": info, **self._offer(client, peers)}

    def _offer(self, client: Peer, peers: list[Peer]) -> dict[str, Any]:
        offered = merged_capabilities(peers)
        self._clients[client].plan.advertise_list_changes(offered["capabilities"])
        offered["capabilities"] = handshake.capabilities_in(client.revision, offered["capabilities"])
        return offered

    async def _connected_upstreams(
        self, client: Peer, implementation: handshake.Implementation, revision: str
    ) -> list[Peer]:
        """The connections that serve a client: all of them, or of several those that are there in time."""
        assigned, opened = None, []
        # It is told of what it has when it is answered: another one may have come meanwhile.
        while assigned is not self._clients[client].assignment:
            assigned = self._clients[client].assignment
            sessions = list(assigned.sessions.values())
            if not sessions:
                data = {"reason": "no_route", "sent": False}
                raise RequestError(INTERNAL_ERROR, "no route leads this client to a server", data)
            for session in sessions:
                session.prepare_for(implementation, revision)
            waits = [session.wait() if len(sessions) == 1 else session.wait_briefly() for session in sessions]
            opened = await asyncio.gather(*waits, return_exceptions=True)
        peers = [peer for peer in opened if not isinstance(peer, BaseException)]
        if not peers:
            for error in opened:
                # Also where it has no credentials: whoever gives these says why.
                is_told = isinstance(error, RequestError) or not isinstance(error, (OSError, Error))
                if isinstance(error, BaseException) and is_told:
                    raise error
            upstream_names = ", ".join(session.upstream.name for session in sessions)
            raise relay_fault("unreachable", upstream_names)
        return peers

    def _info(self, client: Peer, peers: list[Peer]) -> Mapping[str, Any]:
        sole = peers[0].server_info if len(self._clients[client].sessions) == 1 else None
        return sole or self._router.implementation.info


def client_implementation(request: Request, router: Router) -> handshake.Implementation:
    """The implementation that a modern client names in a request."""
    meta = members_of(members_of(request.params).get("_meta"))
    info, able = meta.get(f"{handshake.META}clientInfo"), meta.get(f"{handshake.META}clientCapabilities")
    return _implementation(info, able, router.implementation.name)


def _implementation(info: Any, capabilities: Any, otherwise: str) -> handshake.Implementation:
    info = members_of(info)
    return handshake.Implementation(
        info.get("name") or otherwise, info.get("version"), dict(members_of(capabilities))
    )


__all__ = ["RelayHandshake", "client_implementation"]
