"""A client of a relay: where its requests go, and where its upstreams stand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from turnout.handlers import Handlers

if TYPE_CHECKING:
    from turnout.peer import Peer
    from turnout.relay.place import Place
    from turnout.relay.routes import Plan


class Client:
    """What the relay knows of a client.

    Args:
        peer: its connection.
        plan: where its requests go.
        places: where the upstreams stand that the plan leads to.

    Attributes:
        may_be_asked: cleared while a legacy client opens its connection: from `initialize` to `initialized` (PNG-14).
        is_session: whether it is a legacy client that was told what the upstreams offer.
        handlers: what the relay does with its requests, and with what else comes from it.

    """

    def __init__(self, peer: Peer, plan: Plan, places: list[Place]) -> None:
        self.peer = peer
        self.plan = plan
        self.places = {place.position: place for place in places}
        self.may_be_asked = asyncio.Event()
        self.may_be_asked.set()
        self.is_session = False
        self.handlers = Handlers()
        self.handlers.on_notification("notifications/initialized")(lambda _: self.may_be_asked.set())
        peer.relay_by(self.handlers)


__all__ = ["Client"]
