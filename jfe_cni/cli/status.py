"""`jfe status`: the node, its workloads, and what is wrong with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click
from rich.text import Text

from jfe_cni.agent.client import AgentClient, report_json
from jfe_cni.agent.reports import PassedReport, StatusReport, WorkloadReport
from jfe_cni.cli.options import json_option, socket_option
from jfe_cni.cli.show import console, moment, patience, print_json, print_table


@click.command()
@socket_option
@json_option
def status(socket: Path, as_json: bool) -> int:
    """Show the agent, the upgrader and every workload.

    Exit status 1 if the agent knows of trouble, its own or a workload's.
    """
    report = asyncio.run(_ask(socket))
    if as_json:
        print_json(report_json(report))
    else:
        _print(report)
    return 1 if in_trouble(report) else 0


def in_trouble(report: StatusReport) -> bool:
    """Whether something is wrong with the node or one of its workloads."""
    return bool(report.troubles) or any(each.trouble or _rules_changed(each) for each in report.workloads)


async def _ask(socket: Path) -> StatusReport:
    async with AgentClient(socket) as agent, patience("asking the agent"):
        return await agent.status()


def _print(report: StatusReport) -> None:
    upgrader = f"process {report.upgrader_pid}" if report.upgrader_pid else "not running"
    if report.upgrader_pid and not report.upgrader_connected:
        upgrader += ", does not answer"
    rows = [
        ("node", report.node),
        ("trust domain", report.trust_domain),
        ("agent", f"process {report.agent_pid}, version {report.version}"),
        ("upgrader", f"{upgrader}, {report.upgrader_restarts} restarts"),
        ("rules", "proven to match" if report.rules_proven else "not proven: nothing counts as covered"),
        ("directory", f"{report.directory_entries} entries"),
        ("authority until", moment(report.authority_expires)),
    ]
    shown = console()
    for name, text in rows:
        shown.print(f"{name:16}{text}")
    for trouble in report.troubles:
        shown.print(Text(f"trouble         {trouble}", style="red"))
    shown.print()
    if report.workloads:
        print_table(
            "",
            ("workload", "mode", "state", "identity", "of", "certificate until", "remarks"),
            [_row(workload) for workload in report.workloads],
        )
    else:
        shown.print("No workloads. Enrol one with `jfe enroll` or `jfe run`.")


def _passed(passed: Iterable[PassedReport]) -> list[str]:
    packets: Counter[str] = Counter()
    for each in passed:
        packets[each.protocol] += each.packets
    names = {"other": "other protocols"}
    return [
        f"{count:,} packets of {names.get(protocol, protocol.upper())}" for protocol, count in sorted(packets.items())
    ]


def _rules_changed(workload: WorkloadReport) -> bool:
    """One that is on its way in or out, or away, has no rules that could be whole."""
    return not workload.rules_whole and workload.state not in ("enrolling", "absent", "releasing")


def _row(workload: WorkloadReport) -> tuple[str | Text, ...]:
    remarks = []
    pod = workload.pod
    if workload.ran_bare:
        remarks.append("ran bare until it was enrolled")
    if workload.trouble:
        remarks.append(workload.trouble)
    if _rules_changed(workload):
        remarks.append("its rules were changed")
    if workload.bare:
        remarks.append(f"{len(workload.bare)} connections still bare")
    if workload.passed:
        remarks.append("passed uncovered: " + ", ".join(_passed(workload.passed)))
    if workload.hazards:
        remarks.append("could step round the rules by " + ", ".join(workload.hazards))
    return (
        workload.id,
        workload.mode,
        Text(workload.state, style="green" if workload.state == "covered" else "yellow"),
        workload.identity,
        f"{workload.target_kind} {workload.target}" if pod is None else f"pod {pod.namespace}/{pod.name}",
        moment(workload.certificate_expires),
        "; ".join(remarks) or "–",
    )
