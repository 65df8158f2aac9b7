"""The server of a call, where no command is given: one of a configuration, or one that runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

import turnout
from turnout.gateway.configuration import read
from turnout.gateway.settings import ConfigError
from turnout.gateway.targets import target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from turnout.transports import Target

FORMS = "http://HOST:PORT/mcp, https://HOST:PORT/mcp, unix:PATH or tcp:HOST:PORT"


def configured(path: str, name: str | None, stderr: Callable[[str], object]) -> Target:
    """A server of a configuration.

    Args:
        path: of the file.
        name: of the server; None for the only one.
        stderr: takes what it writes there.

    Raises:
        click.UsageError: the file is wrong, or has no such server.

    """
    try:
        configuration = read(path, os.environ)
        names = list(configuration.servers)
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            asked = "say which server" if name is None else f"there is no server {name!r}"
            raise click.UsageError(f"{asked}: --server is one of {', '.join(names)}")
        return target_of(configuration, name, os.environ, stderr=stderr)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def running(url: str, headers: Sequence[str] = ()) -> Target:
    """A server that runs, such as a gateway.

    Args:
        url: of the server.
        headers: `NAME:VALUE`, for a URL of HTTP's; `$NAME` in a value is the variable's, so that no secret is typed.

    Raises:
        click.UsageError: the URL leads nowhere that turnout knows.

    """
    scheme, _, rest = url.partition(":")
    rest = rest.removeprefix("//")
    try:
        if scheme in ("http", "https"):
            return turnout.http(url, headers=dict(_header(header) for header in headers))
        if headers:
            raise click.UsageError("--header is for a URL of HTTP's")
        if scheme == "unix" and rest:
            return turnout.unix(rest)
        if scheme == "tcp":
            host, _, port = rest.rpartition(":")
            return turnout.tcp(host.strip("[]"), int(port))
    except ValueError as error:
        raise click.UsageError(f"--connect {url!r}: {error}") from error
    raise click.UsageError(f"--connect is {FORMS}, not {url!r}")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name:
        raise click.UsageError("--header takes NAME:VALUE")
    return name.strip(), os.path.expandvars(value.strip())


__all__ = ["configured", "running"]
