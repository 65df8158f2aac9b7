"""Work that a relay does for nobody in particular."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from turnout.errors import Error
from turnout.escape import escaped

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from turnout.router import Router

log = logging.getLogger("turnout")


def attempt(router: Router, work: Coroutine[Any, Any, Any]) -> None:
    """Do what may fail without harm to anyone, in a task of the router's."""

    async def run() -> None:
        try:
            await work
        except (OSError, Error) as error:
            log.debug("the relay goes on without: %s", escaped(str(error)))

    router.spawn(run())


__all__ = ["attempt"]
