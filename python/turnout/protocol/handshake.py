"""The handshake: opens a connection in either era, from either side, and detects the era.

Legacy (2024-11-05 to 2025-11-25) opens by `initialize`. Modern (2026-07-28) is stateless: the `_meta` of every
request names the client and the revision, and `server/discover` describes the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from turnout._native import UNSUPPORTED_VERSION
from turnout.errors import CallTimedOut, HandshakeFailed, InvalidResponse, PeerLost, RemoteError
from turnout.escape import escaped, quoted
from turnout.handlers import members_of

if TYPE_CHECKING:
    from turnout._native import Request
    from turnout.peer import Peer
    from turnout.router import Router

Era: TypeAlias = Literal["auto", "legacy", "modern"]

ERAS = get_args(Era)

LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MODERN = "2026-07-28"

META = "io.modelcontextprotocol/"
TASKS = f"{META}tasks"
"""The extension that has the tasks of the modern era."""


def _version() -> str:
    try:
        return version("turnout")
    except PackageNotFoundError:
        return "0"


SAY_NOTHING = frozenset({401, 403, 407, 408, 425, 429, 502, 503, 504})
"""Statuses of HTTP's that may be of somebody before a server, or for another time."""


@dataclass(frozen=True)
class Implementation:
    """Our implementation, as a peer is told: the protocol's `Implementation` with what it offers.

    Args:
        name: our name.
        version: our version; None for turnout's.
        capabilities: what we offer.
        revision: the revision that a server is asked for which speaks both eras, one of 2025-11-25 or older; None for
            the newest.

    """

    name: str
    version: str | None = None
    capabilities: dict[str, Any] = field(default_factory=dict)
    revision: str | None = None

    @property
    def info(self) -> dict[str, str]:
        """The protocol's `Implementation`."""
        return {"name": self.name, "version": self.version or _version()}


def declared_tasks(capabilities: Any) -> set[str]:
    """The methods that capabilities declare as tasks, and `tasks/cancel` if declared (tasks, 2025-11-25)."""
    tasks = capabilities.get("tasks") if isinstance(capabilities, dict) else None
    if not isinstance(tasks, dict):
        return set()
    requests = tasks.get("requests")
    groups = requests.items() if isinstance(requests, dict) else ()
    methods = {f"{group}/{name}" for group, names in groups if isinstance(names, dict) for name in names}
    return methods | ({"tasks/cancel"} if "cancel" in tasks else set())


def capabilities_in(revision: str, capabilities: dict[str, Any]) -> dict[str, Any]:
    """Capabilities as a revision has them: each era has its own tasks, the other's mean nothing (TSX-58, TSX-61)."""
    if revision == MODERN:
        return {name: value for name, value in capabilities.items() if name != "tasks"}
    extensions = capabilities.get("extensions")
    if not isinstance(extensions, dict) or TASKS not in extensions:
        return capabilities
    left = {name: value for name, value in extensions.items() if name != TASKS}
    capabilities = {name: value for name, value in capabilities.items() if name != "extensions"}
    return {**capabilities, "extensions": left} if left else capabilities


async def open_legacy(peer: Peer, implementation: Implementation, timeout: float) -> None:
    """Open a connection by `initialize` (lifecycle, 2024-11-05 to 2025-11-25).

    Args:
        peer: a connection that was not opened.
        implementation: who we are.
        timeout: seconds for the answer (TMO-02); `initialize` is never cancelled on the wire (CAN-10).

    Raises:
        HandshakeFailed: the server chose a revision that we do not know, answered with an error, or was lost.

    """
    revision = implementation.revision or LEGACY[0]
    peer.set_rules(revision, "client", opened=False)
    params = {
        "protocolVersion": revision,
        "capabilities": capabilities_in(revision, implementation.capabilities),
        "clientInfo": implementation.info,
    }
    try:
        result = await peer.send("initialize", params, timeout=timeout, max_timeout=timeout, progress=False)
    except (RemoteError, InvalidResponse, CallTimedOut, PeerLost) as error:
        raise HandshakeFailed(f"{escaped(peer.name)} did not accept initialize: {error}") from error
    chosen = result.get("protocolVersion") if isinstance(result, dict) else None
    if chosen not in LEGACY:
        raise HandshakeFailed(
            f"{escaped(peer.name)} speaks revision {quoted(chosen)}; known here: {', '.join(LEGACY)}"
        )
    peer.set_rules(chosen, "client")
    _note_server(peer, result.get("serverInfo"), result)
    peer.connection.declare_tasks(
        ours=declared_tasks(implementation.capabilities), theirs=declared_tasks(peer.server_capabilities)
    )
    peer.notify("notifications/initialized")


