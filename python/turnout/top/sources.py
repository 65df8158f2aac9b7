"""Follows gateways: each event of each goes into the model, and who is lost is asked again."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from turnout.control import places
from turnout.control.client import ControlClient, ControlError
from turnout.escape import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turnout.top.model import Line, Model, Seen

PAUSE = 1.0
"""Seconds until a gateway that is not there is asked again."""


class NoGatewayError(Exception):
    """Nobody is there to be looked at; the message is one line for the person."""


def found(given: tuple[str, ...], environ: Mapping[str, str] | None = None) -> list[str]:
    """The places that are looked at: those that were given, or the sockets of our own user's gateways.

    Args:
        given: paths of sockets, and URLs.
        environ: the variables that say where the sockets are; None for those of the process.

    Raises:
        NoGatewayError: none is given, and there is none.

    """
    if given:
        return list(dict.fromkeys(given))
    there = [str(path) for path in places.served(environ)]
    if not there:
        raise NoGatewayError(
            f"no gateway of yours is running (nothing is in {places.folder(environ)});"
            " start one by: turnout gateway CONFIG"
        )
    return there


class Sources:
    """The gateways that are followed.

    Args:
        model: what is known of them.
        token: what those over HTTP are sent; None for none.
        changed: called when there is something new.

    """

    def __init__(self, model: Model, token: str | None, changed: Callable[[], object]) -> None:
        self._model = model
        self._changed = changed
        self.clients = {
            place: ControlClient(place, token if "://" in place else None) for place in model.gateways
        }

    async def follow(self) -> None:
        """Follow all of them until cancelled."""
        await asyncio.gather(*(self._follow(seen) for seen in self._model.gateways.values()))

    async def _follow(self, seen: Seen) -> None:
        client = self.clients[seen.place]
        while True:
            try:
                async with contextlib.aclosing(client.events()) as events:
                    async for event, data in events:
                        seen.apply(event, data)
                        self._changed()
                why = f"{escaped(seen.place)} has ended"
            except ControlError as error:
                why = str(error)
            seen.lost(why)
            self._changed()
            await asyncio.sleep(PAUSE)

    async def cancel(self, lines: list[Line], reason: str) -> str:
        """Cancel requests; gives what came of it, in one line."""
        ended = 0
        for line in lines:
            try:
                body = {"handle": line.row["handle"], "reason": reason or None}
                told = await self.clients[line.seen.place].post("/turnout/cancel", body)
            except ControlError as error:
                return str(error)
            ended += told.get("cancelled") is True
        over = len(lines) - ended
        return f"{ended} cancelled" + (f", {over} were over" if over else "")

    async def record(self, line: Line) -> dict[str, Any] | None:
        """The record of a line; None where its gateway has none any more.

        Raises:
            ControlError: it cannot be asked.

        """
        told = await self.clients[line.seen.place].get("/turnout/records", {"handle": line.row["handle"]})
        records = told.get("records")
        return records[0] if isinstance(records, list) and records and isinstance(records[0], dict) else None


async def once(given: list[str], token: str | None) -> list[dict[str, Any]]:
    """What each gateway tells now, in the order of the places; one that cannot be asked says why.

    Args:
        given: the places.
        token: what those over HTTP are sent; None for none.

    """

    async def ask(place: str) -> dict[str, Any]:
        try:
            client = ControlClient(place, token if "://" in place else None)
            return {"place": place, **await client.get("/turnout/flights")}
        except ControlError as error:
            return {"place": place, "error": str(error)}

    return list(await asyncio.gather(*map(ask, given)))


__all__ = ["NoGatewayError", "Sources", "found", "once"]
