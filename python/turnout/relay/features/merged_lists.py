"""Merged lists: the items of several upstreams, under names that route back to them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout._native import INTERNAL_ERROR, METHOD_NOT_FOUND, carried_over, translated
from turnout.errors import Error, RemoteError, RequestError
from turnout.escape import escaped
from turnout.protocol import handshake
from turnout.relay.errors import invalid_cursor, no_reference, reason_of, unknown_reference, upstream_errors
from turnout.relay.features.listing import Listing, members_of, name_of, renamed
from turnout.relay.routing.naming import COMPLETED, KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout._native import Relay, Request
    from turnout.peer import Peer
    from turnout.relay.clients import Assignment, Client, Clients
    from turnout.relay.drain import DrainTracker
    from turnout.relay.forwarding import SessionForwarder
    from turnout.relay.routing.naming import ListKind
    from turnout.relay.upstreams.registry import Upstreams
    from turnout.relay.upstreams.session import UpstreamSession

log = logging.getLogger("turnout")


MISSING = "turnout/missing"
"""The member of a merged list's `_meta` that says whose part is missing, and why."""


class MergedLists:
    """The merged lists of one relay.

    A list asks every upstream that the routes lead to, at once, and waits for each no longer than its
    `list_timeout`. What is not there by then is left out, and the result's `_meta` says so under
    `turnout/missing`; clients are sent `list_changed` when a missing upstream is there again. A page holds one
    page of each upstream; the cursor is opaque and says where each of them goes on.

    Args:
        core: the native relay.
        clients: who asks, and what serves them.
        upstreams: whose lists are merged.
        drain: what lists are tracked by.
        forward: passes a request on.
        list_changed: tells a client that a list is another one, by the notification that says so.
        may_share: whether a method is answered without anything of the host's that may depend on the client.

    """

    def __init__(
        self,
        core: Relay,
        clients: Clients,
        upstreams: Upstreams,
        drain: DrainTracker,
        forward: SessionForwarder,
        list_changed: Callable[[Peer, str], None],
        may_share: Callable[[str], bool],
    ) -> None:
        self._core = core
        self._clients = clients
        self._upstreams = upstreams
        self._drain = drain
        self._forward = forward
        self._list_changed = list_changed
        self._may_share = may_share
        self._partial: dict[tuple[Peer, str], set[int]] = {}

    async def complete(self, request: Request) -> None:
        """Send a completion to where the prompt or the resource is that it refers to.

        Raises:
            RequestError: it refers to nothing that a route leads to.

        """
        ref = json.loads(members_of(request.raw_params).get("ref", b"null"))
        ref = ref if isinstance(ref, dict) else {}
        kind = ref.get("type")
        if not isinstance(kind, str) or kind not in COMPLETED:
            raise no_reference()
        key = "name" if kind == "ref/prompt" else "uri"
        assigned = self._clients[request.peer].assignment
        resolved = assigned.plan.resolve(COMPLETED[kind], ref.get(key))
        if resolved is None:
            raise unknown_reference(key)
        position, name = resolved
        changed = None if name == ref[key] else _completing(request.raw_params, key, name)
        await self._forward(request, assigned, assigned.sessions[position], changed)

    async def answer(self, request: Request) -> bytes | None:
        """Answer a request for a merged list: its items are the servers' own bytes, but for names that are others here.

        Raises:
            RequestError: the cursor is none of ours, or no upstream answered.

        """
        if self._drain.is_closing:
            self._core.refuse(request)
            return None
        [kind] = [kind for kind in KINDS if kind.list == request.method]
        params = members_of(request.raw_params)
        # An update of the relay meanwhile is none to this list.
        assigned = self._clients[request.peer].assignment
        cursors = _cursors(assigned, json.loads(params.pop("cursor", b"null")), kind)
        with self._drain.tracking(request):
            pages = await asyncio.gather(
                *(
                    self._page(request, kind, assigned.sessions[position], params, cursor)
                    for position, cursor in cursors.items()
                )
            )
        return self._merged(request, kind, assigned, dict(zip(cursors, pages, strict=True)))

    async def pass_on(self, request: Request, peer: Peer, params: Any) -> bytes:
        """Ask the one upstream that a list leads to, on the client's behalf; gives what it answers.

        Args:
            request: the request for the list.
            peer: the upstream's connection.
            params: what to ask with instead of the request's own params; None for its own.

        Raises:
            RequestError: the upstream answered with an error or with no list, or is gone.

        """
        [kind] = [kind for kind in KINDS if kind.list == request.method]
        upstream = self._upstreams.session_of(peer).upstream
        raw = request.raw_params
        if params is not None:
            raw = params if isinstance(params, bytes) else json.dumps(params)
        with self._drain.tracking(request), upstream_errors(upstream.name):
            listed = await self._listed(request, kind, peer, members_of(raw), upstream.max_timeout)
        return listed.joined(kind)

    def opened(self, session: UpstreamSession) -> None:
        """Tell those whose list lacked an upstream that it is there now."""
        for (peer, changed), missing in list(self._partial.items()):
            if session.position in missing and self._clients.is_assigned(peer, session):
                del self._partial[peer, changed]
                self._list_changed(peer, changed)

    def reassigned(self, client: Client) -> None:
        """Expect no parts of upstreams that a client's routes lead to no more."""
        for at, missing in list(self._partial.items()):
            if at[0] is client.peer:
                missing.intersection_update(client.assignment.sessions)
                if not missing:
                    del self._partial[at]

    def forget(self, client: Peer) -> None:
        """Forget a client that is gone."""
        self._partial = {at: missing for at, missing in self._partial.items() if at[0] is not client}

    async def _page(
        self,
        request: Request,
        kind: ListKind,
        session: UpstreamSession,
        params: dict[str, bytes],
        cursor: str | None,
    ) -> Listing | Error | OSError | None:
        """One page of one upstream; the error that was met instead; None where it has nothing of the kind."""
        if cursor is not None:
            params = {**params, "cursor": json.dumps(cursor)}
        try:
            return await self._ask(request, kind, session, params)
        except (OSError, Error) as error:
            if isinstance(error, RemoteError) and error.code == METHOD_NOT_FOUND:
                return None
            log.warning(
                "%s: the part of the upstream %s is missing: %s",
                kind.list,
                escaped(session.upstream.name),
                escaped(str(error)),
            )
            return error

    async def _ask(
        self, request: Request, kind: ListKind, session: UpstreamSession, params: dict[str, bytes]
    ) -> Listing | None:
        upstream = session.upstream
        loop = asyncio.get_running_loop()
        until = loop.time() + upstream.list_timeout
        peer = await session.wait_briefly()
        if peer.server_capabilities and kind.capability not in peer.server_capabilities:
            return None
        left = max(until - loop.time(), 0.001)
        most = left if upstream.max_timeout is None else min(left, upstream.max_timeout)
        return await self._listed(request, kind, peer, params, most)

    async def _listed(
        self,
        request: Request,
        kind: ListKind,
        peer: Peer,
        params: dict[str, bytes],
        max_timeout: float | None,
    ) -> Listing:
        """One page of an upstream's list, as the client's revision has it."""
        upstream, client = self._upstreams.session_of(peer).upstream, request.peer
        are_modern = handshake.MODERN == peer.revision == client.revision
        call = peer.send(
            kind.list,
            carried_over(json.joined(params), keeps_envelope=are_modern),
            timeout=upstream.timeout,
            max_timeout=max_timeout,
            progress=False,
        )
        request.adopt(call)
        raw = await call.raw()
        return _checked(translated(kind.list, raw, peer.revision, client.revision), kind, upstream.name)

    def _merged(
        self,
        request: Request,
        kind: ListKind,
        assigned: Assignment,
        pages: dict[int, Listing | Error | OSError | None],
    ) -> bytes:
        client = request.peer
        listed = {position: page for position, page in pages.items() if isinstance(page, Listing)}
        failed = {position: page for position, page in pages.items() if isinstance(page, (Error, OSError))}
        if failed and not any(page is None or isinstance(page, Listing) for page in pages.values()):
            raise _refusal(request, assigned, failed)
        names = assigned.plan.names[kind.use]
        items: dict[str, bytes] = {}
        for position, page in listed.items():
            for item in page.items:
                name = name_of(item, kind)
                if name is not None:
                    for called in names.aliases(position, name):
                        items.setdefault(called, item if called == name else renamed(item, kind, called))
        result: dict[str, Any] = {}
        cursors = {
            assigned.sessions[position].upstream.name: page.says("nextCursor")
            for position, page in listed.items()
        }
        further = {
            upstream_name: cursor for upstream_name, cursor in cursors.items() if isinstance(cursor, str)
        }
        if further:
            result["nextCursor"] = _encoded(further)
        if failed:
            self._partial.setdefault((client, kind.changed), set()).update(failed)
            result["_meta"] = {
                MISSING: [
                    {"upstream": assigned.sessions[position].upstream.name, "reason": reason_of(error)}
                    for position, error in failed.items()
                ]
            }
        if client.revision == handshake.MODERN:
            result.update(
                _cache_hints(
                    list(listed.values()),
                    is_whole=not failed,
                    may_share=(
                        self._may_share(request.method)
                        and not request.peer.delivery.is_rewritten(request.method)
                        and assigned.is_everybodys(pages)
                    ),
                )
            )
        rest = {name: json.dumps(value) for name, value in result.items()}
        return Listing(list(items.values()), rest).joined(kind)


