"""Suspended calls: a legacy server asks during a call, and its modern client cannot be sent a request (R5).

The client's request is answered with what the server needs, as multi round-trip requests have it (2026-07-28), while
the server's flight waits. The client asks again with its answers; its `requestState` is a handle that only we can have
given out, good for one return of that client. A client that does not come back in time is given up on.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout._native import result_for, translated
from turnout.errors import INVALID_PARAMS, METHOD_NOT_FOUND, Error, RemoteError, RequestError
from turnout.handlers import members_of
from turnout.protocol import handshake
from turnout.relay.errors import as_request_error, relay_error, require_limit
from turnout.relay.mrtr.replay import REQUIRED_CAPABILITY

if TYPE_CHECKING:
    from turnout._native import Call, Relay, Request
    from turnout.peer import Peer
    from turnout.relay.drain import DrainTracker
    from turnout.relay.upstreams.registry import Upstreams
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.router import Router


HANDLE = "turnout:"
"""Prefix of every handle; the native part checks it, too."""


class SuspendedCall:
    """One call to a server that asked its client for input.

    Args:
        session: the upstream session.
        call: the call to the server.
        revision: the server's revision.

    """

    def __init__(self, session: UpstreamSession, call: Call, revision: str) -> None:
        self.session = session
        self.call = call
        self.revision = revision
        self.request: Request | None = None
        """The client's request of this round; None while the call is suspended."""
        self.handle: str | None = None
        self.asked: dict[str, tuple[Request, asyncio.Future[Any]]] = {}
        """The server's open requests, each with the future of its answer."""
        self.timer: asyncio.TimerHandle | None = None
        self.suspended = asyncio.Event()
        self.input_count = 0
        self.rounds = 1

    @property
    def upstream_name(self) -> str:
        """The upstream's name."""
        return self.session.upstream.name


