"""`ratelock budget`: show, set and remove."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import click

from jfe_cni.ratelock.budgets import MeterKind
from jfe_cni.ratelock.cli import given
from jfe_cni.ratelock.cli.target import connected, target_options

_KIND = click.Choice(["all", "caller", "class", "secret"])


@click.group()
def budget() -> None:
    """Limits over sliding windows: of all attempts, and per caller, class of secrets, secret."""


@budget.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@target_options
def list_budgets(as_json: bool, **target: Any) -> None:
    """Show the budgets that were set. A secret that has none has three attempts in ten seconds."""
    with connected("owner", **target) as service:
        budgets = service.budgets()
    if as_json:
        click.echo(json.dumps(budgets, indent=2))
        return
    for each in budgets:
        click.echo(f"{each['kind']:8}{each['name'] or '–':24}{_told(each)}")


@budget.command("set")
@click.argument("kind", type=_KIND)
@click.argument("name", required=False)
@click.argument("limits")
@click.option(
    "--loosening-delay", default="0s", show_default=True, help="How long a change that lets more through waits."
)
@target_options
def set_budget(kind: MeterKind, name: str | None, limits: str, loosening_delay: str, **target: Any) -> None:
    """Set the budget of KIND NAME (or of all) to LIMITS, which hold at once: 3/10s, or 1/1s,1000/1d."""
    meter, wanted = given.meter(kind, name), given.budget(limits, loosening_delay)
    with connected("owner", **target) as service:
        stored = service.set_budget(meter, wanted)
    click.echo("no budget" if stored is None else _told(stored))


@budget.command("remove")
@click.argument("kind", type=_KIND)
@click.argument("name", required=False)
@target_options
def remove_budget(kind: MeterKind, name: str | None, **target: Any) -> None:
    """Remove the budget of KIND NAME (or of all), after its own loosening delay."""
    meter = given.meter(kind, name)
    with connected("owner", **target) as service:
        stored = service.set_budget(meter, None)
    click.echo("no budget" if stored is None else _told(stored))


def _told(stored: Mapping[str, Any]) -> str:
    text = _limits(stored["budget"])
    if stored["pending_from"] is None:
        return text
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(stored["pending_from"]))
    return f"{text}; from {at}: {'none' if stored['pending'] is None else _limits(stored['pending'])}"


def _limits(budget: Mapping[str, Any]) -> str:
    limits = ", ".join(f"{each['count']} in {each['window']:g} s" for each in budget["limits"])
    delay = budget["loosening_delay"]
    return f"{limits}; loosens after {delay:g} s" if delay else limits
