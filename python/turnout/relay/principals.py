"""On whose behalf clients ask: a principal has its tasks and request states on each of its connections."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from turnout._native import Principal, Relay
    from turnout.router import Router


class Principals:
    """The principals of one relay, by the names that its host gives them.

    Those without a connection are remembered for their return, up to `max_absent_tasks`: the one that has been away
    longest makes room.

    Args:
        router: whose limits hold.
        core: the native relay, which has the tasks of each.

    """

    def __init__(self, router: Router, core: Relay) -> None:
        self._router = router
        self._core = core
        self._connected: dict[Hashable, tuple[Principal, int]] = {}
        self._absent: OrderedDict[Hashable, tuple[Principal, int]] = OrderedDict()
        self._absent_tasks = 0

    def enter(self, name: Hashable | None) -> Principal | None:
        """Take note of a client of a principal; None for a client that is a principal by itself."""
        if name is None:
            return None
        principal, clients = self._connected.get(name) or (self._returned(name), 0)
        self._connected[name] = (principal, clients + 1)
        return principal

    def leave(self, name: Hashable | None) -> None:
        """Take note that a client of a principal has left."""
        if name is None:
            return
        principal, clients = self._connected.pop(name)
        if clients > 1:
            self._connected[name] = (principal, clients - 1)
            return
        # One without a task counts, too: it is remembered for its request states.
        size = principal.tasks + 1
        self._absent[name] = (principal, size)
        self._absent_tasks += size
        most = self._router.limit("max_absent_tasks")
        while self._absent_tasks > most:
            _, (oldest, size) = self._absent.popitem(last=False)
            self._absent_tasks -= size
            self._core.forget_principal(oldest)

    def _returned(self, name: Hashable) -> Principal:
        known = self._absent.pop(name, None)
        if known is None:
            return self._core.principal(str(name))
        principal, size = known
        self._absent_tasks -= size
        return principal


__all__ = ["Principals"]
