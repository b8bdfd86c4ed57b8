"""`overflowd keys`: the keys that sign."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from jfe_cni.overflowd.notices import keys as key_rings

KEY_FILE = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/var/lib/overflowd/keys.json"),
    show_default=True,
    envvar="OVERFLOWD_KEY_FILE",
    show_envvar=True,
)


@click.group()
def keys() -> None:
    """Show the keys that sign notices, or rotate them."""


@keys.command()
@KEY_FILE
def show(key_file: Path) -> None:
    """Print what is published of them: a JWK set. Makes a key where there is none."""
    _print(key_rings.read_or_make(key_file))


@keys.command()
@KEY_FILE
def rotate(key_file: Path) -> None:
    """Make a new key, which signs from now on. The former one stays published for 30 days; of more than seven former
    ones the oldest go early, for receivers believe nobody who publishes more."""
    _print(key_rings.rotate(key_file, int(time.time())))


def _print(ring: key_rings.KeyRing) -> None:
    click.echo(json.dumps(ring.published(int(time.time())), indent=2))
