"""`ratelock release`: fields of a record."""

from __future__ import annotations

import json
from typing import Any

import click

from jfe_cni.ratelock.cli.target import connected, target_options


@click.command()
@click.argument("name")
@click.argument("fields", nargs=-1, required=True)
@target_options
def release(name: str, fields: tuple[str, ...], **target: Any) -> None:
    """Print those of the FIELDS that the record NAME has, as JSON. One attempt, however many."""
    with connected("caller", **target) as service:
        released = service.release(name, fields)
    click.echo(json.dumps(released, indent=2, ensure_ascii=False))
