"""Who speaks with whom: the clients, the servers, the ways between them, and what a client asks of which server."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
NODE = HERE / "node_modules"
BUILT = HERE / ".build"


def _python(folder: str, program: str) -> list[str]:
    return [sys.executable, "-W", "ignore", str(HERE / folder / program)]


CLIENTS = {
    "official-auto": [*_python("clients", "official.py"), "auto"],
    "official-legacy": [*_python("clients", "official.py"), "legacy"],
    "fastmcp": [*_python("clients", "fast.py"), "auto"],
    "ts-v1": ["node", str(HERE / "clients/typescript.mjs"), "v1"],
    "ts-v2-auto": ["node", str(HERE / "clients/typescript.mjs"), "v2-auto"],
    "ts-v2-legacy": ["node", str(HERE / "clients/typescript.mjs"), "v2-legacy"],
    "go-auto": [str(BUILT / "client"), "auto"],
    "go-legacy": [str(BUILT / "client"), "legacy"],
}
"""Each takes its plans, as JSON, and a server's command line after these arguments."""

SERVERS = {
    "official": _python("servers", "official.py"),
    "official-legacy": [*_python("servers", "official.py"), "legacy"],
    "fastmcp": _python("servers", "fast.py"),
    "ts-v2": ["node", str(HERE / "servers/typescript.mjs")],
    "go": [str(BUILT / "server")],
    "turnout": _python("servers", "ours.py"),
    "everything": ["node", str(NODE / "@modelcontextprotocol/server-everything/dist/index.js"), "stdio"],
}

RELAY = _python(".", "relay.py")
BRIDGE = [sys.executable, "-S", str(HERE / "bridge.py")]

DIRECT, HTTP_DIRECT = "direct", "http-direct"


@dataclass(frozen=True)
class Way:
    """How a client reaches a server.

    Args:
        client: what the client speaks: `"stdio"`, `"unix"` or `"http"`.
        server: what the server speaks: `"stdio"` or `"http"`.
        sharing: `sharing=` of the relay's upstream; empty without a relay.
        era: its `era=`.
        against: the way that it is compared with; empty where there is none.

    """

    client: str
    server: str = "stdio"
    sharing: str = ""
    era: str = "auto"
    against: str = DIRECT


WAYS = {
    DIRECT: Way("stdio", against=""),
    HTTP_DIRECT: Way("http", "http"),
    "stdio-shared": Way("stdio", "stdio", "shared"),
    "stdio-per-client": Way("stdio", "stdio", "per_client"),
    "unix-shared": Way("unix", "stdio", "shared"),
    "unix-per-client": Way("unix", "stdio", "per_client"),
    "unix-shared-legacy": Way("unix", "stdio", "shared", "legacy"),
    "http-shared": Way("http", "stdio", "shared"),
    "http-per-client": Way("http", "stdio", "per_client"),
    "stdio-to-http-shared": Way("stdio", "http", "shared", against=HTTP_DIRECT),
    "stdio-to-http-per-client": Way("stdio", "http", "per_client", against=HTTP_DIRECT),
    "http-to-http-shared": Way("http", "http", "shared", against=HTTP_DIRECT),
    "http-to-http-per-client": Way("http", "http", "per_client", against=HTTP_DIRECT),
}
"""All of them; a server that speaks HTTP is compared with itself over HTTP."""

HTTP_SERVERS = {
    **{name: [*command, "http"] for name, command in SERVERS.items()},
    "everything": ["node", str(HERE / "servers/everything.mjs")],
}
"""How they are started to serve at a URL, which they print."""

# The servers in servers/ have the same tools, prompts and resources.
_NEXT = ["echo", {"text": "on"}]
_WAIT = {"call": ["wait", {"tag": "TAG"}], "state": "state", "next": _NEXT}
_OURS = {
    "opening": {},
    "tools": {"call": ["echo", {"text": "hi"}], "fail": ["fail", {}], "invalid": ["echo", {"text": 7}]},
    "progress": {"call": ["steps", {"count": 3}], "sure": 3},
    "abort": _WAIT,
    "timeout": _WAIT,
    "elicitation": {"call": ["greet", {}]},
    "sampling": {"call": ["sample", {}]},
    "listen": {"uri": "mem://note", "call": ["change", {}], "hears": ["tools", "mem://note"]},
    "prompts": {"get": ["ask", {"topic": "tea"}]},
    "resources": {"read": ["mem://note", "mem://item/7"]},
}

# It does not stop when it is cancelled, and cannot say what became of a call.
_LONG = ["trigger-long-running-operation", {"duration": 300, "steps": 3000}]
_STILL = {"call": _LONG, "next": ["echo", {"message": "on"}]}
_DOCUMENT = "demo://resource/static/document/features.md"
_EVERYTHING = {
    "opening": {},
    "tools": {
        "call": ["echo", {"message": "hi"}],
        "fail": ["get-resource-reference", {"resourceType": "Text", "resourceId": -1}],
        "invalid": ["echo", {"message": 7}],
    },
    # Its last update shares a read with the answer, and many a client then loses it, relay or not.
    "progress": {"call": ["trigger-long-running-operation", {"duration": 1, "steps": 4}], "sure": 3},
    "abort": _STILL,
    "timeout": _STILL,
    "elicitation": {"call": ["trigger-elicitation-request", {}]},
    "sampling": {"call": ["trigger-sampling-request", {"prompt": "Two and two?", "maxTokens": 5}]},
    "listen": {
        "uri": _DOCUMENT,
        "call": ["toggle-subscriber-updates", {}],
        "hears": [_DOCUMENT],
        "again": True,  # A second call ends the updates.
    },
    "prompts": {"get": ["args-prompt", {"city": "Ulm"}]},
    "resources": {"read": [_DOCUMENT]},
}

PLANS = {
    "official": _OURS,
    "official-legacy": _OURS,
    # FastMCP's server tells of lists only.
    "fastmcp": {**_OURS, "listen": {**_OURS["listen"], "hears": ["tools"]}},
    "ts-v2": _OURS,
    "go": _OURS,
    "turnout": {**_OURS, "bulk": {"calls": 20, "sizes": [1 << 16, 3_000_000]}},
    "everything": _EVERYTHING,
}
"""What a client does in each case; see `clients/cases.py`."""