class Suspensions:
    """The suspended calls of one relay.

    Args:
        router: whose limits hold.
        core: the native relay, which hands the calls over.
        upstreams: whose servers ask.
        drain: what the calls are tracked by.

    """

    def __init__(self, router: Router, core: Relay, upstreams: Upstreams, drain: DrainTracker) -> None:
        self._router = router
        self._core = core
        self._upstreams = upstreams
        self._drain = drain
        self._by_client: dict[Peer, dict[str, SuspendedCall]] = {}
        self._by_upstream: dict[Peer, list[SuspendedCall]] = {}

    async def ask(self, request: Request) -> Any:
        """Take what a private legacy server asks of its modern client, and answer it when that has come back.

        Raises:
            RequestError: the client cannot be asked for this, or did not come back.

        """
        peer = request.peer
        session = self._upstreams.session_of(peer)
        if session.implementation.capabilities.get(REQUIRED_CAPABILITY[request.method]) is None:
            raise RequestError(
                METHOD_NOT_FOUND, f"Method not found: the client did not offer {request.method}"
            )
        suspended = self._call_of(peer, session)
        router, upstream_name = self._router, session.upstream.name
        require_limit(router, "max_input_requests", len(suspended.asked) + 1, upstream_name)
        if suspended.handle is None:
            require_limit(router, "max_suspended", len(self._of_client(session.client)) + 1, upstream_name)
        suspended.input_count += 1
        key, answer = f"input{suspended.input_count}", asyncio.get_running_loop().create_future()
        suspended.asked[key] = (request, answer)
        try:
            self._suspend(suspended)
            return await answer
        finally:
            suspended.asked.pop(key, None)

    def is_return(self, request: Request) -> bool:
        """Whether a request resumes a suspended call."""
        return _state_of(request) in self._of_client(request.peer)

    def claims(self, request: Request, peer: Peer) -> bool:
        """Whether a client comes back with it for an exchange that was parked here once: a legacy server has no such.

        A modern server may be a relay, too, and then the handle is its own.
        """
        return peer.revision != handshake.MODERN and _state_of(request).startswith(HANDLE)

    async def resume(self, request: Request) -> None:
        """Tell the server what its client says, and let the client wait for what comes of it.

        Where one of its answers cannot be passed on, the server is told none of them, and the client may come back
        once more, by the same handle and in the same time.

        Raises:
            RequestError: the exchange is not there any more, or was never this client's; or one of the answers
                cannot be passed on.

        """
        suspended = self._of_client(request.peer).get(_state_of(request))
        if suspended is None:
            raise RequestError(
                INVALID_PARAMS,
                "there is nothing to continue: it ended, or waited too long; send the request anew",
                {"reason": "input_expired"},
            )
        told = _told(suspended, request)
        self._resume(suspended, request)
        for key, result in told.items():
            _, answer = suspended.asked[key]
            if not answer.done():
                answer.set_result(result)
                del suspended.asked[key]
        if suspended.call.done():
            self._finish(suspended)
        else:
            # What it was not told it is asked again.
            self._suspend(suspended)
        await suspended.suspended.wait()

    def forget(self, client: Peer) -> None:
        """Cancel the suspended calls of a client that left."""
        for suspended in list(self._of_client(client).values()):
            self._give_up(suspended, "the client is gone")

    def _of_client(self, client: Peer | None) -> dict[str, SuspendedCall]:
        """The exchanges that a client is to come back for, by their handles."""
        return {} if client is None else self._by_client.get(client, {})

    def _call_of(self, peer: Peer, session: UpstreamSession) -> SuspendedCall:
        """The exchange that a question of this server's belongs to: one that the client waits for, if there is one."""
        taken = self._core.transfer(peer.connection)
        known = self._by_upstream.setdefault(peer, [])
        if taken is not None:
            request, call = taken
            suspended = SuspendedCall(session, call, peer.revision)
            suspended.request = request
            known.append(suspended)
            self._drain.add(suspended, lambda: self._stop(suspended), session)
            call.on_progress(lambda update: self._report(suspended, update))
            call.add_done_callback(lambda _: self._finish(suspended))
            request.adopt(call)
            return suspended
        if not known:
            del self._by_upstream[peer]
            message = "a client of revision 2026-07-28 is asked while it waits for an answer only"
            raise relay_error(message, "not_bridged", session.upstream.name)
        return next((suspended for suspended in reversed(known) if suspended.request is not None), known[-1])

    def _suspend(self, suspended: SuspendedCall) -> None:
        """Answer the client with what the server asks, if it is there and there is anything."""
        request, asked = suspended.request, suspended.asked
        if request is None or not asked or suspended.call.done():
            return
        suspended.request = None
        suspended.handle = HANDLE + secrets.token_urlsafe(24)
        self._by_client.setdefault(request.peer, {})[suspended.handle] = suspended
        suspended.call.pause()
        loop = asyncio.get_running_loop()
        reason = "the client did not come back with what the server asked for"
        suspended.timer = loop.call_later(
            suspended.session.upstream.input_timeout, self._give_up, suspended, reason
        )
        inputs = {
            key: json.joined({"method": json.dumps(one.method), "params": _asked_of(one)})
            for key, (one, _) in asked.items()
        }
        result = {
            "resultType": b'"input_required"',
            "inputRequests": json.joined(inputs),
            "requestState": json.dumps(suspended.handle),
        }
        suspended.suspended.set()
        if not request.respond(json.joined(result)):
            self._give_up(suspended, "the client cancelled its request")

    def _resume(self, suspended: SuspendedCall, request: Request) -> None:
        """Let the client's next request take the place of the one before."""
        self._forget_handle(suspended)
        suspended.request = request
        suspended.suspended = asyncio.Event()
        suspended.call.resume()
        suspended.rounds += 1
        request.adopt(suspended.call, round=suspended.rounds)

    def _forget_handle(self, suspended: SuspendedCall) -> None:
        client = suspended.session.client
        if suspended.handle is not None and client is not None:
            of_client = self._by_client[client]
            del of_client[suspended.handle]
            if not of_client:
                del self._by_client[client]
            suspended.handle = None
        if suspended.timer is not None:
            suspended.timer.cancel()
            suspended.timer = None

    def _report(self, suspended: SuspendedCall, update: Any) -> None:
        if suspended.request is not None:
            suspended.request.progress(update.progress, update.total, update.message)

    def _finish(
        self, suspended: SuspendedCall, reason: str = "the request is over that this was asked for"
    ) -> None:
        """Answer the client as the server did; what ended while it was away waits for it.

        What the server asks and was not told, it is not told any more, and why.
        """
        request = suspended.request
        if request is None and suspended.handle is not None:
            return
        for _, answer in suspended.asked.values():
            if not answer.done():
                answer.set_exception(relay_error(reason, "input_expired", suspended.upstream_name))
        known = self._by_upstream.get(suspended.session.peer) if suspended.session.peer is not None else None
        if known is not None and suspended in known:
            known.remove(suspended)
        self._by_upstream = {
            peer: at_work for peer, at_work in self._by_upstream.items() if at_work and peer.is_open
        }
        suspended.request = None
        if request is not None:
            _answer(request, suspended)
        suspended.suspended.set()
        self._drain.discard(suspended)

    def _stop(self, suspended: SuspendedCall) -> None:
        """Wait no longer for a client that is away, since the relay closes: what it comes back for says so."""
        if suspended.request is None:
            self._drain.discard(suspended)

    def _give_up(self, suspended: SuspendedCall, reason: str) -> None:
        """End an exchange that nobody comes back for: its server is told, and its flight cancelled."""
        self._forget_handle(suspended)
        self._finish(suspended, reason)
        # The server is answered first: who waits for it runs before this does.
        asyncio.get_running_loop().call_soon(suspended.call.cancel, reason)


def _state_of(request: Request) -> str:
    """The `requestState` that a client comes back with; empty for none."""
    state = members_of(request.params).get("requestState")
    return state if isinstance(state, str) else ""


def _asked_of(request: Request) -> bytes:
    """The params of a server's request, without what belongs to its own round, or to its era only."""
    params = dict(json.members(request.raw_params or b"") or ())
    own = ("_meta", "task", "elicitationId")
    return json.joined({name: value for name, value in params.items() if name not in own})


def _told(suspended: SuspendedCall, request: Request) -> dict[str, bytes]:
    """What the server is told of what a client comes back with: results of its requests, by what these are called.

    Raises:
        RequestError: one of them cannot be passed on.

    """
    said = dict(json.members(request.raw_params or b"") or ()).get("inputResponses", b"")
    told = {}
    for key, response in dict(json.members(said) or ()).items():
        if key in suspended.asked:
            method = suspended.asked[key][0].method
            try:
                told[key] = result_for(method, response)
            except ValueError as error:
                message = f"the answer to {key} ({method}) cannot be passed on: {error}"
                raise RequestError(INVALID_PARAMS, message, {"reason": "invalid_input"}) from None
    return told


def _answer(request: Request, suspended: SuspendedCall) -> None:
    try:
        raw, source = suspended.call.raw_result(), suspended.revision
        request.respond(translated(request.method, raw, source, request.peer.revision))
    except RemoteError as error:
        request._refuse(error)  # noqa: SLF001
    except Error as error:
        refused = as_request_error(error, suspended.upstream_name)
        request.fail(refused.code, refused.message, refused.data)


__all__ = ["Suspensions"]
