"""`ratelock token`: make, revoke, and the first one."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.cli import given
from jfe_cni.ratelock.cli.target import connected, target_options
from jfe_cni.ratelock.settings import SETTINGS, Settings
from jfe_cni.ratelock.store import Operation, Role
from jfe_cni.settings_flags import options_of, settings_given


@click.group()
def token() -> None:
    """Credentials: an owner's sets budgets and adds secrets, a caller's uses them."""


@token.command()
@click.argument("identity")
@click.option("--role", type=click.Choice(["caller", "owner"]), default="caller", show_default=True)
@click.option("--operation", "operations", multiple=True, help="May be given more than once; left out: all.")
@click.option("--secret", "secrets", multiple=True, default=["*"], show_default=True, help="A name, or a prefix and *.")
@click.option("--expires-in", default="30d", show_default=True, help="10s, 8h, 30d.")
@target_options
def make(
    identity: str,
    role: Role,
    operations: tuple[Operation, ...],
    secrets: tuple[str, ...],
    expires_in: str,
    **target: Any,
) -> None:
    """Make a token for IDENTITY, by which it is counted. It is shown this once; its digest revokes it."""
    seconds = given.duration(expires_in)
    with connected("owner", **target) as service:
        made = service.make_token(identity, role, operations or None, secrets, seconds)
    click.echo(made["token"])
    click.echo(f"digest {made['digest']}", err=True)


@token.command()
@click.argument("digest")
@target_options
def revoke(digest: str, **target: Any) -> None:
    """Revoke the token with this DIGEST (its SHA-256; the log has it, too)."""
    with connected("owner", **target) as service:
        service.revoke_token(digest)
    click.echo("revoked", err=True)


@token.command()
@options_of(SETTINGS)
def first(**given_flags: Any) -> None:
    """Make the first owner's token, on the service's own host, with the service's settings: of a store that is new.

    As long as no owner has done anything it may be asked for again: the one before is revoked.
    """
    click.echo(asyncio.run(_first(settings_given(SETTINGS, given_flags))))


async def _first(settings: Settings) -> str:
    from jfe_cni.ratelock.assembly import opened

    async with opened(settings) as assembled:
        made = await assembled.service.bootstrap(again=True)
    if made is None:
        raise RequestError("the store has an owner", remedy="ask an owner: ratelock token make --role owner")
    return made
