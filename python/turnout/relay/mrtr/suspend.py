"""Suspends exchanges: a legacy server asks during a call, and its modern client cannot be sent a request (R5).

The client's request is answered with what the server needs, as multi round-trip requests have it (2026-07-28), while
the server's flight waits. The client asks again with its answers; its `requestState` is a handle that only we can have
given out, good for one return of that client. A client that does not come back in time is given up on. The states are
in `turnout.relay.mrtr.suspended`; here is what each event does to client and server.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout._native import INVALID_PARAMS, SUSPENDED_PREFIX, result_for, translated
from turnout.errors import Error, RemoteError, RequestError, method_not_found
from turnout.handlers import members_of
from turnout.protocol import handshake
from turnout.relay.errors import as_request_error, relay_error, require_limit
from turnout.relay.mrtr.replay import REQUIRED_CAPABILITY
from turnout.relay.mrtr.suspended import AWAY, Event, State, SuspendedExchange, SuspendedExchanges

if TYPE_CHECKING:
    from collections.abc import Mapping

    from turnout._native import Relay, Request
    from turnout.peer import Peer
    from turnout.relay.drain import DrainTracker
    from turnout.relay.upstreams.registry import Upstreams
    from turnout.relay.upstreams.session import UpstreamSession
    from turnout.router import Router


ENDED_WITHOUT = "the request is over that this was asked for"


class Suspensions:
    """Suspends and resumes the exchanges of one relay.

    Args:
        router: whose limits hold.
        core: the native relay, which hands the calls over.
        upstreams: whose servers ask.
        drain: what the exchanges are tracked by.

    """

    def __init__(self, router: Router, core: Relay, upstreams: Upstreams, drain: DrainTracker) -> None:
        self._router = router
        self._core = core
        self._upstreams = upstreams
        self._drain = drain
        self._exchanges = SuspendedExchanges()

    def counters(self) -> dict[str, int]:
        """How often a client was told what its server asks for, came back, and did not come back."""
        return self._exchanges.counters()

    async def ask(self, request: Request) -> Any:
        """Take what a legacy server asks of a modern client, and answer it when that has come back.

        Raises:
            RequestError: the client cannot be asked for this, or did not come back.

        """
        session = self._upstreams.session_of(request.peer)
        if session.client is not None:
            _require_offer(request.method, session.implementation.capabilities)
        exchange = self._exchange_of(request, session)
        _require_offer(request.method, exchange.able)
        router, upstream_name = self._router, session.upstream.name
        require_limit(router, "max_input_requests", len(exchange.questions) + 1, upstream_name)
        if exchange.state is State.WORKING:
            away = len(self._exchanges.away(exchange.client))
            require_limit(router, "max_suspended", away + 1, upstream_name)
        exchange.question_count += 1
        key, answer = f"input{exchange.question_count}", asyncio.get_running_loop().create_future()
        exchange.questions[key] = (request, answer)
        try:
            self._suspend(exchange)
            return await answer
        finally:
            exchange.questions.pop(key, None)

    def is_return(self, request: Request) -> bool:
        """Whether a request resumes a suspended exchange."""
        return self._exchanges.find(request.peer, _state_of(request)) is not None

    def claims(self, request: Request, peer: Peer) -> bool:
        """Whether a client comes back with it for an exchange that was suspended here once: a legacy server has none.

        A modern server may be a relay, too, and then the handle is its own.
        """
        return peer.revision != handshake.MODERN and _state_of(request).startswith(SUSPENDED_PREFIX)

    async def resume(self, request: Request) -> None:
        """Tell the server what its client says, and let the client wait for what comes of it.

        Where one of its answers cannot be passed on, the server is told none of them, and the client may come back
        once more, by the same handle and in the same time.

        Raises:
            RequestError: the exchange is not there any more, or was never this client's; or one of the answers
                cannot be passed on.

        """
        exchange = self._exchanges.find(request.peer, _state_of(request))
        if exchange is None:
            raise RequestError(
                INVALID_PARAMS,
                "there is nothing to continue: it ended, or waited too long; send the request anew",
                {"reason": "input_expired"},
            )
        told = _told(exchange, request)
        self._exchanges.apply(exchange, Event.RETURN)
        _stop_timer(exchange)
        exchange.request, exchange.answered = request, asyncio.Event()
        exchange.call.resume()
        exchange.rounds += 1
        request.adopt(exchange.call, round=exchange.rounds)
        for key, result in told.items():
            _, answer = exchange.questions[key]
            if not answer.done():
                answer.set_result(result)
                del exchange.questions[key]
        if exchange.state is State.ENDED:
            self._end(exchange, ENDED_WITHOUT)
        elif exchange.call.done():
            self._answer(exchange)
        else:
            # What it was not told it is asked again.
            self._suspend(exchange)
        await exchange.answered.wait()

    def forget(self, client: Peer) -> None:
        """Cancel the suspended exchanges of a client that left."""
        for exchange in self._exchanges.away(client):
            self._abandon(exchange, "the client is gone")

    def _exchange_of(self, asked: Request, session: UpstreamSession) -> SuspendedExchange:
        """The exchange that a question of a server's belongs to: one that the client waits for, if there is one.

        Over HTTP its stream says which (R1), also where several clients share the server.
        """
        server = asked.peer
        known = self._exchanges.of_call(server, self._core.call_during(asked))
        if known is not None:
            return known
        taken = self._core.transfer(server.connection, asked)
        if taken is None:
            exchange = None if session.client is None else self._exchanges.asking(server)
            if exchange is None:
                message = "a client of revision 2026-07-28 is asked while it waits for an answer only"
                raise relay_error(message, "not_bridged", session.upstream.name)
            return exchange
        request, call, offer = taken
        able = session.implementation.capabilities
        if session.client is None:
            able = members_of(json.loads(offer)) if offer else {}
        exchange = SuspendedExchange(session, server, request.peer, request, call, able)
        self._exchanges.add(exchange)
        self._drain.add(exchange, lambda: self._stop(exchange), session)
        call.on_progress(lambda update: _report(exchange, update))
        call.add_done_callback(lambda _: self._answer(exchange))
        request.adopt(call)
        return exchange

    def _suspend(self, exchange: SuspendedExchange) -> None:
        """Answer the client with what the server asks, if it is there and there is anything."""
        request = exchange.request
        if request is None or not exchange.questions or exchange.call.done():
            return
        if not self._exchanges.apply(exchange, Event.ASK):
            return
        exchange.request = None
        exchange.call.pause()
        exchange.timer = asyncio.get_running_loop().call_later(
            exchange.session.upstream.input_timeout,
            self._abandon,
            exchange,
            "the client did not come back with what the server asked for",
        )
        inputs = {
            key: json.joined({"method": json.dumps(one.method), "params": _asked_of(one)})
            for key, (one, _) in exchange.questions.items()
        }
        result = {
            "resultType": b'"input_required"',
            "inputRequests": json.joined(inputs),
            "requestState": json.dumps(exchange.handle),
        }
        exchange.answered.set()
        if not request.respond(json.joined(result)):
            self._abandon(exchange, "the client cancelled its request")

    def _answer(self, exchange: SuspendedExchange) -> None:
        """Take the end of the server's flight; where the client is away, the answer waits for it."""
        if self._exchanges.apply(exchange, Event.ANSWER) and exchange.state is State.ENDED:
            self._end(exchange, ENDED_WITHOUT)

    def _abandon(self, exchange: SuspendedExchange, reason: str) -> None:
        """End an exchange that nobody comes back for: its server is told, and its flight cancelled."""
        if self._exchanges.apply(exchange, Event.ABANDON):
            self._end(exchange, reason)
            # The server is answered first: who waits for it runs before this does.
            asyncio.get_running_loop().call_soon(exchange.call.cancel, reason)

    def _end(self, exchange: SuspendedExchange, reason: str) -> None:
        """Answer the client as the server did; what the server asks and was not told is refused for a reason."""
        _stop_timer(exchange)
        upstream_name = exchange.session.upstream.name
        for _, answer in exchange.questions.values():
            if not answer.done():
                answer.set_exception(relay_error(reason, "input_expired", upstream_name))
        request, exchange.request = exchange.request, None
        if request is not None:
            _pass_answer(request, exchange)
        exchange.answered.set()
        self._drain.discard(exchange)

    def _stop(self, exchange: SuspendedExchange) -> None:
        """Wait no longer for a client that is away, since the relay closes: what it comes back for says so."""
        if exchange.state in AWAY:
            self._drain.discard(exchange)


