"""Parked exchanges: a legacy server asks while it works, and its client is a modern one, which no request reaches (R5).

The client's request is answered with what the server needs, as multi round-trip requests have it (2026-07-28), while
the server's flight waits. The client asks again with its answers; its `requestState` is a handle that only we can have
given out, good for one return of that client. A client that does not come back in time is given up on.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from turnout import json, opening
from turnout._native import result_for, translated
from turnout.errors import Error, RemoteError, RequestError
from turnout.handlers import members_of
from turnout.relay.refusal import check, failed, refusal
from turnout.relay.rounds import NEEDED

if TYPE_CHECKING:
    from turnout._native import Call, Request
    from turnout.peer import Peer
    from turnout.relay.place import Place
    from turnout.relay.relay import Relay

METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602

HANDLE = "turnout:"
"""How every handle begins; the native part knows it, too."""


class Parked:
    """One exchange whose server asks.

    Args:
        place: where the server stands.
        call: the server's flight.
        revision: the server's.

    """

    def __init__(self, place: Place, call: Call, revision: str) -> None:
        self.place = place
        self.call = call
        self.revision = revision
        self.request: Request | None = None
        """The client's request of the present round; None while it is away."""
        self.handle: str | None = None
        self.asked: dict[str, tuple[Request, asyncio.Future[Any]]] = {}
        """What the server asks and was not told yet, and who waits for it."""
        self.timer: asyncio.TimerHandle | None = None
        self.away = asyncio.Event()
        self.numbers = 0
        self.rounds = 1

    @property
    def label(self) -> str:
        """The upstream's name."""
        return self.place.upstream.label


