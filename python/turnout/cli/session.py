"""One call on a server of its own, from start to end: the only place here that uses turnout's API."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import turnout

if TYPE_CHECKING:
    from turnout.protocol.handshake import Era
    from turnout.transports.channel import Target

LATE_OUTCOMES = frozenset({"cancelled", "idle_timeout", "max_timeout"})
"""Ends of our own making, after which the peer may still answer."""


@dataclass(frozen=True)
class Job:
    """What is to be called, on which server, and how long it may take.

    Args:
        target: the server.
        method: of the request.
        params: of the request.
        era: `"auto"` probes the server, `"legacy"` and `"modern"` say how to open it.
        timeout: seconds without progress; None waits for ever.
        max_timeout: seconds in all; None is no limit.
        late: seconds to wait for a late answer after a cancel or a timeout.
        open_timeout: seconds until the server is started and opened; None waits for ever.

    """

    target: Target
    method: str
    params: dict[str, Any]
    era: Era = "auto"
    timeout: float | None = None
    max_timeout: float | None = None
    late: float = 0.0
    open_timeout: float | None = 60.0


@dataclass(frozen=True)
class Ended:
    """How a call ended: with a result or an error, and with its record, if it came to be sent."""

    record: turnout.Record | None = None
    result: Any = None
    error: BaseException | None = None


class Watcher(Protocol):
    """Who looks on: a progress bar, the demo."""

    def started(self, call: turnout.Call) -> None:
        """The request is registered; it can be cancelled from now on."""

    def progressed(self, call: turnout.Call, update: turnout.Progress) -> None:
        """The server reported."""

    def refused(self, event: turnout.Refused) -> None:
        """The server wrote something that is no message."""


async def perform(job: Job, watcher: Watcher) -> Ended:
    """Start and open the server, call, look on, and close it again.

    Raises:
        asyncio.CancelledError: the task was cancelled; the server is closed all the same.

    """
    try:
        async with turnout.Router(timeout=job.timeout, max_timeout=job.max_timeout) as router:
            late = asyncio.Event()

            @router.on_event
            def heard(event: object) -> None:
                if isinstance(event, turnout.LateResponse):
                    late.set()
                elif isinstance(event, turnout.Refused):
                    watcher.refused(event)

            peer = await _connect(router, job)
            call = peer.send(job.method, job.params)
            watcher.started(call)
            ended = await _follow(call, watcher)
            if call.record.outcome in LATE_OUTCOMES:
                # Whether the peer answered after all belongs in the record.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(late.wait(), job.late)
            return ended
    except (turnout.Error, OSError) as error:
        # Nothing was sent: the server did not start, could not be opened, or the request was refused here.
        return Ended(record=getattr(error, "record", None), error=error)


async def _connect(router: turnout.Router, job: Job) -> turnout.Peer:
    bound = job.open_timeout
    connecting = router.connect(job.target, era=job.era, open_timeout=math.inf if bound is None else bound)
    try:
        return await asyncio.wait_for(connecting, bound)
    except asyncio.TimeoutError:
        raise turnout.HandshakeFailed(f"the server did not open within {bound:g} s") from TimeoutError()


async def _follow(call: turnout.Call, watcher: Watcher) -> Ended:
    async for update in call.progress():
        watcher.progressed(call, update)
    try:
        return Ended(call.record, result=await call)
    except turnout.Error as error:
        return Ended(call.record, error=error)
