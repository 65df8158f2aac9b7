"""Input replay: a modern server needs input, and its legacy client is asked by requests.

The client sees one exchange: its request, what it is asked meanwhile, and the answer. The server sees each round as a
request of its own (multi round-trip requests, 2026-07-28).
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

from turnout import json
from turnout._native import next_round, params_for, result_for
from turnout.errors import CallTimedOut, Error, InvalidResponse, NotAllowed, RemoteError
from turnout.protocol import handshake
from turnout.relay.errors import relay_error, relay_fault, require_limit

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from turnout._native import Relay, Request, RetainedRequest
    from turnout.peer import Peer
    from turnout.relay.drain import DrainTracker
    from turnout.relay.upstreams.registry import Upstreams
    from turnout.relay.upstreams.upstream import Upstream
    from turnout.router import Router

REQUIRED_CAPABILITY = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
"""The capability that a client must offer, by the method it is asked with."""


def meta_of(offered: handshake.Implementation) -> dict[str, Any] | None:
    """What a modern server is told of a legacy client that can be asked; None for a client that cannot."""
    if not any(name in offered.capabilities for name in REQUIRED_CAPABILITY.values()):
        return None
    return handshake.envelope_of(offered)


class InputReplay:
    """Runs the input rounds of one client's requests.

    Args:
        router: whose limits hold.
        core: the native relay, which passes the next round on.
        upstreams: whose servers ask.
        drain: what the rounds are tracked by.
        capabilities: what the client said that it can do.

    """

    def __init__(
        self,
        router: Router,
        core: Relay,
        upstreams: Upstreams,
        drain: DrainTracker,
        capabilities: dict[str, Any],
    ) -> None:
        self._router = router
        self._core = core
        self._upstreams = upstreams
        self._drain = drain
        self._capabilities = capabilities

    async def run(
        self, request: Request, upstream: Peer, result: bytes, state: bytes | None, retained: RetainedRequest
    ) -> None:
        """Ask the client what the server needs, and pass the request on once more, with that.

        Args:
            request: the client's request.
            upstream: the connection of the server that asks.
            result: its `InputRequiredResult`.
            state: the `requestState` in it, as it stood on the wire; None where there is none (MRT-05).
            retained: the request retained for another round.

        Raises:
            RequestError: the server asks for what this client cannot be asked for, or too often.

        """
        try:
            await self._run(request, upstream, result, state, retained)
        finally:
            # Also where what is left of a cancelled task waits for a collection.
            retained.release()

    async def _run(
        self, request: Request, upstream: Peer, result: bytes, state: bytes | None, retained: RetainedRequest
    ) -> None:
        session = self._upstreams.session_of(upstream)
        upstream_name = session.upstream.name
        asked = dict(json.members(result) or ()).get("inputRequests", b"null")
        members = [] if asked == b"null" else json.members(asked)
        require_limit(self._router, "max_input_rounds", retained.rounds + 1, upstream_name)
        if members is None:
            raise relay_error("the server's inputRequests are no object", "invalid_answer", upstream_name)
        inputs = dict(members)
        require_limit(self._router, "max_input_requests", len(inputs), upstream_name)
        questions = [self._question(wanted, upstream_name) for wanted in inputs.values()]
        # A server without a question only wants to be asked again: not at once.
        waits: list[Coroutine[Any, Any, bytes]] = [
            self._answer(request, *question, session.upstream) for question in questions
        ] or [asyncio.sleep(min(0.05 * 2 ** min(retained.rounds, 7), 5.0), b"")]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        asking = asyncio.gather(*tasks)
        with self._drain.tracking(request, asking.cancel, session):
            try:
                answers = await asking
            except asyncio.CancelledError:
                if request.cancelled:
                    raise
                if self._drain.is_closing:
                    raise relay_fault("closed", upstream_name, sent=True) from None
                raise relay_error("the server is taken out of the relay", "closed", upstream_name) from None
            finally:
                # What else the client is asked is of no use where one answer is missing.
                for task in tasks:
                    task.cancel()
            try:
                peer = await session.wait()
            except (OSError, Error):
                raise relay_fault("unreachable", upstream_name, sent=True) from None
            said = json.joined(dict(zip(inputs, answers, strict=False))) if inputs else None
            try:
                params = next_round(request.raw_params, said, state)
            except ValueError:
                message = "the server needs input, and the request's params are no object that could hold it"
                raise relay_error(message, "not_bridged", upstream_name) from None
            self._core.pass_on(request, peer.connection, params, retained)

    def _question(self, raw: bytes, upstream_name: str) -> tuple[str, bytes | None]:
        """The method and the params of what the client is asked, as it may see them."""
        wanted = dict(json.members(raw) or ())
        method = json.loads(wanted.get("method", b"null"))
        able = (
            self._capabilities.get(REQUIRED_CAPABILITY[method])
            if isinstance(method, str) and method in REQUIRED_CAPABILITY
            else None
        )
        if not isinstance(method, str) or not isinstance(able, dict):
            message = f"the server asks for {method}, which this client did not offer"
            raise relay_error(message, "not_bridged", upstream_name)
        params = wanted.get("params", b"null")
        if params == b"null":
            return method, None
        try:
            params = params_for(method, params)
        except ValueError as error:
            message = f"the params of the server's {method} cannot be passed on: {error}"
            raise relay_error(message, "invalid_answer", upstream_name) from None
        if method != "elicitation/create":
            return method, params
        members = dict(json.members(params) or ())
        mode = json.loads(members.get("mode", b'"form"'))
        if not isinstance(mode, str):
            raise relay_error(
                f"the mode of the server's {method} is no text", "invalid_answer", upstream_name
            )
        if mode != "form" and mode not in able:
            message = f"the server asks for an elicitation by {mode}, which this client did not offer"
            raise relay_error(message, "not_bridged", upstream_name)
        if mode == "url":
            # It has an id for legacy clients only.
            params = json.joined({**members, "elicitationId": json.dumps(secrets.token_urlsafe(16))})
        return method, params

    async def _answer(self, request: Request, method: str, params: bytes | None, upstream: Upstream) -> bytes:
        try:
            call = request.send(
                method,
                params,
                timeout=None,
                max_timeout=upstream.input_timeout,
                progress=False,
            )
            raw = await call.raw()
        except CallTimedOut as error:
            message = "the client did not answer what the server needs in time"
            raise relay_error(message, "input_expired", upstream.name) from error
        except RemoteError as error:
            message = (
                f"the server needs input, and the client answered {method} with an error: {error.message}"
            )
            raise relay_error(message, "input_refused", upstream.name) from error
        except (InvalidResponse, NotAllowed) as error:
            # An answer that is none, or a client that has not opened its connection.
            message = f"the server needs input, and the client could not be asked by {method}"
            raise relay_error(message, "input_refused", upstream.name) from error
        try:
            return result_for(method, raw)
        except ValueError as error:
            message = f"the server needs input, and the client's answer to {method} is none: {error}"
            raise relay_error(message, "input_refused", upstream.name) from None


__all__ = ["InputReplay", "meta_of"]
