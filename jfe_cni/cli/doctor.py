"""`jfe doctor`: each thing that this host must offer, what is missing, and the line that mends it."""

from __future__ import annotations

import asyncio
import dataclasses

import click
from rich.text import Text

from jfe_cni.cli.host_offer import CHECKS, Finding
from jfe_cni.cli.options import json_option
from jfe_cni.cli.show import console, patience, print_json


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Check what kernel, nft, cgroups and capabilities offer.

    Rules are tried in throw-away namespaces; the host's own are never touched. Exit status 1 if something is missing
    that the agent needs.
    """
    findings = asyncio.run(_find())
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        _print(findings)
    return 0 if all(finding.ok for finding in findings if finding.needed) else 1


async def _find() -> list[Finding]:
    async with patience("trying what this host offers"):
        return [await check() for check in CHECKS]


def _print(findings: list[Finding]) -> None:
    shown = console()
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        sign = ("✔", "green") if finding.ok else ("✘", "red") if finding.needed else ("–", "yellow")
        shown.print(Text.assemble(sign, f" {finding.subject:{width}}  {finding.found}"), soft_wrap=True)
        if not finding.ok and finding.remedy:
            shown.print(Text.assemble(" " * (width + 4), ("→ " + finding.remedy, "bold")), soft_wrap=True)
    missing = [finding.subject for finding in findings if finding.needed and not finding.ok]
    shown.print()
    if missing:
        shown.print(Text(f"Missing: {', '.join(missing)}", style="red"), soft_wrap=True)
    else:
        shown.print("This host offers all that is needed.")
