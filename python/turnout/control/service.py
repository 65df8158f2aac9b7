"""The control endpoint of a router: what is in flight, live; records; and the end of what a person stops."""

from __future__ import annotations

import hmac
import math
import re
from typing import TYPE_CHECKING, Any, Literal

from turnout import json
from turnout.control.figures import Figures
from turnout.control.flights import MAX_ROWS, Flights
from turnout.control.page import PATH, answer_page
from turnout.control.server import HttpServer, Request, Response
from turnout.control.viewers import Viewers
from turnout.errors import DecodeError
from turnout.records import spelled
from turnout.transports.places import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from turnout._native import Record
    from turnout.control.flights import Redact
    from turnout.router import Router
    from turnout.transports.places import Place

    Page = Callable[[Request], Awaitable[Response]]

MAX_RECORDS = 1000
"""Records of one answer."""

RECORDS = 100
"""Records of one answer where nobody says how many."""

MAX_REASON = 1000
"""Characters of the reason of a cancel."""

EXACT = ("peer", "method", "outcome", "target", "principal", "label")
"""What records are looked up by as it stands."""


def is_token(text: str) -> bool:
    """Whether a header can bear a text as a token."""
    return re.fullmatch(r"[!-~]+", text) is not None


def answered(status: int, body: Mapping[str, Any]) -> Response:
    """An answer of JSON."""
    return Response(status, json.dumps(body) + b"\n")


def refused(status: int, why: str, **headers: str) -> Response:
    """An answer that says what was wrong."""
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Response(status, json.dumps({"error": why}) + b"\n", headers=given)


class Control:
    """The control endpoint of a router, at any number of places; made by `Router.serve_control`.

    Args:
        router: whose flights are seen.
        place: where it is served.
        name: what viewers call it.
        token: what a request has to bear; None for nothing, where the place lets in our own user only.
        redact: what a row or a record becomes before it is told; None for what it is.
        rows: requests that are told one by one.

    Attributes:
        pages: what is served beside, by path; each says itself whether it asks for the token (`bears_token`).

    """

    def __init__(
        self,
        router: Router,
        place: Place,
        *,
        name: str,
        token: str | None,
        redact: Redact | None,
        rows: int = MAX_ROWS,
    ) -> None:
        if token is not None and not is_token(token):
            raise ValueError("a token has printable characters of ASCII, and no space")
        self._router = router
        self._token = None if token is None else token.encode()
        self._flights = Flights(router, rows)
        self._figures = Figures(router.records)
        self._viewers = Viewers(self._flights, self._figures, redact, {"name": name})
        self._server = HttpServer(place, self.answer)
        self._place = place
        # It has no secret, and asks the person for the token; a socket is reached by no browser.
        self.pages: dict[str, Page] = {} if token is None else {PATH: answer_page}
        self._pages: dict[str, tuple[Literal["GET", "POST"], Page]] = {
            "/turnout/flights": ("GET", self._answer_flights),
            "/turnout/events": ("GET", self._answer_events),
            "/turnout/records": ("GET", self._answer_records),
            "/turnout/cancel": ("POST", self._answer_cancel),
        }

    @property
    def name(self) -> str:
        """Where it listens: the path of its socket, or its URL."""
        return self._place.name if not self._place.port else f"http://{self._place.name}"

    @property
    def port(self) -> int:
        """The port; 0 for a Unix socket."""
        return self._place.port

    async def start(self) -> None:
        """Serve from now on.

        Raises:
            OSError: the address is in use or not ours.

        """
        await self._server.start()

    async def close(self) -> None:
        """Serve no more; whoever looks is let go."""
        await self._server.close()
        self._viewers.close()

    # ---- who asks ----

    def bears_token(self, request: Request) -> bool:
        """Whether a request has the token, or none is asked for; in constant time."""
        if self._token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), self._token
        )

    def _is_asked_by_name(self, request: Request) -> bool:
        """Whether it is asked by a name of this machine's: other names lead here by a page's trick."""
        if not self._place.is_local:
            return True
        host = request.headers.get("host", "")
        host, _, port = host.rpartition(":") if not host.endswith("]") and ":" in host else (host, "", "")
        return host.strip("[]").lower() in LOOPBACK and (not port or port.isdecimal())

    # ---- answers ----

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        if not self._is_asked_by_name(request):
            return refused(421, "this is served to this machine under its own name only")
        page = self.pages.get(request.path)
        if page is not None:
            return await page(request)
        known = self._pages.get(request.path)
        if known is None:
            return refused(404, "there is nothing here; see /turnout/flights")
        if not self.bears_token(request):
            return refused(401, "a token is needed", WWW_Authenticate="Bearer")
        method, answer = known
        if request.method != method:
            return refused(405, f"this takes {method}", Allow=method)
        return await answer(request)

    async def _answer_flights(self, _: Request) -> Response:
        self._viewers.look()
        return answered(200, self._viewers.snapshot())

    async def _answer_events(self, _: Request) -> Response:
        if self._viewers.is_full:
            return refused(503, "too many look already", Retry_After="5")
        return Response(200, kind="text/event-stream", stream=self._viewers.follow())

    async def _answer_records(self, request: Request) -> Response:
        query = dict(request.query)
        handle = query.pop("handle", None)
        try:
            limit = int(query.pop("limit", RECORDS))
            since, until = (number(query.pop(name, None)) for name in ("since", "until"))
        except ValueError:
            return refused(400, "limit is a number, since and until are seconds since the epoch")
        direction = query.pop("direction", None)
        exact = {name: query.pop(name) for name in EXACT if name in query}
        if query or not 1 <= limit <= MAX_RECORDS:
            also = ", ".join([*EXACT, "direction", "since", "until", "handle"])
            return refused(400, f"limit is 1 to {MAX_RECORDS}; other parameters are {also}")
        found: list[Record]
        if handle is not None:
            record = self._flights.find(handle)
            found = [] if record is None else [record]
        else:
            found = self._router.records.query(direction=direction, since=since, until=until, **exact)
        told = [self._viewers.redacted(spelled(record)) for record in found[-limit:]]
        return answered(200, {"records": [record for record in told if record is not None]})

    async def _answer_cancel(self, request: Request) -> Response:
        # A page of somebody else's cannot send this type without asking first, which nobody answers.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return refused(415, "this takes application/json")
        try:
            asked = json.loads(request.body)
        except DecodeError:
            return refused(400, "this is no JSON")
        handle = asked.get("handle") if isinstance(asked, dict) else None
        reason = asked.get("reason") if isinstance(asked, dict) else None
        if not isinstance(handle, str) or not (reason is None or isinstance(reason, str)):
            return refused(400, 'this takes {"handle": "...", "reason": "..."}')
        if reason is not None and len(reason) > MAX_REASON:
            return refused(400, f"a reason has at most {MAX_REASON} characters")
        try:
            ended = self._flights.cancel(handle, reason or None)
        except KeyError:
            return refused(404, "no request of that handle was in flight here")
        return answered(200, {"cancelled": ended})


def number(text: str | None) -> float | None:
    """A finite number; None for None.

    Raises:
        ValueError: it is none.

    """
    if text is None:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


__all__ = ["Control", "answered", "is_token", "refused"]
