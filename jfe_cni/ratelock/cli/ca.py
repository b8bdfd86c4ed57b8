"""`ratelock ca`: an authority's roots, and their rotation."""

from __future__ import annotations

from typing import Any

import click

from jfe_cni.ratelock.cli.target import connected, target_options


@click.group()
def ca() -> None:
    """Authorities, which `ratelock add NAME --authority TRUST_DOMAIN` makes."""


@ca.command()
@click.argument("name")
@target_options
def bundle(name: str, **target: Any) -> None:
    """Print the trust bundle (PEM) of the authority NAME, as a caller who may certify with it."""
    with connected("caller", **target) as service:
        click.echo(service.trust_bundle(name), nl=False)


@ca.command()
@click.argument("name")
@click.argument("step", type=click.Choice(["begin", "switch", "retire"]))
@target_options
def rotate(name: str, step: str, **target: Any) -> None:
    """Take the next STEP of the rotation of the authority NAME; prints the trust bundle.

    begin: a second root is made and trusted; switch: it signs; retire: the first is trusted no longer. Agents see each
    step within a minute, and renew what is due by it: wait for that, and for all of them, between the steps.
    """
    with connected("owner", **target) as service:
        click.echo(service.rotate_authority(name, step), nl=False)
