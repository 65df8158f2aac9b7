"""The differences between direct and through the relay that are expected, each with its reason.

`make test-interop` fails for a difference that no entry covers, and for an entry that a place it names does not
show. The first entry that covers a difference counts.
"""

from compare import ABSENT, Expected

NEW_CLIENTS = ("official-auto", "fastmcp", "ts-v2-auto", "go-auto")
OLD_CLIENTS = ("official-legacy", "ts-v1", "ts-v2-legacy", "go-legacy")
OLD_SERVERS = ("official-legacy", "everything")
BOTH_ERAS = ("official", "fastmcp", "ts-v2", "go")
"""Servers of both eras: what clients share is of the newest revision, unless `era=` says otherwise."""

SHARED = ("stdio-shared", "unix-shared", "http-shared", "stdio-to-http-shared", "http-to-http-shared")
ALL_SHARED = (*SHARED, "unix-shared-legacy")

# ---- a client of the newest revision before a server of the old ones ----

TRANSLATED = (
    Expected(
        path=("opening.version",),
        relayed=('"2026-07-28"',),
        reason="The relay speaks the client's revision, whatever its server speaks; directly, the client falls back.",
        clients=NEW_CLIENTS,
        servers=OLD_SERVERS,
    ),
    Expected(
        path=("*.resultType",),
        relayed=('"complete"',),
        reason="The newest revision demands it in every result; the server's own results have none.",
        clients=("official-auto", "fastmcp", "go-auto"),  # the other one takes it out
        servers=OLD_SERVERS,
    ),
    Expected(
        path=("*.ttlMs", "*.cacheScope"),
        relayed=("0", '"private"'),
        reason="The newest revision demands both in lists and reads; what the relay makes up keeps nobody's answer.",
        clients=NEW_CLIENTS,
        servers=OLD_SERVERS,
    ),
    Expected(
        path=("listen.honored.*",),
        relayed=("true", '["mem://note"]', '["demo://resource/static/document/features.md"]'),
        reason="A client of the newest revision listens, and is told what it will hear of; directly, it subscribes.",
        clients=("official-auto", "fastmcp", "ts-v2-auto"),
        servers=OLD_SERVERS,
    ),
    Expected(
        path=("opening.capabilities.tasks", "tools.list.tools.*.execution"),
        relayed=(ABSENT,),
        reason="The tasks of 2025-11-25 are no part of the newest revision, which has an extension for them.",
        clients=("official-auto", "fastmcp", "ts-v2-auto"),
        servers=("everything",),
    ),
)

# ---- a server of both eras that is opened in the other one than the client would ----

NOT_MINE = (
    Expected(
        path=("*._meta",),
        relayed=("{}",),
        reason="The relay takes the newest revision's keys out for a client of an old one; what they stood in stays.",
        clients=("official-legacy", "ts-v1", "ts-v2-legacy"),  # the other one takes it out
        servers=BOTH_ERAS,
        ways=SHARED,
    ),
    Expected(
        path=("*.cacheScope",),
        relayed=('"private"',),
        reason="A server of one client's own may answer for that client alone; a cache before the relay cannot know.",
        clients=NEW_CLIENTS,
        servers=("go",),
        ways=("*-per-client",),
    ),
    Expected(
        path=("*.ttlMs", "*.cacheScope"),
        relayed=(ABSENT, '""'),
        reason="Go's server says both in every revision; the relay takes them out where they mean nothing.",
        clients=("ts-v1", "ts-v2-legacy", "go-legacy"),  # the other one takes them out
        servers=("go",),
        ways=SHARED,
    ),
    Expected(
        path=("opening.capabilities.*.listChanged",),
        relayed=("true", "false", ABSENT),
        reason="The server declares otherwise in each era, and its connection is of another one than the client's.",
        clients=OLD_CLIENTS,
        servers=("official", "fastmcp"),
        ways=SHARED,
    ),
    Expected(
        path=("opening.capabilities.extensions",),
        relayed=('{"io.modelcontextprotocol/ui": {}}',),
        reason="FastMCP declares it in the newest revision only, of which the shared connection is.",
        clients=OLD_CLIENTS,
        servers=("fastmcp",),
        ways=SHARED,
    ),
    Expected(
        path=("prompts.invalid.*", "prompts.unknown.*"),
        relayed=("-32603", '"Internal server error"'),
        reason="The SDK's server hides what is wrong in the newest revision, of which the shared connection is.",
        clients=OLD_CLIENTS,
        servers=("official",),
        ways=SHARED,
    ),
    Expected(
        path=("opening.capabilities.*", "listen.honored.toolsListChanged"),
        relayed=("true", "false", ABSENT),
        reason="`era=` has the server opened in an old revision, in which it declares otherwise.",
        clients=NEW_CLIENTS,
        servers=("official", "fastmcp"),
        ways=("unix-shared-legacy",),
    ),
    Expected(
        path=("listen.heard",),
        relayed=('["mem://note"]',),
        reason="In an old revision the SDK's server does not declare that it tells of tools: nobody can listen for it.",
        clients=NEW_CLIENTS,
        servers=("official",),
        ways=("unix-shared-legacy",),
    ),
    Expected(
        path=("listen",),
        relayed=('{"heard": ["tools"]*',),
        reason="FastMCP has no listen in the newest revision; opened in an old one, it tells of tools unasked.",
        clients=("official-auto", "fastmcp", "ts-v2-auto"),
        servers=("fastmcp",),
        ways=("unix-shared-legacy",),
    ),
    Expected(
        path=("prompts.invalid.*", "prompts.unknown.*"),
        relayed=("0", '"Missing required arguments*', '"Unknown prompt*'),
        reason="`era=` has the server opened in an old revision, in which it says what is wrong.",
        clients=NEW_CLIENTS,
        servers=("official",),
        ways=("unix-shared-legacy",),
    ),
    Expected(
        path=("*._meta", "*._meta.io.modelcontextprotocol/serverInfo"),
        relayed=(ABSENT,),
        reason="`era=` has the server opened in an old revision, in which results do not say whose they are.",
        clients=NEW_CLIENTS,
        servers=BOTH_ERAS,
        ways=("unix-shared-legacy",),
    ),
    Expected(
        path=("*.cacheScope",),
        relayed=('"private"',),
        reason="Go's server calls its lists public in every revision; in an old one that means nothing to the relay.",
        clients=NEW_CLIENTS,
        servers=("go",),
        ways=("unix-shared-legacy",),
    ),
    Expected(
        path=("listen.heard",),
        relayed=("[]",),
        reason="FastMCP tells of tools outside of any listen, which the newest revision forbids: nobody can be told.",
        clients=("go-auto",),  # the others do not get that far
        servers=("fastmcp",),
        ways=("*-shared", "*-per-client"),
    ),
)

