"""`ratelock lambda`: the service as a function of AWS Lambda."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from jfe_cni.ratelock.cli.settings_options import given_settings, settings_options


@click.group("lambda")
def function() -> None:
    """Run the service as a function of AWS Lambda, with DynamoDB."""


@function.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("ratelock-lambda"),
    show_default=True,
    help="The folder to write to.",
)
def package(output: Path) -> None:
    """Make the zip, and the CloudFormation template with the function's policy and its callers'."""
    from jfe_cni.ratelock.serverless import package as packages
    from jfe_cni.ratelock.serverless.template import template

    described = template(*packages.runtime())
    output.mkdir(parents=True, exist_ok=True)
    packages.write(output / "ratelock.zip")
    (output / "template.json").write_text(json.dumps(described, indent=2) + "\n")
    click.echo(f"{output / 'ratelock.zip'}\n{output / 'template.json'}")


@function.command()
@settings_options
def bootstrap(**given_flags: Any) -> None:
    """Print the first owner's token of a store that nobody has used: for who deployed it, and holds table and key."""
    token = asyncio.run(_bootstrap(given_settings(given_flags)))
    if token is None:
        raise click.ClickException("the store has been used before: its owner makes tokens")
    click.echo(token)


async def _bootstrap(settings: Any) -> str | None:
    from jfe_cni.ratelock.assembly import opened

    async with opened(settings) as assembled:
        return await assembled.service.bootstrap()
