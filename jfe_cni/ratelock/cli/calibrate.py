"""`ratelock calibrate`: what a password may cost on this machine."""

from __future__ import annotations

import click


@click.command()
@click.option("--milliseconds", type=click.FloatRange(1), default=250.0, show_default=True, help="Of one check.")
def calibrate(milliseconds: float) -> None:
    """Measure Argon2id here, and print the settings by which checking a password takes as long as is told, and no less
    than RFC 9106 recommends. They are for all replicas alike, so measure on the slowest.
    """
    from jfe_cni.ratelock.secrets import password

    cost = password.calibrate(milliseconds / 1000)
    for name, value in (("memory", cost.memory), ("iterations", cost.iterations), ("lanes", cost.lanes)):
        click.echo(f"password_{name} = {value}")
