"""`ratelock lambda`: the service as a function of AWS Lambda."""

from __future__ import annotations

import json
from pathlib import Path

import click


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
