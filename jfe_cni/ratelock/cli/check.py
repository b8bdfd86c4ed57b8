"""`ratelock check`: is it this password?"""

from __future__ import annotations

from typing import Any

import click

from jfe_cni.ratelock.cli import given
from jfe_cni.ratelock.cli.target import connected, target_options


@click.command()
@click.argument("name")
@click.option("--stdin", "from_stdin", is_flag=True, help="Read the password from standard input: its first line.")
@target_options
def check(name: str, from_stdin: bool, **target: Any) -> int:
    """Print whether NAME has the password given.

    Exit status: 0 true, 1 false, 2 the budget is spent, 3 it could not be asked.
    """
    password = given.password(from_stdin=from_stdin, confirmed=False)
    with connected("caller", **target) as service:
        valid = service.check(name, password)
    click.echo("true" if valid else "false")
    return 0 if valid else 1
