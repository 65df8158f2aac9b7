"""What a configuration becomes, checked before anything runs: upstreams, each principal's routes, faces, tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import turnout
from turnout import HTTP_LIMITS, Principal, RestartPolicy, Route, Tools, Upstream
from turnout._native import memory_usage, set_max_total_bytes
from turnout.gateway.admin import address_of
from turnout.gateway.configuration import MAX_IN_FLIGHT, MAX_REQUEST_RATE
from turnout.gateway.faces import faces_of
from turnout.gateway.reaper import VARIABLE
from turnout.gateway.targets import target_of
from turnout.gateway.telemetry import MISSING_OTEL, has_otel
from turnout.gateway.tokens import read_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from turnout.gateway.configuration import Configuration, Listen, Server
    from turnout.gateway.faces import Face
    from turnout.gateway.processes import Marks
    from turnout.gateway.tokens import Tokens
    from turnout.relay import Sharing

MARK = VARIABLE
"""The variable by which every process that a server starts is found again."""

LOCAL = Principal("local", issuer="turnout gateway")
"""Whoever comes where no tokens are asked for, while principals differ in what they may use."""


@dataclass(frozen=True)
class Naming:
    """What the names of one server begin with.

    Attributes:
        server: its name.
        names: the prefix of its tools and prompts; empty for none.
        uris: the prefix of its resources; empty for none.

    """

    server: str
    names: str
    uris: str


@dataclass(frozen=True)
class Plan:
    """What is to run.

    Attributes:
        configuration: what it was made of.
        upstreams: the servers.
        routes: which requests of whom go where.
        namings: what names begin with, the longest prefix first.
        faces: where clients arrive.
        tokens: what lets them in; None where everybody is.
        marks: what is found in the environment of the processes of each server.

    """

    configuration: Configuration
    upstreams: tuple[Upstream, ...]
    routes: tuple[Route, ...]
    namings: tuple[Naming, ...]
    faces: tuple[Face, ...]
    tokens: Tokens | None
    marks: dict[str, str]

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it was read from."""
        auth = self.configuration.options.auth
        others = [self.configuration.beside(auth.file)] if auth is not None and auth.file else []
        return (self.configuration.path, *others)

    @property
    def limits(self) -> dict[str, int]:
        """Limits of connections, by name."""
        other = {*HTTP_LIMITS, MAX_IN_FLIGHT, MAX_REQUEST_RATE}
        return {name: value for name, value in self.configuration.options.limits if name not in other}

    @property
    def max_in_flight(self) -> int:
        """Most requests of all clients in flight to all servers."""
        return dict(self.configuration.options.limits).get(MAX_IN_FLIGHT, 1 << 20)

    @property
    def max_request_rate(self) -> int | None:
        """Most requests of a principal in a second; None for any number."""
        return dict(self.configuration.options.limits).get(MAX_REQUEST_RATE)

    @property
    def restricts(self) -> bool:
        """Whether principals differ in what they may use."""
        auth = self.configuration.options.auth
        return auth is not None and bool(auth.servers)

    def relay(self, router: turnout.Router) -> turnout.Relay:
        """Make the relay.

        Raises:
            ValueError: there is something wrong with it.

        """
        return router.relay(
            *self.upstreams,
            routes=self.routes,
            max_in_flight=self.max_in_flight,
            max_request_rate=self.max_request_rate,
        )

    def principal_of(self, known: object) -> object:
        """On whose behalf a client is attached that came with a principal, or with None."""
        return known if known is not None or not self.restricts else LOCAL

    def admits(self, principal: object, *, over_http: bool, before: Plan) -> bool:
        """Whether a client may stay that came while another plan ran.

        Args:
            principal: who it is, by a token; None where none was asked for.
            over_http: whether it came over HTTP.
            before: the plan by which it came.

        """
        if principal is not None:
            return self.tokens is not None and principal in self.tokens.principals
        if over_http and self.tokens is not None:
            return False
        # It was attached on nobody's behalf, and so no route would be for it.
        return before.restricts or not self.restricts


def plan_of(
    configuration: Configuration,
    marks: Marks,
    environ: Mapping[str, str],
    listens: tuple[Listen, ...] | None = None,
) -> Plan:
    """Make a plan.

    Args:
        configuration: what is to run.
        marks: the marks of its processes.
        environ: our environment, of which servers get a little.
        listens: faces in the place of those of the configuration; None for those.

    Raises:
        ConfigError: it cannot be run.

    """
    namings = _namings(configuration)
    tokens = read_tokens(configuration)
    marked = {name: marks.of(name, server) for name, server in configuration.servers.items()}
    upstreams = tuple(
        _upstream(configuration, name, server, marked[name], environ)
        for name, server in configuration.servers.items()
    )
    routes = tuple(_routes(configuration, namings, tokens))
    faces = faces_of(configuration, listens)
    plan = Plan(configuration, upstreams, routes, namings, faces, tokens, marked)
    _check(plan)
    return plan