def envelope_of(implementation: Implementation) -> dict[str, Any]:
    """The members of `_meta` that name us in each request to a modern server."""
    return {
        f"{META}protocolVersion": MODERN,
        f"{META}clientInfo": implementation.info,
        f"{META}clientCapabilities": capabilities_in(MODERN, implementation.capabilities),
    }


def mark_requests(peer: Peer, implementation: Implementation, log_level: str | None = None) -> None:
    """Mark every request from now on, as a modern server asks for it.

    Args:
        peer: the server's connection.
        implementation: who we are to it.
        log_level: how much the server is to log for each of them; None for nothing.

    """
    level = {} if log_level is None else {f"{META}logLevel": log_level}
    peer.set_rules(MODERN, "client", request_meta={**envelope_of(implementation), **level})


async def open_modern(peer: Peer, implementation: Implementation, timeout: float) -> None:
    """Ask what the server is, and mark every request from now on (2026-07-28).

    Args:
        peer: a connection that was not opened.
        implementation: who we are.
        timeout: seconds for the answer.

    Raises:
        HandshakeFailed: the server does not speak the revision, did not answer in time, or was lost.

    """
    mark_requests(peer, implementation)
    try:
        try:
            result = await _discover(peer, timeout)
        except RemoteError as error:
            if not _is_modern(error):
                raise
            # It names the revision that it refused: where several answer at one address, the next may be another one.
            result = await _discover(peer, timeout)
    except (RemoteError, InvalidResponse, CallTimedOut, PeerLost) as error:
        raise HandshakeFailed(f"{escaped(peer.name)} did not answer server/discover: {error}") from error
    supported = result.get("supportedVersions") if isinstance(result, dict) else None
    if not isinstance(supported, list) or MODERN not in supported:
        raise HandshakeFailed(f"{escaped(peer.name)} supports {quoted(supported)}, not {MODERN}")
    _note_server(peer, members_of(result.get("_meta")).get(f"{META}serverInfo"), result)


async def _discover(peer: Peer, timeout: float) -> Any:
    return await peer.send("server/discover", {}, timeout=timeout, max_timeout=timeout, progress=False)


def _note_server(peer: Peer, info: Any, result: dict[str, Any]) -> None:
    """Store what a server said of itself; a value of another type than the protocol's counts as absent."""
    peer.server_info = info if isinstance(info, dict) else None
    peer.server_capabilities = members_of(result.get("capabilities"))
    instructions = result.get("instructions")
    peer.instructions = instructions if isinstance(instructions, str) else None


async def open_peer(
    peer: Peer, implementation: Implementation, era: Era, timeout: float, probe_timeout: float
) -> None:
    """Open a connection in the given era, or in the one that a probe finds (TRS-15 to TRS-17).

    Whatever answers the probe with something that is no discovery is legacy: an error of any code, nonsense,
    or silence. Over HTTP that holds for what the server itself says: a redirect, a page, a status such as 401, 429 or
    503 say nothing of it, and the connection is not opened. The probe is not cancelled (K5); an answer that comes too
    late is only recorded, but the server may have taken it for the opening: then it says of the handshake that it
    speaks the modern revision, and is asked once more.

    Args:
        peer: a connection that was not opened.
        implementation: who we are.
        era: which one; `"auto"` to find out.
        timeout: seconds for each answer.
        probe_timeout: seconds for the answer to the probe.

    Raises:
        HandshakeFailed: as for `open_legacy` and `open_modern`.

    """
    if era == "legacy":
        await open_legacy(peer, implementation, timeout)
        return
    if era == "modern":
        await open_modern(peer, implementation, timeout)
        return
    if implementation.revision is not None:
        try:
            await open_legacy(peer, implementation, timeout)
        except HandshakeFailed as error:
            cause = error.__cause__
            if isinstance(cause, (CallTimedOut, PeerLost)) or _says_nothing(cause):
                raise
            await open_modern(peer, implementation, timeout)
        return
    try:
        await open_modern(peer, implementation, min(probe_timeout, timeout))
    except HandshakeFailed as error:
        if isinstance(error.__cause__, PeerLost) or _says_nothing(error.__cause__):
            raise
        try:
            await open_legacy(peer, implementation, timeout)
        except HandshakeFailed as error:
            if not _is_modern(error.__cause__):
                raise
            await open_modern(peer, implementation, timeout)


