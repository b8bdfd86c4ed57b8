"""`ratelock add`: a password, a record, a key or an authority."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.cli import given
from jfe_cni.ratelock.cli.target import connected, target_options


@click.command()
@click.argument("name")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from standard input: its first line.")
@click.option(
    "--record", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A record: a JSON object of texts."
)
@click.option("--key", "algorithm", metavar="ALGORITHM", help="A key, made by the service; prints its public half.")
@click.option(
    "--authority",
    "trust_domain",
    metavar="TRUST_DOMAIN",
    help="A key that certifies workloads of this trust domain, made by the service; prints its trust bundle.",
)
@click.option("--class", "secret_class", default="", help="The class by which it is counted, too.")
@target_options
def add(
    *,
    name: str,
    from_stdin: bool,
    record: Path | None,
    algorithm: str | None,
    trust_domain: str | None,
    secret_class: str,
    **target: Any,
) -> None:
    """Add a secret called NAME: a password, unless --record, --key or --authority says otherwise."""
    if (record is not None) + (algorithm is not None) + (trust_domain is not None) + from_stdin > 1:
        raise click.UsageError("choose one of --stdin, --record, --key and --authority")
    with connected("owner", **target) as service:
        if record is not None:
            service.add_record(name, _read_record(record), secret_class)
        elif algorithm is not None:
            public = service.add_key(name, algorithm, secret_class)
            click.echo(public or "", nl=False)
        elif trust_domain is not None:
            click.echo(service.add_authority(name, trust_domain, secret_class), nl=False)
        else:
            service.add_password(name, given.password(from_stdin=from_stdin, confirmed=True), secret_class)
    click.echo(f"{name} added", err=True)


def _read_record(path: Path) -> dict[str, str]:
    """Raises RequestError."""
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the record in {path} can't be read: {error}", remedy="give a JSON object of texts"
        ) from error
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise RequestError(f"{path} has no record", remedy="give a JSON object of texts")
    return fields
