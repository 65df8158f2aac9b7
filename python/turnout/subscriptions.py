"""Subscriptions to resources of a shared legacy upstream: counted, so that the last one out unsubscribes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from turnout.errors import Error

if TYPE_CHECKING:
    from turnout._native import Notification
    from turnout.peer import Peer

UPDATED = "notifications/resources/updated"


class Subscriptions:
    """Which clients want to hear of which resource, by connection: a new epoch starts without any."""

    def __init__(self) -> None:
        self._by_peer: dict[Peer, dict[str, set[Peer]]] = {}

    def follow(self, peer: Peer) -> None:
        """Pass updates of a new connection on to those who asked for them."""
        before = [resources for old, resources in self._by_peer.items() if not old.is_open]
        self._by_peer = {old: resources for old, resources in self._by_peer.items() if old.is_open}
        subscribed = self._by_peer.setdefault(peer, {})

        @peer.on_notification(UPDATED)
        def tell(notification: Notification) -> None:
            params = notification.params or {}
            for client in tuple(subscribed.get(params.get("uri", ""), ())):
                with contextlib.suppress(Error):
                    client.notify(UPDATED, params)

        for resources in before:
            for uri, clients in resources.items():
                subscribed.setdefault(uri, set()).update(clients)
        for uri in subscribed:
            peer.send("resources/subscribe", {"uri": uri}, progress=False)

    async def add(self, peer: Peer, client: Peer, uri: str) -> None:
        """Subscribe a client; the first one subscribes upstream.

        Raises:
            RemoteError: the upstream refused it.

        """
        clients = self._by_peer.setdefault(peer, {}).setdefault(uri, set())
        if not clients:
            await peer.send("resources/subscribe", {"uri": uri}, progress=False)
        clients.add(client)

    async def remove(self, peer: Peer, client: Peer, uri: str) -> None:
        """Unsubscribe a client; the last one unsubscribes upstream."""
        clients = self._by_peer.get(peer, {}).get(uri, set())
        clients.discard(client)
        if not clients and self._by_peer.get(peer, {}).pop(uri, None) is not None:
            await peer.send("resources/unsubscribe", {"uri": uri}, progress=False)

    async def forget(self, client: Peer) -> None:
        """Unsubscribe a client that is gone from everything."""
        for peer, resources in list(self._by_peer.items()):
            for uri in [uri for uri, clients in resources.items() if client in clients]:
                with contextlib.suppress(Error):
                    await self.remove(peer, client, uri)
