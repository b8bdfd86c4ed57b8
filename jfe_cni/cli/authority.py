"""`jfe ca`: the authority that signs this node's identities, and its rotation under traffic."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from jfe_cni.agent.client import AgentClient, report_json
from jfe_cni.agent.reports import AuthorityReport
from jfe_cni.cli.options import json_option, socket_option
from jfe_cni.cli.show import console, moment, patience, print_json, print_table

PHASES = {
    "single": "one root, trusted and signing",
    "introduced": "a second root is trusted; when every agent that shares the folder shows it, `jfe ca rotate switch`",
    "switched": "the second root signs; when every certificate is renewed, `jfe ca rotate retire`",
    "remote": "its key is in ratelock, which also rotates it: `ratelock ca rotate`",
}


@click.group()
def ca() -> None:
    """Show or rotate the authority that signs identities."""


@ca.command()
@socket_option
@json_option
def show(socket: Path, as_json: bool) -> None:
    """Show its roots and where a rotation stands."""
    _print(asyncio.run(_ask(socket)), as_json)


@ca.command()
@socket_option
def bundle(socket: Path) -> None:
    """Print the trust bundle (PEM): the roots that a peer's certificate may come from."""
    click.echo(asyncio.run(_ask(socket)).trust_bundle, nl=False)


@ca.command()
@click.argument("step", type=click.Choice(["begin", "switch", "retire"]))
@socket_option
@json_option
def rotate(socket: Path, step: str, as_json: bool) -> None:
    """Take the next STEP of a rotation: begin, switch, retire.

    begin: a second root is made and trusted; switch: it signs; retire: the first is trusted no longer. No connection
    is dropped by it, so long as each step has reached every peer before the next.
    """
    _print(asyncio.run(_rotate(socket, step)), as_json)


async def _ask(socket: Path) -> AuthorityReport:
    async with AgentClient(socket) as agent:
        return await agent.authority()


async def _rotate(socket: Path, step: str) -> AuthorityReport:
    async with AgentClient(socket) as agent, patience(f"rotation, step {step}"):
        return await agent.rotate(step)


def _print(report: AuthorityReport, as_json: bool) -> None:
    if as_json:
        print_json(report_json(report))
        return
    console().print(f"trust domain {report.trust_domain}: {PHASES.get(report.phase, report.phase)}", soft_wrap=True)
    rows = [
        (root.subject, "yes" if root.signs else "no", moment(root.not_before), moment(root.not_after), root.fingerprint)
        for root in report.roots
    ]
    print_table("", ("root", "signs", "from", "until", "SHA-256"), rows)