def _says_nothing(error: BaseException | None) -> bool:
    """Whether an answer over HTTP is of somebody before the server, or for another time: it says nothing of the era.

    A server that knows both would be spoken to in the older one for as long as the connection stands.
    """
    data = members_of(getattr(error, "data", None))
    status = data.get("status") if data.get("reason") == "http_status" else None
    is_of_others = isinstance(status, int) and (300 <= status < 400 or status in SAY_NOTHING)
    return is_of_others or data.get("reason") == "unreadable_answer"


def _is_modern(error: BaseException | None) -> bool:
    """Whether a server refused the handshake because it speaks the modern revision with us."""
    supported = members_of(getattr(error, "data", None)).get("supported")
    is_refusal = isinstance(error, RemoteError) and error.code == UNSUPPORTED_VERSION
    return is_refusal and isinstance(supported, list) and MODERN in supported


def require_handshake(peer: Peer) -> None:
    """Require that the peer opens the connection, in either era, before anything but `ping` is asked of it (PNG-14)."""
    peer.set_rules(LEGACY[0], "server", opened=False, era="open")


class HandshakeResponder:
    """Answers `initialize` and `server/discover`, and sets the rules of each peer by the era it opens in.

    Args:
        target: a router, for all its peers, or one peer.
        implementation: who we are, with a server's capabilities.
        instructions: told to the client; None for none.

    """

    def __init__(
        self, target: Router | Peer, implementation: Implementation, instructions: str | None = None
    ) -> None:
        self._implementation = implementation
        self._instructions = {} if instructions is None else {"instructions": instructions}
        target.handlers.answer_handshakes()
        target.on_request("initialize")(self._initialize)
        target.on_request("server/discover")(self._discover)

    async def _initialize(self, request: Request) -> dict[str, Any]:
        params = members_of(request.params)
        asked = params.get("protocolVersion")
        revision = asked if asked in LEGACY else LEGACY[0]
        # `notifications/initialized` opens it (PNG-14), which may have come already.
        request.peer.set_rules(revision, "server", opened=None, era="settled")
        request.peer.connection.declare_tasks(
            ours=declared_tasks(self._implementation.capabilities),
            theirs=declared_tasks(params.get("capabilities")),
        )
        return {
            "protocolVersion": revision,
            "capabilities": capabilities_in(revision, self._implementation.capabilities),
            "serverInfo": self._implementation.info,
            **self._instructions,
        }

    async def _discover(self, request: Request) -> dict[str, Any]:
        request.peer.connection.settle_era(MODERN)
        return {
            "supportedVersions": [MODERN],
            "capabilities": capabilities_in(MODERN, self._implementation.capabilities),
            "_meta": {f"{META}serverInfo": self._implementation.info},
            **self._instructions,
        }


def serve_handshake(
    target: Router | Peer,
    *,
    name: str,
    version: str | None = None,
    capabilities: dict[str, Any] | None = None,
    instructions: str | None = None,
) -> None:
    """Answer the handshakes of both eras.

    Args:
        target: a router, for all its peers, or one peer.
        name: the server's name.
        version: the server's version; None for turnout's.
        capabilities: what the server offers; None for tools.
        instructions: told to the client; None for none.

    """
    offered = {"tools": {}} if capabilities is None else capabilities
    HandshakeResponder(target, Implementation(name, version, offered), instructions)


__all__ = ["Era", "Implementation", "open_legacy", "open_modern", "open_peer", "serve_handshake"]
