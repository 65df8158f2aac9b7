"""How a server of a configuration is reached: a child process in its own environment, or a URL with its headers."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import turnout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from turnout.gateway.configuration import Configuration, Server
    from turnout.transports import Target

HANDED_ON = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")
"""Variables of ours that servers get, too; the others may be secrets of other servers."""


def target_of(
    configuration: Configuration,
    name: str,
    environ: Mapping[str, str],
    *,
    variables: Mapping[str, str] | None = None,
    stderr: Callable[[str], object] | None = None,
) -> Target:
    """The target of a server.

    Args:
        configuration: that has it.
        name: of the server.
        environ: our environment, of which a process gets a little.
        variables: others that a process gets; None for none.
        stderr: what is called with each line that a process writes there; None for the log.

    Raises:
        ConfigError: it cannot be run, or reached.

    """
    server = configuration.servers[name]
    if server.type == "stdio":
        return _child(configuration, name, server, {**environ}, dict(variables or {}), stderr)
    try:
        return turnout.http(server.url, headers=dict(server.headers))
    except ValueError as error:
        raise configuration.error(str(error), name) from error


def _child(
    configuration: Configuration,
    name: str,
    server: Server,
    environ: Mapping[str, str],
    variables: Mapping[str, str],
    stderr: Callable[[str], object] | None,
) -> Target:
    cwd = configuration.beside(os.path.expanduser(server.cwd)) if server.cwd else None
    if cwd is not None and not cwd.is_dir():
        raise configuration.error(
            f"there is no directory {getattr(server.cwd, 'source', server.cwd)!r}", name
        )
    env = {key: environ[key] for key in HANDED_ON if key in environ}
    env |= dict(server.env)
    found = shutil.which(server.command, path=env.get("PATH"))
    if found is None and not (cwd is not None and (cwd / server.command).is_file()):
        command = getattr(server.command, "source", server.command)
        raise configuration.error(f"there is no program {command!r}", name)
    return turnout.stdio(
        server.command, *server.args, env={**env, **variables}, cwd=cwd, name=name, stderr=stderr
    )


__all__ = ["HANDED_ON", "target_of"]