def _refusal(request: Request, assigned: Assignment, failed: dict[int, Error | OSError]) -> RequestError:
    errors = list(failed.values())
    if len(errors) == 1 and isinstance(errors[0], RequestError):
        return errors[0]
    upstream_names = [assigned.sessions[position].upstream.name for position in failed]
    sent = any(leg.written is not None for leg in request.record.legs)
    data = {"reason": reason_of(errors[0]), "sent": sent, "upstream": ", ".join(upstream_names)}
    return RequestError(INTERNAL_ERROR, "no server answered with its list", data)


def _cursors(assigned: Assignment, cursor: Any, kind: ListKind) -> dict[int, str | None]:
    """Which upstreams to ask, and from where each goes on."""
    positions = assigned.plan.merged_upstreams(kind)
    if cursor is None:
        return dict.fromkeys(positions)
    upstream_names = {assigned.sessions[position].upstream.name: position for position in positions}
    further = _decoded(cursor)
    if not further or not further.keys() <= upstream_names.keys():
        raise invalid_cursor()
    return {upstream_names[upstream_name]: at for upstream_name, at in further.items()}


def _checked(result: bytes, kind: ListKind, upstream: str) -> Listing:
    """A list as a server answered it.

    Raises:
        RequestError: it is none.

    """
    listing = Listing.of(result, kind)
    if listing is None:
        raise RequestError(INTERNAL_ERROR, f"{upstream} answered {kind.list} with no list")
    return listing


