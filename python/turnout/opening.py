"""The first words: how a connection is opened in each era, from either side, and how the era is found.

Legacy (2024-11-05 to 2025-11-25) shakes hands by `initialize`. Modern (2026-07-28) is stateless: every
request says in its `_meta` who asks under which revision, and `server/discover` tells what the server is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from turnout._native import Connection
from turnout.errors import CallTimedOut, InvalidResponse, OpeningFailed, RemoteError, RequestError
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
UNSUPPORTED_VERSION = -32022
INVALID_PARAMS = -32602


def _version() -> str:
    try:
        return version("turnout")
    except PackageNotFoundError:
        return "0"


@dataclass(frozen=True)
class Identity:
    """Who we are to a peer.

    Args:
        name: our name.
        version: our version; None for turnout's.
        capabilities: what we offer.

    """

    name: str
    version: str | None = None
    capabilities: dict[str, Any] = field(default_factory=dict)

    @property
    def info(self) -> dict[str, str]:
        """The protocol's `Implementation`."""
        return {"name": self.name, "version": self.version or _version()}


def taken_as_tasks(capabilities: Any) -> set[str]:
    """The methods that a side takes as tasks, and `tasks/cancel` if it takes that (tasks, 2025-11-25)."""
    tasks = capabilities.get("tasks") if isinstance(capabilities, dict) else None
    if not isinstance(tasks, dict):
        return set()
    requests = tasks.get("requests")
    groups = requests.items() if isinstance(requests, dict) else ()
    methods = {f"{group}/{name}" for group, names in groups if isinstance(names, dict) for name in names}
    return methods | ({"tasks/cancel"} if "cancel" in tasks else set())


async def open_legacy(peer: Peer, identity: Identity, timeout: float) -> None:
    """Shake hands (lifecycle, 2024-11-05 to 2025-11-25).

    Args:
        peer: a connection that was not opened.
        identity: who we are.
        timeout: seconds for the answer (TMO-02); `initialize` is never cancelled on the wire (CAN-10).

    Raises:
        OpeningFailed: the server chose a revision that we do not know, or answered with an error.

    """
    peer.set_rules(LEGACY[0], "client", opened=False)
    params = {
        "protocolVersion": LEGACY[0],
        "capabilities": identity.capabilities,
        "clientInfo": identity.info,
    }
    try:
        result = await peer.send("initialize", params, timeout=timeout, max_timeout=timeout, progress=False)
    except (RemoteError, InvalidResponse, CallTimedOut) as error:
        raise OpeningFailed(f"{peer.name} did not accept initialize: {error}") from error
    revision = result.get("protocolVersion") if isinstance(result, dict) else None
    if revision not in LEGACY:
        raise OpeningFailed(f"{peer.name} speaks revision {revision!r}; known here: {', '.join(LEGACY)}")
    peer.set_rules(revision, "client")
    peer.server_info = result.get("serverInfo")
    peer.server_capabilities = members_of(result.get("capabilities"))
    peer.instructions = result.get("instructions")
    peer.declare_tasks(
        ours=taken_as_tasks(identity.capabilities), theirs=taken_as_tasks(peer.server_capabilities)
    )
    peer.notify("notifications/initialized")


async def open_modern(peer: Peer, identity: Identity, timeout: float) -> None:
    """Ask what the server is, and mark every request from now on (2026-07-28).

    Args:
        peer: a connection that was not opened.
        identity: who we are.
        timeout: seconds for the answer.

    Raises:
        OpeningFailed: the server does not speak the revision, or did not answer in time.

    """
    meta = {
        f"{META}protocolVersion": MODERN,
        f"{META}clientInfo": identity.info,
        f"{META}clientCapabilities": identity.capabilities,
    }
    peer.set_rules(MODERN, "client", request_meta=meta)
    try:
        result = await peer.send("server/discover", {}, timeout=timeout, max_timeout=timeout, progress=False)
    except (RemoteError, InvalidResponse, CallTimedOut) as error:
        raise OpeningFailed(f"{peer.name} did not answer server/discover: {error}") from error
    supported = result.get("supportedVersions") if isinstance(result, dict) else None
    if not isinstance(supported, list) or MODERN not in supported:
        raise OpeningFailed(f"{peer.name} supports {supported!r}, not {MODERN}")
    peer.server_info = members_of(result.get("_meta")).get(f"{META}serverInfo")
    peer.server_capabilities = members_of(result.get("capabilities"))
    peer.instructions = result.get("instructions")