# ---- what nobody could answer: a server that clients share does not know whom it asks ----

REFUSED = (
    '{"error": -32021, "message": "Client did not declare *',
    '{"error": 0, "message": "multi-round-trip: fulfilling input request * client does not support elicitation"}',
    '{"error": -32601, "message": "method not found: *',
    '"Cannot request input * the client on this 2025-era connection did not declare the required capability"',
    '"Error calling tool * this server is shared, so its requests belong to no client"',
    "true",  # isError
    "[]",  # nothing was asked
)

UNASKED = (
    Expected(
        path=("elicitation.*", "sampling.*"),
        relayed=(*REFUSED, "*MCP error -32602: Tool trigger-*-request not found*"),
        reason="A server of an old revision that clients share is opened without elicitation and sampling: it could"
        " not say whom it asks. `per_client` has both.",
        servers=OLD_SERVERS,
        ways=ALL_SHARED,
    ),
    Expected(
        path=("elicitation.*", "sampling.*"),
        relayed=REFUSED,
        reason="Likewise where `era=` has it opened in an old revision; in the newest one a result says what it needs.",
        servers=BOTH_ERAS,
        ways=("unix-shared-legacy",),
    ),
    Expected(
        path=("elicitation.*", "sampling.*"),
        relayed=('{"error": -32601, "message": "Method not found: this server is shared, *', "[]"),
        reason="Likewise; this server does not look at what was declared before it asks, and the relay refuses it.",
        servers=("turnout",),
        ways=("unix-shared-legacy",),
    ),
    Expected(
        path=("tools.list.tools.trigger-*", "tools.list.tools.get-roots-list"),
        relayed=(ABSENT,),
        reason="The server offers these tools to clients only that declare elicitation, sampling or roots.",
        servers=("everything",),
        ways=ALL_SHARED,
    ),
)

# ---- what is Streamable HTTP's ----

HTTP = (
    Expected(
        path=("listen.refused.*",),
        relayed=('"CLIENT_HTTP_NOT_IMPLEMENTED"', '"Error POSTing to endpoint: *"code*-32601*'),
        reason="A method that is not there is 404 in the newest revision; this client reads no error in that.",
        clients=("ts-v2-auto",),
        servers=("fastmcp",),
        ways=("http-shared", "http-per-client"),
    ),
    Expected(
        path=("listen.refused.*",),
        relayed=("-32601", '"Method not found"'),
        reason="Likewise the other way round: this client reads the error where the relay says it over stdio.",
        clients=("ts-v2-auto",),
        servers=("fastmcp",),
        ways=("stdio-to-http-*",),
    ),
    Expected(
        path=("listen.heard",),
        relayed=('["mem://note"]',),
        reason="In an old revision the SDK's server over HTTP does not declare that it tells of tools, and tells of"
        " them all the same: a client that subscribes hears it, and nobody can listen for it.",
        clients=NEW_CLIENTS,
        servers=("official-legacy",),
        ways=("*-to-http-*",),
    ),
    Expected(
        path=("tools.list.tools.trigger-*", "tools.list.tools.get-roots-list"),
        relayed=(ABSENT, "{*"),
        reason="Clients of the newest revision have no session: those of one address are one client, for whom the"
        " server was opened with what the first of them declared.",
        clients=("go-auto",),
        servers=("everything",),
        ways=("http-per-client",),
    ),
    Expected(
        path=("listen.heard",),
        relayed=("[]",),
        reason="Go's server tells the newest listen of a connection only, and nobody after that ended. The session that"
        " the SDK's v1 client left, which ends none, has one.",
        clients=("ts-v2-legacy", "go-legacy"),
        servers=("go",),
        ways=("http-shared",),
    ),
)

EXPECTED: tuple[Expected, ...] = (*TRANSLATED, *UNASKED, *NOT_MINE, *HTTP)