def _namings(configuration: Configuration) -> tuple[Naming, ...]:
    several = len(configuration.servers) > 1
    namings: dict[str, Naming] = {}
    for name, server in configuration.servers.items():
        prefix = server.turnout.prefix
        if prefix is None:
            prefix = f"{re.sub('[^A-Za-z0-9_-]+', '_', name)}_" if several else ""
        elif prefix == "never":
            prefix = ""
        other = namings.setdefault(prefix, Naming(name, prefix, _uri_prefix(prefix)))
        if other.server != name:
            begin = f"begin with {prefix!r}" if prefix else "begin with nothing"
            raise configuration.error(
                f"its names would {begin}, as those of {other.server!r}; give it a prefix under turnout", name
            )
    by_uri: dict[str, Naming] = {}
    for naming in namings.values():
        other = by_uri.setdefault(naming.uris, naming)
        if other is not naming:
            raise configuration.error(
                f"its resources would begin with {naming.uris!r}, as those of {other.server!r}; "
                "give it a prefix under turnout",
                naming.server,
            )
    return tuple(sorted(namings.values(), key=lambda naming: -len(naming.names)))


def _uri_prefix(prefix: str) -> str:
    """A prefix of URIs that leaves them URIs: `github+file:///x` for the prefix `github_`."""
    if not prefix:
        return ""
    scheme = re.sub("[^a-z0-9.-]+", "-", prefix.lower()).rstrip("-.")
    return f"{scheme}+" if scheme[:1].isalpha() else f"s{scheme}+"


def _routes(configuration: Configuration, namings: tuple[Naming, ...], tokens: Tokens | None) -> list[Route]:
    auth = configuration.options.auth
    tools = {name: _tools(server) for name, server in configuration.servers.items()}
    if auth is None or not auth.servers or tokens is None:
        return [route for naming in namings for route in _routes_to(naming, None, tools[naming.server])]
    allowed = dict(auth.servers)
    everybody: list[tuple[Principal, tuple[str, ...] | None]] = [(LOCAL, None)]
    everybody += [(principal, allowed.get(principal.subject)) for principal in tokens.principals]
    return [
        route
        for principal, servers in everybody
        for naming in namings
        if servers is None or naming.server in servers
        for route in _routes_to(naming, principal, tools[naming.server])
    ]


def _tools(server: Server) -> Tools | None:
    """Which tools of a server may be used; None for all."""
    said = server.turnout.tools
    return None if said.allow is None and not said.deny else Tools(said.allow, said.deny)


def _routes_to(naming: Naming, principal: Principal | None, tools: Tools | None) -> list[Route]:
    if not naming.names:
        return [Route(naming.server, principal=principal, tools=tools)]
    prefixes = (
        ("tools/call", naming.names, tools),
        ("prompts/get", naming.names, None),
        ("resources/read", naming.uris, None),
    )
    return [
        Route(naming.server, method, prefix, strip=True, principal=principal, tools=taken)
        for method, prefix, taken in prefixes
    ]


def _upstream(
    configuration: Configuration, name: str, server: Server, mark: str, environ: Mapping[str, str]
) -> Upstream:
    options = server.turnout
    restart = options.restart
    target = target_of(configuration, name, environ, variables={MARK: mark})
    try:
        return Upstream(
            target,
            name=name,
            sharing=cast("Sharing", options.sharing),
            pool=options.pool,
            era=cast("Any", options.era),
            timeout=options.timeout,
            max_timeout=options.max_timeout,
            open_timeout=options.open_timeout,
            max_in_flight=options.max_in_flight,
            restart=None if restart is None else RestartPolicy(**vars(restart)),
        )
    except ValueError as error:
        raise configuration.error(str(error), name) from error


def _check(plan: Plan) -> None:
    """Make, once, all that runs, so that what the parts refuse is refused before anything does."""
    configuration = plan.configuration
    telemetry = configuration.options.telemetry
    if telemetry is not None and telemetry.opentelemetry and not has_otel():
        raise configuration.error(MISSING_OTEL, key="turnout.telemetry")
    most = memory_usage()["max_total_bytes"]
    try:
        router = turnout.Router(limits=plan.limits)
        plan.relay(router)
    except (ValueError, TypeError, OverflowError) as error:
        raise configuration.error(str(error)) from error
    finally:
        # The bound of the process is that of what runs, not of what may never do.
        set_max_total_bytes(most)
    address_of(configuration)
    for face in plan.faces:
        _check_face(configuration, face)


def _check_face(configuration: Configuration, face: Face) -> None:
    try:
        face.listener(lambda head: Principal("nobody"), face.tls())  # noqa: ARG005
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise configuration.error(f"{face.name}: {error}", key="turnout.listen") from error


__all__ = ["LOCAL", "MARK", "Naming", "Plan", "plan_of"]