async def open_peer(peer: Peer, identity: Identity, era: Era, timeout: float, probe_timeout: float) -> None:
    """Open a connection in the given era, or in the one that a probe finds (TRS-15 to TRS-17).

    Whatever answers the probe with something that is no discovery is legacy: an error of any code, nonsense,
    or silence. The probe is not cancelled (K5); an answer that comes too late is only recorded.
    """
    if era == "legacy":
        await open_legacy(peer, identity, timeout)
        return
    if era == "modern":
        await open_modern(peer, identity, timeout)
        return
    try:
        await open_modern(peer, identity, min(probe_timeout, timeout))
    except OpeningFailed:
        await open_legacy(peer, identity, timeout)


def expect_opening(peer: Peer) -> None:
    """Ask nothing but `ping` of a peer before it opened the connection (PNG-14)."""
    peer.set_rules(LEGACY[0], "server", opened=False)


class Opened:
    """The server's side: answers `initialize` and `server/discover`, and follows the era of each peer.

    Args:
        target: a router, for all its peers, or one peer.
        identity: who we are, with a server's capabilities.
        instructions: told to the client; None for none.

    """

    def __init__(self, target: Router | Peer, identity: Identity, instructions: str | None = None) -> None:
        self._identity = identity
        self._instructions = {} if instructions is None else {"instructions": instructions}
        if isinstance(target, Connection):
            expect_opening(target)
        target.on_request("initialize")(self._initialize)
        target.on_request("server/discover")(self._discover)

    async def _initialize(self, request: Request) -> dict[str, Any]:
        params = request.params or {}
        asked = params.get("protocolVersion")
        revision = asked if asked in LEGACY else LEGACY[0]
        # What comes with `notifications/initialized` opens it (PNG-14).
        request.peer.set_rules(revision, "server", opened=False)
        request.peer.declare_tasks(
            ours=taken_as_tasks(self._identity.capabilities),
            theirs=taken_as_tasks(params.get("capabilities")),
        )
        return {
            "protocolVersion": revision,
            "capabilities": self._identity.capabilities,
            "serverInfo": self._identity.info,
            **self._instructions,
        }

    async def _discover(self, request: Request) -> dict[str, Any]:
        meta = (request.params or {}).get("_meta") or {}
        asked = meta.get(f"{META}protocolVersion")
        if asked != MODERN:
            supported = {"supported": [MODERN], "requested": asked}
            raise RequestError(UNSUPPORTED_VERSION, "Unsupported protocol version", supported)
        request.peer.set_rules(MODERN, "server")
        return {
            "supportedVersions": [MODERN],
            # The tasks of 2025-11-25 are not offered beside those of the extension (TSX-61).
            "capabilities": {k: v for k, v in self._identity.capabilities.items() if k != "tasks"},
            "_meta": {f"{META}serverInfo": self._identity.info},
            **self._instructions,
        }


def serve_opening(
    target: Router | Peer,
    *,
    name: str,
    version: str | None = None,
    capabilities: dict[str, Any] | None = None,
    instructions: str | None = None,
) -> None:
    """Answer openings of both eras.

    Args:
        target: a router, for all its peers, or one peer.
        name: the server's name.
        version: the server's version; None for turnout's.
        capabilities: what the server offers; None for tools.
        instructions: told to the client; None for none.

    """
    offered = {"tools": {}} if capabilities is None else capabilities
    Opened(target, Identity(name, version, offered), instructions)


__all__ = ["Era", "Identity", "open_legacy", "open_modern", "open_peer", "serve_opening"]
