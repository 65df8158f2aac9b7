"""What a configuration comes to, as a person reads it: `--print`, with no secret in it."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from turnout.gateway.variables import MASK, Expanded
from turnout.indented import indented

if TYPE_CHECKING:
    from turnout.gateway.plan import Plan

_SECRET_FLAG = re.compile(
    r"--?[\w-]*(?:key|token|secret|passw|auth|credential)[\w-]*(?P<value>=.*)?", re.IGNORECASE | re.DOTALL
)


def shown(plan: Plan) -> str:
    """The whole plan as JSON: strings with variables as they stand in the file, and secrets masked."""
    configuration = plan.configuration
    namings = {naming.server: naming for naming in plan.namings}
    servers = {
        name: {**_section(server), "turnout": {**_section(server.turnout), "prefix": namings[name].names}}
        for name, server in configuration.servers.items()
    }
    own = _section(configuration.options)
    own["listen"] = [face.name for face in plan.faces]
    if plan.tokens is not None:
        own["auth"]["principals"] = [principal.subject for principal in plan.tokens.principals]
    told: dict[str, Any] = {"mcpServers": servers, "turnout": own}
    if configuration.ignored:
        told["ignored"] = [f"{configuration.path}:{line}: {key}" for line, key in configuration.ignored]
    return indented(told)


def _section(section: Any) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for each in dataclasses.fields(section):
        value = getattr(section, each.name)
        if each.metadata["secret"] and value:
            told[each.name] = {name: MASK for name, _ in value} if isinstance(value, tuple) else MASK
        elif each.name == "args":
            told[each.name] = _arguments(value)
        elif each.name == "turnout" or value in ("", ()):
            continue
        elif each.name == "url" and not isinstance(value, Expanded):
            told[each.name] = _url(value)
        else:
            told[each.name] = _value(value)
    return told


def _value(value: Any) -> Any:
    if isinstance(value, Expanded):
        return value.source
    if dataclasses.is_dataclass(value):
        return _section(value)
    if isinstance(value, tuple):
        if value and all(isinstance(each, tuple) and len(each) == 2 for each in value):
            return {name: _value(each) for name, each in value}
        return [_value(each) for each in value]
    return value


def _arguments(arguments: tuple[str, ...]) -> list[str]:
    """Arguments without the values of flags that sound like secrets."""
    told: list[str] = []
    masked = False
    for argument in arguments:
        found = _SECRET_FLAG.fullmatch(argument)
        if masked and not isinstance(argument, Expanded):
            told.append(MASK)
        elif found is not None and found["value"] and not isinstance(argument, Expanded):
            told.append(argument[: found.start("value") + 1] + MASK)
        else:
            told.append(_value(argument))
        masked = found is not None and not found["value"]
    return told


def _url(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")
    netloc = f"{MASK}@{host[2]}" if host[0] else parts.netloc
    return parts._replace(netloc=netloc, query=MASK if parts.query else "").geturl()


__all__ = ["shown"]
