"""What a configuration file says: servers as hosts write them, and turnout's own settings under the key `turnout`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnout import HTTP_LIMITS, LIMITS
from turnout.escape import escaped
from turnout.gateway.document import DocumentError, Value, parse
from turnout.gateway.settings import (
    SECONDS,
    SECONDS_OR_NEVER,
    ConfigError,
    Either,
    Flag,
    Many,
    Number,
    Reading,
    Schema,
    Section,
    Table,
    Text,
    members_of,
    setting,
    unknown,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

MAX_BYTES = 4 << 20
"""Bytes of the longest configuration file."""

MAX_NAME = 64
"""Characters of the longest name of a server."""

DEFAULT_LISTEN = "http://127.0.0.1:8642/mcp"

SCHEMA_URL = "https://json-schema.org/draft/2020-12/schema"

MAX_IN_FLIGHT = "max_in_flight"
"""A limit of the relay's, beside those of connections and of HTTP's."""

MAX_REQUEST_RATE = "max_request_rate"
"""Another one."""

HOST_KEYS = frozenset({
    "$schema", "inputs", "globalShortcut", "preferences", "scale", "theme", "userThemeMode", "projects", "permissions",
    "isUsingBuiltInNodeForMcp", "allowedMcpServers", "deniedMcpServers", "sandbox", "coworkUserFilesPath",
})  # fmt: skip
"""Keys that hosts have beside their servers."""

HOST_SERVER_KEYS = frozenset({
    "$schema", "alwaysAllow", "autoApprove", "autoStart", "autostart", "auth", "chatMenu", "description", "dev",
    "disabled", "disabledTools", "displayName", "enabled", "gallery", "iconPath", "icon", "id", "initTimeout", "oauth",
    "name", "sandbox", "sandboxEnabled", "serverInstructions", "source", "startup", "timeout", "tools", "trust",
    "version",
})  # fmt: skip
"""Keys that hosts have within a server, and that mean nothing here."""

TYPES = {
    "stdio": "stdio",
    "http": "http",
    "streamable-http": "http",
    "streamableHttp": "http",
    "streamable_http": "http",
    "sse": "sse",
}
"""What hosts call the ways to a server."""

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ToolFilter:
    """Which tools of a server clients may use, and so are shown; `*` and `?` stand for any characters."""

    allow: tuple[str, ...] | None = setting(Many(Text()), "the only tools that may be used", None)
    deny: tuple[str, ...] = setting(Many(Text()), "tools that may not be used, allowed or not", ())


@dataclass(frozen=True)
class Restart:
    """When a lost connection to a server is made again."""

    initial_delay: float = setting(SECONDS, "seconds before the second attempt", 0.1)
    max_delay: float = setting(SECONDS, "seconds that the pause between two attempts grows to", 30.0)
    reset_after: float = setting(SECONDS, "seconds after which a connection counts as having worked", 10.0)


@dataclass(frozen=True)
class ServerOptions:
    """What turnout does with a server; said at the top it holds for all that say nothing else."""

    sharing: str = setting(
        Text(choices=("shared", "per_client", "per_principal", "pooled")), "how clients share it", "shared"
    )
    pool: int = setting(Number(least=1, most=1000, whole=True), "connections of a pooled server", 4)
    prefix: str | None = setting(
        Text(empty=True, pattern=r"[A-Za-z0-9_.-]{0,32}", what="up to 32 of A-Z, a-z, 0-9, _, - and ."),
        "what the names of its tools and prompts begin with; 'never' and '' for nothing; without it the name of the "
        "server and _ where there are several servers",
        None,
    )
    tools: ToolFilter = setting(Section(ToolFilter), "which of its tools may be used", ToolFilter())
    timeout: float | None = setting(
        SECONDS_OR_NEVER, "seconds without an answer or progress after which a request ends", 60.0
    )
    max_timeout: float | None = setting(
        SECONDS_OR_NEVER, "seconds after which a request ends whatever the progress", 3600.0
    )
    max_in_flight: int | None = setting(
        Number(least=1, most=1 << 30, whole=True), "most requests in flight to it", None
    )
    open_timeout: float = setting(SECONDS, "seconds to start and open it", 60.0)
    required: bool = setting(Flag(), "whether the gateway does not start without it", default=False)
    era: str = setting(
        Text(choices=("auto", "legacy", "modern")),
        "how it is opened: found out, by handshake, or without",
        "auto",
    )
    restart: Restart | None = setting(
        Either(Flag(), Section(Restart), lambda restarts: Restart() if restarts else None),
        "when a lost connection is made again; false for never",
        Restart(),
    )


@dataclass(frozen=True)
class Server:
    """A server, as hosts write it."""

    command: str = setting(Text(), "the program to start", "")
    args: tuple[str, ...] = setting(Many(Text(empty=True)), "its arguments", ())
    env: Pairs = setting(
        Table(Text(empty=True)), "its environment, beside the few variables that all get", (), secret=True
    )
    cwd: str = setting(Text(), "its working directory, from that of this file", "")
    url: str = setting(
        Text(pattern=r"https?://[^\s]+", what="an http or https URL"), "where it is reached", ""
    )
    headers: Pairs = setting(
        Table(Text(empty=True)), "headers that go with every request to it", (), secret=True
    )
    type: str = setting(Text(choices=tuple(TYPES)), "the way to it; without it what command or url say", "")
    turnout: ServerOptions = setting(Section(ServerOptions), "what turnout does with it", ServerOptions())


@dataclass(frozen=True)
class Listen:
    """A place where clients arrive."""

    url: str = setting(Text(), "http:, https:, http+unix:, unix: or tcp:, and the address")
    cert: str = setting(Text(), "file of the certificates for https", "")
    key: str = setting(Text(), "file of their private key; without it in the same file", "")
    client_ca: str = setting(Text(), "file of the authorities whose certificates clients must have", "")
    hosts: tuple[str, ...] | None = setting(Many(Text()), "the names that it is asked by", None)
    origins: tuple[str, ...] = setting(Many(Text()), "origins whose pages may ask", ())
    cors: bool = setting(Flag(), "whether browsers are told so", default=False)
    proxies: tuple[str, ...] = setting(Many(Text()), "proxies in front whose X-Forwarded-For is believed", ())
    allow_anonymous: bool = setting(
        Flag(), "whether everybody who reaches it may use it, also from other machines", default=False
    )


@dataclass(frozen=True)
class Token:
    """A bearer token, and whose it is."""

    principal: str = setting(Text(), "whose it is")
    token: str = setting(Text(), "the token, best as ${VARIABLE}", "", secret=True)
    sha256: str = setting(
        Text(pattern="[0-9a-fA-F]{64}", what="64 hexadecimal digits"),
        "its SHA-256 instead, in hexadecimal",
        "",
    )


@dataclass(frozen=True)
class Auth:
    """Who may use the gateway over HTTP."""

    tokens: tuple[Token, ...] = setting(Many(Section(Token)), "tokens", ())
    file: str = setting(Text(), "file of more, a line each: the principal, and sha256: with the digits", "")
    servers: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        Table(Many(Text())), "the servers that a principal may use; one that is not named may use all", ()
    )


@dataclass(frozen=True)
class Admin:
    """An address for browsers and probes."""

    url: str = setting(Text(), "http, and the address")
    token: str = setting(
        Text(pattern="[!-~]+", what="printable characters of ASCII, and no space"),
        "what is asked for, best as ${VARIABLE}; without it one is made",
        "",
        secret=True,
    )


@dataclass(frozen=True)
class Telemetry:
    """What OpenTelemetry is told; the address for browsers has a page for Prometheus."""

    opentelemetry: bool = setting(
        Flag(), "whether spans and metrics go to the SDK that is set up", default=False
    )
    metrics: bool = setting(Flag(), "whether metrics go there, beside spans", default=True)
    sample: float = setting(
        Number(most=1), "the share of traces that have spans, of those that begin here", 1.0
    )


@dataclass(frozen=True)
class RecordFile:
    """Where the records of finished requests go, as JSON lines."""

    path: str = setting(Text(), "of the file, from the directory of this one")
    max_bytes: int = setting(
        Number(least=4096, most=1 << 40, whole=True), "bytes after which another is begun", 64 << 20
    )
    keep: int = setting(Number(least=0, most=1000, whole=True), "older files that are kept", 5)


@dataclass(frozen=True)
class Options(ServerOptions):
    """Turnout's own settings at the top."""

    listen: tuple[Listen, ...] | None = setting(
        Many(Either(Text(), Section(Listen), Listen)),
        f"where clients arrive; without it {DEFAULT_LISTEN}",
        None,
    )
    auth: Auth | None = setting(
        Section(Auth), "who may use it over HTTP; without it everybody on this machine", None
    )
    grace: float = setting(
        Number(most=86400),
        "seconds that requests in flight have to end when it stops or a server is removed",
        10.0,
    )
    control: str = setting(
        Text(), "path of the socket for turnout top; none for none; without it one that turnout top finds", ""
    )
    admin: Admin | None = setting(
        Either(Text(), Section(Admin), Admin),
        "an address for browsers and probes, such as http://127.0.0.1:8643",
        None,
    )
    telemetry: Telemetry | None = setting(Section(Telemetry), "what OpenTelemetry is told", None)
    records: RecordFile | None = setting(
        Either(Text(), Section(RecordFile), RecordFile), "where the records of finished requests go", None
    )
    limits: tuple[tuple[str, int], ...] = setting(
        Table(
            Number(whole=True, most=1 << 62),
            frozenset({*LIMITS, *HTTP_LIMITS, MAX_IN_FLIGHT, MAX_REQUEST_RATE}),
        ),
        "limits by name, as in turnout.LIMITS and turnout.HTTP_LIMITS, max_in_flight, and max_request_rate: requests "
        "of a principal in a second",
        (),
    )


