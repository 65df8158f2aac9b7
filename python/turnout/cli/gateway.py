"""`turnout gateway`: any servers of one configuration file behind one endpoint."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import TYPE_CHECKING, Any

import click

from turnout.cli.call import Seconds
from turnout.cli.exits import Exit
from turnout.cli.show import result_text
from turnout.gateway.admin import NOWHERE
from turnout.gateway.configuration import Admin, Listen, read, schema
from turnout.gateway.gateway import Ended, Gateway
from turnout.gateway.log import start_log
from turnout.gateway.plan import plan_of
from turnout.gateway.processes import Processes
from turnout.gateway.settings import ConfigError
from turnout.gateway.show import shown
from turnout.gateway.watch import MISSING, can_watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from turnout.gateway.plan import Plan

EXITS = {
    Ended.DRAINED: Exit.RESULT,
    Ended.AT_ONCE: Exit.TERMINATED,
    Ended.UNAVAILABLE: Exit.LOST,
    Ended.TOO_LONG: Exit.USAGE,
    Ended.UNREACHABLE: Exit.OTHER,
}

EPILOG = (
    "Signals: SIGTERM and SIGINT let finish what is in flight, a second one ends at once; SIGHUP reads CONFIG again. "
    "Exit codes: 0 ended as asked; 2 CONFIG or the command line is wrong; 4 a required server is not there; "
    "5 an address or a file could not be opened; 143 ended at once."
)


@click.command(epilog=EPILOG)
@click.argument("config", required=False)
@click.option(
    "--stdio", is_flag=True, help="Serve the client that started this process; the gateway ends with it."
)
@click.option(
    "--listen",
    "listens",
    multiple=True,
    metavar="URL",
    help="Where clients arrive, in the place of what CONFIG says: http:, http+unix:, unix: or tcp:. Any number.",
)
@click.option(
    "--watch/--no-watch",
    default=None,
    help="Read CONFIG again when it changes; by default where watchfiles is.",
)
@click.option(
    "--grace",
    type=Seconds(),
    default=None,
    help="Seconds that requests in flight have when it stops, in the place of what CONFIG says.",
)
@click.option(
    "--control",
    metavar="PATH",
    help="Where turnout top sees it, in the place of what CONFIG says; none for nowhere.",
)
@click.option(
    "--admin",
    metavar="URL",
    help="Where browsers see it, and probes and Prometheus come: such as http://127.0.0.1:8643.",
)
@click.option("--check", is_flag=True, help="Say what is wrong with CONFIG, and run nothing.")
@click.option(
    "--print", "prints", is_flag=True, help="Print what would run, without secrets, and run nothing."
)
@click.option("--schema", "prints_schema", is_flag=True, help="Print the JSON schema of CONFIG.")
@click.option("--verbose", "-v", is_flag=True, help="Log cancels, and what servers write to stderr.")
@click.pass_context
def gateway(
    ctx: click.Context,
    *,
    config: str | None,
    stdio: bool,
    listens: tuple[str, ...],
    watch: bool | None,
    grace: float | None,
    control: str | None,
    admin: str | None,
    check: bool,
    prints: bool,
    prints_schema: bool,
    verbose: bool,
) -> None:
    """Put the MCP servers of CONFIG behind one endpoint, for many clients at once.

    CONFIG is what Claude Desktop, Cursor and others call mcpServers, or VS Code's servers; turnout's own settings
    stand in it under the key turnout. Clients come to http://127.0.0.1:8642/mcp unless it says otherwise.

    \b
    Examples:
      turnout gateway mcp.json
      turnout gateway mcp.json --stdio
      turnout gateway mcp.json --listen unix:/run/turnout.sock
      turnout gateway mcp.json --check
    """  # noqa: D301 - click wants the character itself
    if prints_schema:
        click.echo(result_text(schema(), compact=False))
        return
    if config is None:
        raise click.UsageError("say which file: turnout gateway CONFIG")
    processes = Processes()
    given = tuple(Listen(url) for url in listens) or (() if stdio else None)

    def plan() -> Plan:
        configuration = read(config, os.environ)
        said: dict[str, Any] = {"grace": grace, "control": control and os.path.abspath(control)}
        if control == NOWHERE:
            said["control"] = NOWHERE
        if admin is not None:
            known = configuration.options.admin
            said["admin"] = Admin(admin, known.token if known is not None else "")
        said = {name: value for name, value in said.items() if value is not None}
        options = dataclasses.replace(configuration.options, **said)
        configuration = dataclasses.replace(configuration, options=options)
        return plan_of(configuration, processes.marks, os.environ, given)

    try:
        first = plan()
    except ConfigError as error:
        click.echo(f"turnout: {error}", err=True)
        ctx.exit(Exit.USAGE)
    if prints:
        click.echo(shown(first))
    if check:
        click.echo(f"{config}: {len(first.upstreams)} servers, nothing wrong", err=True)
    if prints or check:
        return
    start_log(verbose=verbose)
    if watch and not can_watch():
        click.echo(f"turnout: {MISSING}", err=True)
        ctx.exit(Exit.USAGE)
    ended = asyncio.run(_run(first, plan, processes, stdio=stdio, watch=watch))
    ctx.exit(EXITS[ended])


async def _run(
    first: Plan, plan: Callable[[], Plan], processes: Processes, *, stdio: bool, watch: bool | None
) -> Ended:
    return await Gateway(first, plan, processes, stdio=stdio, watch=watch).run()