def _completing(params: bytes | None, key: str, name: str) -> bytes:
    """The params of a completion that refers to something by another name."""
    params = params or b"{}"
    ref = json.with_member(members_of(params)["ref"], key, json.dumps(name))
    return json.with_member(params, "ref", ref)


def merged_capabilities(peers: list[Peer]) -> dict[str, Any]:
    """Merge the capabilities and instructions of several servers."""
    capabilities: dict[str, Any] = {}
    for peer in peers:
        for name, value in peer.server_capabilities.items():
            before = capabilities.get(name)
            if isinstance(before, dict) and isinstance(value, dict):
                # What one of them can, they can: `listChanged` and its like are true or not there.
                able = {key: at for key, at in value.items() if at or key not in before}
                capabilities[name] = {**before, **able}
            else:
                capabilities[name] = value
    instructions = "\n\n".join(peer.instructions for peer in peers if peer.instructions)
    return {"capabilities": capabilities, **({"instructions": instructions} if instructions else {})}


def _encoded(further: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(further)).decode()


def _decoded(cursor: Any) -> dict[str, str]:
    """What a cursor of ours says; nothing where it is none."""
    try:
        further = json.loads(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (TypeError, ValueError, binascii.Error):
        return {}
    is_ours = isinstance(further, dict) and all(isinstance(at, str) for at in further.values())
    return further if is_ours else {}


def _cache_hints(pages: list[Listing], *, is_whole: bool, may_share: bool) -> dict[str, Any]:
    """How long a merged list may be kept, and by whom: as its most careful part says (2026-07-28).

    Args:
        pages: the parts.
        is_whole: whether none is missing.
        may_share: whether other clients have the same list.

    """
    lives = [page.says("ttlMs") for page in pages]
    # True is an int to Python, and what a server says may be anything.
    known = [life for life in lives if type(life) is int and life >= 0]
    is_public = may_share and bool(pages) and all(page.says("cacheScope") == "public" for page in pages)
    return {
        "ttlMs": min(known) if is_whole and known and len(known) == len(lives) else 0,
        "cacheScope": "public" if is_public else "private",
    }


__all__ = ["MISSING", "MergedLists", "merged_capabilities"]