@dataclass(frozen=True)
class Configuration:
    """A whole file.

    Attributes:
        path: of the file.
        servers: by their names.
        lines: where each stands.
        options: turnout's own.
        line: where those stand; None where the file has none.
        ignored: keys of hosts that mean nothing here, with their lines.

    """

    path: Path
    servers: dict[str, Server]
    lines: dict[str, int]
    options: Options
    line: int | None
    ignored: tuple[tuple[int, str], ...]

    def error(self, message: str, server: str | None = None, key: str = "turnout") -> ConfigError:
        """What is wrong with a server, or with turnout's own settings."""
        if server is not None:
            return ConfigError(self.path, self.lines[server], server, message)
        return ConfigError(self.path, self.line, key if self.line is not None else "", message)

    def beside(self, path: str) -> Path:
        """A path that the file says, from the file's own directory."""
        return self.path.absolute().parent / path


def read(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Configuration:
    """Read a file.

    Args:
        path: of the file.
        environ: the variables that it may name.

    Raises:
        ConfigError: there is something wrong with it.

    """
    where = Path(path)
    try:
        with where.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(where, None, "", error.strerror or str(error)) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(where, None, "", f"the file is longer than {MAX_BYTES} bytes")
    return interpret(where, data, environ)


def interpret(path: Path, data: bytes, environ: Mapping[str, str]) -> Configuration:
    """Make a configuration of what a file has.

    Raises:
        ConfigError: there is something wrong with it.

    """
    try:
        document = parse(data)
    except DocumentError as error:
        raise ConfigError(path, error.line, "", str(error)) from error
    reading = Reading(path, environ)
    root = members_of(document, "", reading)
    known = {"mcpServers", "servers", "turnout"}
    for key, value in root.items():
        if key in HOST_KEYS:
            if key != "$schema":
                reading.ignored.append((value.line, key))
        elif key not in known:
            raise unknown(value, key, key, known, reading)
    own = root.get("turnout")
    options: Options = Options() if own is None else Section(Options).read(own, "turnout", reading)
    if own is not None and options.prefix not in (None, "never"):
        raise ConfigError(
            path, own.line, "turnout.prefix", "at the top it is 'never'; other prefixes are a server's own"
        )
    servers, lines = _servers(root, document, options, reading)
    line = None if own is None else own.line
    return Configuration(path, servers, lines, options, line, tuple(reading.ignored))


def _servers(
    root: dict[str, Value], document: Value, options: Options, reading: Reading
) -> tuple[dict[str, Server], dict[str, int]]:
    given = [key for key in ("mcpServers", "servers") if key in root]
    if len(given) != 1:
        also = "there are both; keep one of them" if given else "there is none"
        raise reading.error(document, "", f"the servers stand under mcpServers or servers, and {also}")
    section = root[given[0]]
    base = ServerOptions(**{name: getattr(options, name) for name in ServerOptions.__dataclass_fields__})
    servers: dict[str, Server] = {}
    lines: dict[str, int] = {}
    for name, value in members_of(section, given[0], reading).items():
        key = f"{given[0]}.{name}"
        if not name.strip() or len(name) > MAX_NAME or escaped(name, None) != name:
            raise reading.error(value, key, f"a name of a server has 1 to {MAX_NAME} printable characters")
        servers[name] = _server(value, key, base, reading)
        lines[name] = value.line
    if not servers:
        raise reading.error(section, given[0], "names no server")
    return servers, lines


def _server(value: Value, key: str, base: ServerOptions, reading: Reading) -> Server:
    members = members_of(value, key, reading)
    own = members.get("turnout")
    rest = Value({each: member for each, member in members.items() if each != "turnout"}, value.line)
    server: Server = Section(Server, HOST_SERVER_KEYS).read(rest, key, reading)
    options = base if own is None else Section(ServerOptions, base=base).read(own, f"{key}.turnout", reading)
    way = TYPES.get(server.type) or ("http" if server.url else "stdio")
    if way == "sse":
        raise reading.error(
            members["type"],
            f"{key}.type",
            "the transport sse of 2024-11-05 is not spoken; give the URL for http",
        )
    needed, other = ("command", "url") if way == "stdio" else ("url", "command")
    if not getattr(server, needed):
        raise reading.error(
            value, key, f"{needed} is missing" if server.type else "command or url is missing"
        )
    if getattr(server, other):
        raise reading.error(members[other], f"{key}.{other}", f"a server with {needed} has no {other}")
    strangers = ("headers",) if way == "stdio" else ("args", "env", "cwd")
    for each in strangers:
        if getattr(server, each):
            raise reading.error(members[each], f"{key}.{each}", f"a server with {needed} has no {each}")
    for variable, _ in server.env:
        if not variable or "=" in variable or "\0" in variable:
            raise reading.error(members["env"], f"{key}.env", "a variable has a name without =")
    return replace(server, type=way, turnout=options)


def schema() -> Schema:
    """The JSON schema of a configuration file, for editors."""
    server = Table(Section(Server, HOST_SERVER_KEYS)).schema()
    properties: dict[str, Any] = {
        "mcpServers": {
            "description": "the servers, as Claude Desktop, Cursor and others write them",
            **server,
        },
        "servers": {"description": "the servers, as VS Code writes them", **server},
        "turnout": {"description": "turnout's own settings", **Section(Options).schema()},
        **{name: {"description": "not looked at"} for name in sorted(HOST_KEYS)},
    }
    return {
        "$schema": SCHEMA_URL,
        "title": "turnout gateway",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "oneOf": [{"required": ["mcpServers"]}, {"required": ["servers"]}],
    }


__all__ = [
    "DEFAULT_LISTEN",
    "MAX_IN_FLIGHT",
    "MAX_REQUEST_RATE",
    "Admin",
    "Auth",
    "Configuration",
    "Listen",
    "Options",
    "RecordFile",
    "Server",
    "ServerOptions",
    "Telemetry",
    "ToolFilter",
    "interpret",
    "read",
    "schema",
]
