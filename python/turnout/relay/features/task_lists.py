"""Lists of tasks (2025-11-25): a server that clients share lists everybody's, so the relay lists a client's own.

It asks the servers for each task by its id (`tasks/get`). The cursor is the relay's, too: a server's own may name
another client's task.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from turnout._native import INVALID_PARAMS
from turnout.errors import Error, InvalidResponse, RemoteError, method_not_found
from turnout.handlers import members_of
from turnout.protocol import handshake
from turnout.relay.errors import invalid_cursor, reason_of
from turnout.relay.features.merged_lists import MISSING

if TYPE_CHECKING:
    from turnout._native import Relay, Request
    from turnout.peer import Peer
    from turnout.relay.clients import Clients
    from turnout.relay.drain import DrainTracker
    from turnout.relay.forwarding import SessionForwarder
    from turnout.relay.upstreams.session import UpstreamSession


PAGE = 16
"""Tasks of one page: so many requests a list makes at most, all at once."""


class TaskLists:
    """Answers `tasks/list` for a relay.

    Args:
        core: the native relay, which knows the tasks.
        clients: who asks, and what serves them.
        drain: what lists are tracked by.
        forward: passes a request on.

    """

    def __init__(self, core: Relay, clients: Clients, drain: DrainTracker, forward: SessionForwarder) -> None:
        self._core = core
        self._clients = clients
        self._drain = drain
        self._forward = forward

    async def answer(self, request: Request) -> dict[str, Any] | None:
        """List a page of the client's own tasks, or pass the request on to a server that serves nobody else.

        Raises:
            RequestError: no server lists tasks, or the cursor is none of ours.

        """
        client = request.peer
        assigned = self._clients[client].assignment
        sessions = list(assigned.sessions.values())
        if len(sessions) == 1 and sessions[0].is_exclusive:
            await self._forward(request, assigned, sessions[0])
            return None
        if client.revision == handshake.MODERN or not any(_lists_tasks(session) for session in sessions):
            raise method_not_found(request.method)
        start = _start(members_of(request.params).get("cursor"))
        known = self._core.tasks_of(client.connection, start, PAGE + 1)
        with self._drain.tracking(request):
            asked = (
                self._get(request, number, assigned.sessions[position], task_id)
                for number, position, task_id in known[:PAGE]
            )
            found = await asyncio.gather(*asked)
        result: dict[str, Any] = {"tasks": [task for task in found if isinstance(task, dict)]}
        if len(known) > PAGE:
            result["nextCursor"] = str(known[PAGE][0])
        failed = {
            position: error
            for (_, position, _), error in zip(known, found, strict=False)
            if isinstance(error, (Error, OSError))
        }
        if failed:
            missing = [
                {"upstream": assigned.sessions[position].upstream.name, "reason": reason_of(error)}
                for position, error in failed.items()
            ]
            result["_meta"] = {MISSING: missing}
        return result

    async def _get(
        self, request: Request, number: int, session: UpstreamSession, task_id: str
    ) -> dict[str, Any] | Error | OSError | None:
        """What a task's server says of it; the error that was met instead; None where there is no such task."""
        upstream = session.upstream
        try:
            peer = await session.wait_briefly()
            call = peer.send(
                "tasks/get",
                {"taskId": task_id},
                timeout=upstream.timeout,
                max_timeout=upstream.list_timeout,
                progress=False,
            )
            request.adopt(call)
            task = members_of(await call)
        except (OSError, Error) as error:
            if isinstance(error, RemoteError) and error.code == INVALID_PARAMS:
                self._core.forget_task(request.peer.connection, number)
                return None
            return error
        if task.get("taskId") != task_id:
            return InvalidResponse("the server told of another task")
        if not any(number == held for held, *_ in self._core.tasks_of(request.peer.connection, number, 1)):
            # While it was asked for, its server gave the id to somebody else, too.
            return None
        return {name: value for name, value in task.items() if name != "_meta"}


def _lists_tasks(session: UpstreamSession) -> bool:
    """Whether the server of a place, if it is there, says that it lists tasks, or says nothing."""
    peer: Peer | None = session.peer
    if peer is None:
        return False
    return not peer.server_capabilities or "list" in members_of(peer.server_capabilities.get("tasks"))


def _start(cursor: Any) -> int:
    """From which of the client's own tasks on a list goes."""
    if cursor is None:
        return 0
    if not (isinstance(cursor, str) and cursor.isascii() and cursor.isdecimal() and len(cursor) < 20):
        raise invalid_cursor()
    return int(cursor)


__all__ = ["TaskLists"]
