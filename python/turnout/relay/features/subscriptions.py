"""Subscriptions: the first subscriber to a change subscribes upstream, the last one to leave unsubscribes.

A change is a resource's, by its URI, or a list's, by the notification that tells of it. A legacy upstream is asked by
`resources/subscribe` and tells of lists unasked; a modern one is asked by one `subscriptions/listen` for all its lists,
and one for each resource.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout._native import INVALID_PARAMS, carried_over
from turnout.errors import Error, PeerLost, RemoteError, RequestError
from turnout.escape import escaped
from turnout.handlers import members_of
from turnout.protocol import handshake
from turnout.relay.background import attempt
from turnout.relay.errors import relay_error, require_limit
from turnout.relay.features.changes import ACKNOWLEDGED, LISTEN, LISTS, UPDATED, Change, Resource, lists_of
from turnout.relay.features.subscribers import LegacySubscriber, Subscriber, Subscription

if TYPE_CHECKING:
    from turnout._native import Notification
    from turnout.peer import Peer
    from turnout.relay.clients import Assignment, Client, Clients
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.router import Router

log = logging.getLogger("turnout")

PAUSE = 1.0
"""Seconds before a listen that the server ended is sent again."""

MIN_SWEEP_SIZE = 256
"""Below this size, entries of closed connections are not swept."""


class Subscriptions:
    """The subscriptions of one relay.

    Args:
        router: whose limits hold.
        clients: whose they are, and what serves them.

    """

    def __init__(self, router: Router, clients: Clients) -> None:
        self._router = router
        self._clients = clients
        self._wanted: dict[UpstreamSession, dict[Change, dict[Subscriber, Subscription]]] = {}
        self._counts: dict[tuple[UpstreamSession, Peer], int] = {}
        self._asked: dict[tuple[Peer, Change], asyncio.Future[None]] = {}
        # Size after the last sweep of closed connections; sweep again when the table has doubled.
        self._size_after_sweep = MIN_SWEEP_SIZE
        self._listens: dict[tuple[Peer, Change], asyncio.Task[None]] = {}
        self._acknowledged: dict[tuple[Peer, int | str], asyncio.Future[None]] = {}

    def opened(self, peer: Peer, session: UpstreamSession) -> None:
        """Ask a new connection of an upstream for everything that the one before it was asked for (SUB-15)."""
        if self._wanted.get(session):
            self._follow(peer, session)
            for change in self._wanted[session]:
                asked = self._ask(session, peer, change)
                asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        for client in self._clients:
            if client.is_session and client.assignment.holds(session):
                self._follow_lists(client, session, peer)

    def begin_session(self, client: Client) -> None:
        """Take note that a legacy client was told what its upstreams offer."""
        client.is_session = True
        for session in client.sessions:
            if session.peer is not None and session.peer.is_open:
                self._follow_lists(client, session, session.peer)

    def reassigned(self, client: Client, before: Assignment) -> None:
        """Take along what a client is subscribed to: to where its routes lead now."""
        assigned = client.assignment
        for session, changes in list(self._wanted.items()):
            for change, subscribers in list(changes.items()):
                for subscriber, wish in list(subscribers.items()):
                    if subscriber.client is client.peer:
                        self._take_along(assigned, (session, change), subscriber, wish.called)
        if client.is_session:
            for session in client.sessions:
                if not before.holds(session) and session.peer is not None and session.peer.is_open:
                    self._follow_lists(client, session, session.peer)

    def _take_along(
        self,
        assigned: Assignment,
        at: tuple[UpstreamSession, Change],
        subscriber: Subscriber,
        called: str,
    ) -> None:
        session, change = at
        if not isinstance(change, Resource):
            if not assigned.holds(session):
                self.remove(session, change, subscriber)
            return
        resolved = assigned.plan.resolve("resources/read", called)
        if resolved == (session.position, change.uri) and assigned.holds(session):
            return
        self.remove(session, change, subscriber)
        if resolved is not None:
            position, name = resolved
            there = self._add_at(assigned.sessions[position], Resource(name), subscriber, called)
            attempt(self._router, there)

    async def _add_at(
        self, session: UpstreamSession, change: Resource, subscriber: Subscriber, called: str
    ) -> None:
        peer = await session.wait()
        if not subscriber.is_over and self._clients.is_assigned(subscriber.client, session):
            await self.add(session, peer, change, subscriber, called)

    def _follow_lists(self, client: Client, session: UpstreamSession, peer: Peer) -> None:
        """Let a legacy client hear of the lists of a modern upstream; a legacy one tells of them unasked."""
        if peer.revision == handshake.MODERN:
            for method in lists_of(peer.server_capabilities):
                attempt(self._router, self.add(session, peer, method, LegacySubscriber(client.peer)))

    def retired(self, peer: Peer) -> None:
        """End the listens on a connection that another one took the place of."""
        for key in [key for key in self._listens if key[0] is peer]:
            self._asked.pop(key, None)
            self._listens.pop(key).cancel()

    async def add(
        self,
        session: UpstreamSession,
        peer: Peer,
        change: Change,
        subscriber: Subscriber,
        called: str | None = None,
    ) -> None:
        """Subscribe to a change; the first subscriber has the upstream asked.

        Args:
            session: where the upstream stands.
            peer: its connection.
            change: what it is about.
            subscriber: who is told.
            called: what the subscriber calls the resource; None for the same.

        Raises:
            RequestError: the upstream refused it, the client wants too much, or the URI is no text.
            PeerLost: it was lost meanwhile, or the client was.

        """
        if subscriber.client not in self._clients:
            # Nobody would take it out again.
            raise PeerLost(f"{subscriber.client.name} is gone")
        key = (session, subscriber.client)
        is_new = subscriber not in self._wanted.get(session, {}).get(change, {})
        if is_new:
            uri = change.uri if isinstance(change, Resource) else ""
            require_limit(self._router, "max_uri_bytes", _size(uri))
            require_limit(self._router, "max_subscriptions", self._counts.get(key, 0) + 1)
        self._follow(peer, session)
        wishes = self._wanted.setdefault(session, {}).setdefault(change, {})
        wish = wishes.setdefault(subscriber, Subscription())
        wish.called = called or (change.uri if isinstance(change, Resource) else "")
        self._counts[key] = self._counts.get(key, 0) + is_new
        wish.pending += 1
        try:
            await asyncio.shield(self._ask(session, peer, change))
            wish.is_confirmed = True
        except BaseException as error:
            # A request does not take along what another one of the same subscriber's asks for, or has.
            known = self._wanted.get(session, {}).get(change, {}).get(subscriber)
            if known is wish and wish.pending == 1 and not wish.is_confirmed:
                if isinstance(error, asyncio.CancelledError) or session.peer is not peer:
                    # The upstream is asked already, whoever waits for its answer; or its next connection is.
                    self.remove(session, change, subscriber)
                else:
                    self._drop(session, change, subscriber)
            raise
        finally:
            wish.pending -= 1

    def remove(self, session: UpstreamSession, change: Change, subscriber: Subscriber) -> None:
        """Unsubscribe from a change; the last subscriber has the upstream told."""
        if not self._drop(session, change, subscriber):
            return
        peer = session.peer
        if change in LISTS and not LISTS.keys().isdisjoint(self._wanted.get(session, {})):
            return
        if peer is None or self._asked.pop(_key(peer, change), None) is None:
            return
        listen = self._listens.pop(_key(peer, change), None)
        if listen is not None:
            listen.cancel()
        elif isinstance(change, Resource) and peer.is_open:
            with contextlib.suppress(Error):
                # Whatever it answers: nobody hears of the resource any more.
                session.ask(peer, "resources/unsubscribe", {"uri": change.uri})

    def listens(self, peer: Peer) -> int:
        """How many listens are held open on a connection of an upstream."""
        return sum(at is peer for at, _ in self._listens)

    def forget(self, subscriber: Subscriber) -> None:
        """Unsubscribe one that is gone from everything."""
        for session, changes in list(self._wanted.items()):
            for change in [change for change, subscribers in changes.items() if subscriber in subscribers]:
                self.remove(session, change, subscriber)

    def _drop(self, session: UpstreamSession, change: Change, subscriber: Subscriber) -> bool:
        """Take one subscriber out; True where it was the last."""
        changes = self._wanted.get(session, {})
        subscribers = changes.get(change, {})
        if subscribers.pop(subscriber, None) is None:
            return False
        key = (session, subscriber.client)
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]
        if subscribers:
            return False
        del changes[change]
        if not changes:
            del self._wanted[session]
        return True

    def _follow(self, peer: Peer, session: UpstreamSession) -> None:
        """Hear of changes on a connection, from the first subscription on."""
        if UPDATED in peer.handlers.observers:
            return

        def publish(notification: Notification) -> None:
            self._publish(session, notification)

        for method in (UPDATED, *LISTS):
            peer.on_notification(method)(publish)
        peer.on_notification(ACKNOWLEDGED)(lambda notification: self._acknowledge(peer, notification))

    def _publish(self, session: UpstreamSession, notification: Notification) -> None:
        # The subscription's id is one of ours; each subscriber has its own, or none.
        said = carried_over(notification.raw_params or b"{}", keeps_envelope=False)
        method, params = notification.method, dict(json.members(said) or ())
        if params.get("_meta") == b"{}":
            del params["_meta"]
        uri = json.loads(params.get("uri", b"null"))
        change = Resource(uri) if method == UPDATED else method
        if method == UPDATED and not isinstance(uri, str):
            return
        is_legacy = notification.call is None
        for subscriber, wish in tuple(self._wanted.get(session, {}).get(change, {}).items()):
            # What a legacy upstream says of its lists reaches legacy clients without Python.
            if method == UPDATED:
                subscriber.notify(method, json.joined({**params, "uri": json.dumps(wish.called)}))
            elif not (is_legacy and isinstance(subscriber, LegacySubscriber)):
                subscriber.notify(method, json.joined(params) if params else None)

    def _ask(self, session: UpstreamSession, peer: Peer, change: Change) -> asyncio.Future[None]:
        """Ask the upstream for a change, once however many want it."""
        key = _key(peer, change)
        asked = self._asked.get(key)
        if asked is None or (asked.done() and (asked.cancelled() or asked.exception() is not None)):
            if len(self._asked) >= 2 * self._size_after_sweep:
                self._asked = {at: known for at, known in self._asked.items() if at[0].is_open}
                self._size_after_sweep = max(len(self._asked), MIN_SWEEP_SIZE)
            asked = self._asked[key] = asyncio.get_running_loop().create_future()
            if peer.revision == handshake.MODERN:
                self._listens[key] = self._router.spawn(self._listen(session, peer, change, asked))
                self._listens[key].add_done_callback(lambda listen: self._ended(key, listen, asked))
            elif isinstance(change, Resource):
                self._router.spawn(self._subscribe(session, peer, change, asked))
            else:
                asked.set_result(None)
        return asked

    def _ended(
        self, key: tuple[Peer, Change], listen: asyncio.Task[None], asked: asyncio.Future[None]
    ) -> None:
        """Forget a listen that is over, so that it is asked for anew; another one may have taken its place."""
        # Here, since one that is cancelled at once never begins.
        _settle(asked, relay_error("the subscription ended before it began", "not_subscribed", key[0].name))
        if self._listens.get(key) is listen:
            del self._listens[key]
            self._asked.pop(key, None)

    async def _subscribe(
        self, session: UpstreamSession, peer: Peer, change: Resource, asked: asyncio.Future[None]
    ) -> None:
        try:
            await session.ask(peer, "resources/subscribe", {"uri": change.uri})
        except Error as error:
            if self._asked.get(_key(peer, change)) is asked:
                del self._asked[_key(peer, change)]
            _settle(asked, error)
        else:
            _settle(asked, None)

    async def _listen(
        self, session: UpstreamSession, peer: Peer, change: Change, asked: asyncio.Future[None]
    ) -> None:
        """Hold a listen open as long as the change is wanted; one that never began is not sent again."""
        wanted: dict[str, Any]
        if isinstance(change, Resource):
            wanted = {"resourceSubscriptions": [change.uri]}
        else:
            wanted = {LISTS[method]: True for method in (change, *lists_of(peer.server_capabilities))}
        try:
            while peer.is_open:
                call = peer.send(
                    LISTEN,
                    {"notifications": wanted},
                    timeout=session.upstream.timeout,
                    max_timeout=None,
                    progress=False,
                )
                self._acknowledged[peer, call.id] = asked
                try:
                    await call
                finally:
                    del self._acknowledged[peer, call.id]
                if _settle(asked, _declined(peer, "ended the subscription before it began")):
                    return
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(peer.wait_lost(), PAUSE)
        except RemoteError as error:
            if not _settle(asked, error):
                log.warning(
                    "%s ended the subscription to %s: %s",
                    escaped(peer.name),
                    escaped(str(change)),
                    escaped(str(error)),
                )
        except Error as error:
            _settle(asked, error)

    def _acknowledge(self, peer: Peer, notification: Notification) -> None:
        call = notification.call
        asked = None if call is None else self._acknowledged.get((peer, call.id))
        if call is None or asked is None:
            return
        if members_of(notification.params).get("notifications"):
            _settle(asked, None)
        else:
            _settle(asked, _declined(peer, "does not tell of changes to it"))
            call.cancel()


def _size(uri: str) -> int:
    """How many bytes a URI has.

    Raises:
        RequestError: half of a surrogate pair is in it. Some servers read that as another letter, so that it may be
            the URI that another client is subscribed to, and would be unsubscribed from.

    """
    try:
        return len(uri.encode())
    except UnicodeEncodeError:
        raise RequestError(INVALID_PARAMS, "there is half of a surrogate pair in the URI") from None


def _key(peer: Peer, change: Change) -> tuple[Peer, Change]:
    """What is asked at once for a change: all lists together, each resource by itself."""
    return (peer, change if isinstance(change, Resource) else "lists")


def _declined(peer: Peer, how: str) -> Error:
    return relay_error(f"the server {how}", "not_subscribed", peer.name)


def _settle(asked: asyncio.Future[None], error: Error | None) -> bool:
    """Say how it ended to who waits; False where that is known already."""
    if asked.done():
        return False
    if error is None:
        asked.set_result(None)
    else:
        asked.set_exception(error)
        asked.exception()  # whoever waits has it
    return True


__all__ = ["Subscriptions"]