class Parking:
    """The parked exchanges of one relay.

    Args:
        relay: whose they are.

    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._by_client: dict[Peer, dict[str, Parked]] = {}
        self._at_work: dict[Peer, list[Parked]] = {}

    async def ask(self, request: Request) -> Any:
        """Take what a private legacy server asks of its modern client, and answer it when that has come back.

        Raises:
            RequestError: the client cannot be asked for this, or did not come back.

        """
        peer = request.peer
        place = self._relay.place_of(peer)
        if place.identity.capabilities.get(NEEDED[request.method]) is None:
            raise RequestError(
                METHOD_NOT_FOUND, f"Method not found: the client did not offer {request.method}"
            )
        parked = self._of(peer, place)
        router, label = self._relay.router, place.upstream.label
        check(router, "max_inputs", len(parked.asked) + 1, label)
        if parked.handle is None:
            check(router, "max_parked", len(self._of_client(place.client)) + 1, label)
        parked.numbers += 1
        key, answer = f"input{parked.numbers}", asyncio.get_running_loop().create_future()
        parked.asked[key] = (request, answer)
        try:
            self._send_away(parked)
            return await answer
        finally:
            parked.asked.pop(key, None)

    def knows(self, request: Request) -> bool:
        """Whether a client comes back with it for a parked exchange."""
        return _state_of(request) in self._of_client(request.peer)

    def takes(self, request: Request, peer: Peer) -> bool:
        """Whether a client comes back with it for an exchange that was parked here once: a legacy server has no such.

        A modern server may be a relay, too, and then the handle is its own.
        """
        return peer.revision != opening.MODERN and _state_of(request).startswith(HANDLE)

    async def resume(self, request: Request) -> None:
        """Tell the server what its client says, and let the client wait for what comes of it.

        Where one of its answers cannot be passed on, the server is told none of them, and the client may come back
        once more, by the same handle and in the same time.

        Raises:
            RequestError: the exchange is not there any more, or was never this client's; or one of the answers
                cannot be passed on.

        """
        parked = self._of_client(request.peer).get(_state_of(request))
        if parked is None:
            raise RequestError(
                INVALID_PARAMS,
                "there is nothing to continue: it ended, or waited too long; send the request anew",
                {"reason": "input_expired"},
            )
        told = _told(parked, request)
        self._come_back(parked, request)
        for key, result in told.items():
            _, answer = parked.asked[key]
            if not answer.done():
                answer.set_result(result)
                del parked.asked[key]
        if parked.call.done():
            self._finish(parked)
        else:
            # What it was not told it is asked again.
            self._send_away(parked)
        await parked.away.wait()

    def forget(self, client: Peer) -> None:
        """Give up on a client that is gone."""
        for parked in list(self._of_client(client).values()):
            self._give_up(parked, "the client is gone")

    def _of_client(self, client: Peer | None) -> dict[str, Parked]:
        """The exchanges that a client is to come back for, by their handles."""
        return {} if client is None else self._by_client.get(client, {})

    def _of(self, peer: Peer, place: Place) -> Parked:
        """The exchange that a question of this server's belongs to: one that the client waits for, if there is one."""
        taken = self._relay.take_over(peer)
        known = self._at_work.setdefault(peer, [])
        if taken is not None:
            request, call = taken
            parked = Parked(place, call, peer.revision)
            parked.request = request
            known.append(parked)
            self._relay.underway.begin(parked, lambda: self._stop(parked))
            call.on_progress(lambda update: self._report(parked, update))
            call.add_done_callback(lambda _: self._finish(parked))
            request.adopt(call)
            return parked
        if not known:
            del self._at_work[peer]
            message = "a client of revision 2026-07-28 is asked while it waits for an answer only"
            raise refusal(message, "not_bridged", place.upstream.label)
        return next((parked for parked in reversed(known) if parked.request is not None), known[-1])

    def _send_away(self, parked: Parked) -> None:
        """Answer the client with what the server asks, if it is there and there is anything."""
        request, asked = parked.request, parked.asked
        if request is None or not asked or parked.call.done():
            return
        parked.request = None
        parked.handle = HANDLE + secrets.token_urlsafe(24)
        self._by_client.setdefault(request.peer, {})[parked.handle] = parked
        parked.call.pause()
        loop = asyncio.get_running_loop()
        reason = "the client did not come back with what the server asked for"
        parked.timer = loop.call_later(parked.place.upstream.input_timeout, self._give_up, parked, reason)
        inputs = {
            key: json.joined({"method": json.dumps(one.method), "params": _asked_of(one)})
            for key, (one, _) in asked.items()
        }
        result = {
            "resultType": b'"input_required"',
            "inputRequests": json.joined(inputs),
            "requestState": json.dumps(parked.handle),
        }
        parked.away.set()
        if not request.respond(json.joined(result)):
            self._give_up(parked, "the client cancelled its request")

    def _come_back(self, parked: Parked, request: Request) -> None:
        """Let the client's next request take the place of the one before."""
        self._forget_handle(parked)
        parked.request = request
        parked.away = asyncio.Event()
        parked.call.resume()
        parked.rounds += 1
        request.adopt(parked.call, round=parked.rounds)

    def _forget_handle(self, parked: Parked) -> None:
        client = parked.place.client
        if parked.handle is not None and client is not None:
            parked_of = self._by_client[client]
            del parked_of[parked.handle]
            if not parked_of:
                del self._by_client[client]
            parked.handle = None
        if parked.timer is not None:
            parked.timer.cancel()
            parked.timer = None

    def _report(self, parked: Parked, update: Any) -> None:
        if parked.request is not None:
            parked.request.progress(update.progress, update.total, update.message)

    def _finish(self, parked: Parked, reason: str = "the request is over that this was asked for") -> None:
        """Answer the client as the server did; what ended while it was away waits for it.

        What the server asks and was not told, it is not told any more, and why.
        """
        request = parked.request
        if request is None and parked.handle is not None:
            return
        for _, answer in parked.asked.values():
            if not answer.done():
                answer.set_exception(refusal(reason, "input_expired", parked.label))
        known = self._at_work.get(parked.place.peer) if parked.place.peer is not None else None
        if known is not None and parked in known:
            known.remove(parked)
        self._at_work = {peer: at_work for peer, at_work in self._at_work.items() if at_work and peer.is_open}
        parked.request = None
        if request is not None:
            _answer(request, parked)
        parked.away.set()
        self._relay.underway.end(parked)

    def _stop(self, parked: Parked) -> None:
        """Wait no longer for a client that is away, since the relay closes: what it comes back for says so."""
        if parked.request is None:
            self._relay.underway.end(parked)

    def _give_up(self, parked: Parked, reason: str) -> None:
        """End an exchange that nobody comes back for: its server is told, and its flight cancelled."""
        self._forget_handle(parked)
        self._finish(parked, reason)
        # The server is answered first: who waits for it runs before this does.
        asyncio.get_running_loop().call_soon(parked.call.cancel, reason)


def _state_of(request: Request) -> str:
    """The `requestState` that a client comes back with; empty for none."""
    state = members_of(request.params).get("requestState")
    return state if isinstance(state, str) else ""


def _asked_of(request: Request) -> bytes:
    """The params of a server's request, without what belongs to its own round, or to its era only."""
    params = dict(json.members(request.raw_params or b"") or ())
    own = ("_meta", "task", "elicitationId")
    return json.joined({name: value for name, value in params.items() if name not in own})


def _told(parked: Parked, request: Request) -> dict[str, bytes]:
    """What the server is told of what a client comes back with: results of its requests, by what these are called.

    Raises:
        RequestError: one of them cannot be passed on.

    """
    said = dict(json.members(request.raw_params or b"") or ()).get("inputResponses", b"")
    told = {}
    for key, response in dict(json.members(said) or ()).items():
        if key in parked.asked:
            method = parked.asked[key][0].method
            try:
                told[key] = result_for(method, response)
            except ValueError as error:
                message = f"the answer to {key} ({method}) cannot be passed on: {error}"
                raise RequestError(INVALID_PARAMS, message, {"reason": "invalid_input"}) from None
    return told


def _answer(request: Request, parked: Parked) -> None:
    try:
        raw, source = parked.call.raw_result(), parked.revision
        request.respond(translated(request.method, raw, source, request.peer.revision))
    except RemoteError as error:
        request._refuse(error)  # noqa: SLF001
    except Error as error:
        refused = failed(error, parked.label)
        request.fail(refused.code, refused.message, refused.data)


__all__ = ["Parking"]
