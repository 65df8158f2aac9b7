"""`turnout top`: what is in flight behind gateways, live; or once, as JSON."""

from __future__ import annotations

import asyncio
import os

import click

from turnout.cli.exits import Exit
from turnout.cli.show import result_text
from turnout.control.client import ControlError
from turnout.top.sources import NoGatewayError, found, once

TOKEN_VARIABLE = "TURNOUT_ADMIN_TOKEN"  # noqa: S105 - its name

MISSING = "turnout top needs textual: pip install 'turnout[top]', or say --once"


@click.command()
@click.argument("where", nargs=-1)
@click.option("--once", "is_once", is_flag=True, help="Tell what is in flight now, and end.")
@click.option("--json", "as_json", is_flag=True, help="With --once: everything that is known, as JSON.")
@click.pass_context
def top(ctx: click.Context, *, where: tuple[str, ...], is_once: bool, as_json: bool) -> None:
    """Show what is in flight behind the gateways at WHERE, and cancel it by a key.

    WHERE is the path of a control socket, or the URL of a gateway's --admin, for which the token stands in
    TURNOUT_ADMIN_TOKEN; any number, shown together. Without it: all gateways of our own user.

    \b
    Examples:
      turnout top
      turnout top --once --json
      turnout top http://127.0.0.1:8643
    """  # noqa: D301 - click wants the character itself
    if as_json and not is_once:
        raise click.UsageError("--json goes with --once")
    token = os.environ.get(TOKEN_VARIABLE)
    try:
        places = found(where)
    except NoGatewayError as error:
        click.echo(f"turnout: {error}", err=True)
        ctx.exit(Exit.LOST)
    if is_once:
        ctx.exit(_tell_once(places, token, as_json=as_json))
    try:
        from turnout.top.app import Top  # noqa: PLC0415 - an extra
    except ImportError:
        click.echo(f"turnout: {MISSING}", err=True)
        ctx.exit(Exit.USAGE)
    try:
        app = Top(places, token)
    except ControlError as error:
        raise click.UsageError(str(error)) from error
    app.run()


def _tell_once(places: list[str], token: str | None, *, as_json: bool) -> Exit:
    told = asyncio.run(once(places, token))
    missing = [each["error"] for each in told if "error" in each]
    if as_json:
        click.echo(result_text({"gateways": told}, compact=False))
    else:
        from turnout.top.once import print_table  # noqa: PLC0415

        print_table(told)
    for why in missing:
        click.echo(f"turnout: {why}", err=True)
    return Exit.LOST if missing else Exit.RESULT
