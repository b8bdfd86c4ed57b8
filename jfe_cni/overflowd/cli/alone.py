"""`overflowd alone`: who is told no more, and who is again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import TYPE_CHECKING

import click

from jfe_cni.errors import RequestError

if TYPE_CHECKING:
    from jfe_cni.overflowd.delivery.optouts import LeftAlone

STATE = click.option(
    "--state",
    default="sqlite:////var/lib/overflowd/state.db",
    show_default=True,
    envvar="OVERFLOWD_STATE",
    show_envvar=True,
    help="Of `overflowd run`.",
)


@click.group()
def alone() -> None:
    """Those that are left alone: they asked to be, or could not be reached."""


@alone.command("list")
@STATE
def list_all(state: str) -> None:
    """A line each: the network, why, until when, and the key that asked."""
    for each in asyncio.run(_all(state)):
        until = "lifted" if each.until is None else datetime.fromtimestamp(each.until / 1e6, UTC).isoformat()
        click.echo(" ".join([str(each.network), each.cause.value, f"until {until}", each.key or ""]).rstrip())


@alone.command()
@click.argument("network")
@STATE
def lift(network: str, state: str) -> None:
    """Tell NETWORK again, as `list` names it."""
    asyncio.run(_lift(network, state))


async def _all(state: str) -> list[LeftAlone]:
    from jfe_cni.overflowd.delivery.database import open_database
    from jfe_cni.overflowd.delivery.optouts import LeavingAlone

    async with open_database(state) as database:
        return await LeavingAlone(database).all()


async def _lift(named: str, state: str) -> None:
    from jfe_cni.overflowd.delivery.database import open_database
    from jfe_cni.overflowd.delivery.optouts import LeavingAlone

    try:
        network = ip_network(named)
    except ValueError as error:
        raise RequestError(f"{named} is no network", "write it as `overflowd alone list` does") from error
    async with open_database(state) as database:
        if not await LeavingAlone(database).lift(network):
            raise RequestError(f"{network} is not left alone", "see `overflowd alone list`")