def _stop_timer(exchange: SuspendedExchange) -> None:
    if exchange.timer is not None:
        exchange.timer.cancel()
        exchange.timer = None


def _report(exchange: SuspendedExchange, update: Any) -> None:
    if exchange.request is not None:
        exchange.request.progress(update.progress, update.total, update.message)


def _require_offer(method: str, able: Mapping[str, Any]) -> None:
    if able.get(REQUIRED_CAPABILITY[method]) is None:
        raise method_not_found(method, f"the client did not offer {method}")


def _state_of(request: Request) -> str:
    """The `requestState` that a client comes back with; empty for none."""
    state = members_of(request.params).get("requestState")
    return state if isinstance(state, str) else ""


def _asked_of(request: Request) -> bytes:
    """The params of a server's request, without what belongs to its own round, or to its era only.

    What a modern client is asked for in a round has no `_meta`.
    """
    params = dict(json.members(request.raw_params or b"") or ())
    own = ("_meta", "task", "elicitationId")
    return json.joined({name: value for name, value in params.items() if name not in own})


def _told(exchange: SuspendedExchange, request: Request) -> dict[str, bytes]:
    """What the server is told of what a client comes back with: results of its requests, by what these are called.

    Raises:
        RequestError: one of them cannot be passed on.

    """
    said = dict(json.members(request.raw_params or b"") or ()).get("inputResponses", b"")
    told = {}
    for key, response in dict(json.members(said) or ()).items():
        if key in exchange.questions:
            method = exchange.questions[key][0].method
            try:
                told[key] = result_for(method, response)
            except ValueError as error:
                message = f"the answer to {key} ({method}) cannot be passed on: {error}"
                raise RequestError(INVALID_PARAMS, message, {"reason": "invalid_input"}) from None
    return told


def _pass_answer(request: Request, exchange: SuspendedExchange) -> None:
    try:
        raw, source = exchange.call.raw_result(), exchange.server.revision
        request.respond(translated(request.method, raw, source, request.peer.revision))
    except RemoteError as error:
        request._refuse(error)  # noqa: SLF001
    except Error as error:
        refused = as_request_error(error, exchange.session.upstream.name)
        request.fail(refused.code, refused.message, refused.data)


__all__ = ["Suspensions"]
