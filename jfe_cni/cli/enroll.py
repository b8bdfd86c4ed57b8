"""`jfe enroll`: a namespace, the namespace of a process, a systemd unit or a cgroup comes under cover."""

from __future__ import annotations

import asyncio
import ipaddress
from pathlib import Path

import click
from click.core import ParameterSource

from jfe_cni.agent.client import AgentClient, report_json
from jfe_cni.agent.objects import Enrolment, Mode, Network, Target, WorkloadSettings
from jfe_cni.agent.reports import RunningReport, WorkloadReport
from jfe_cni.cli.options import json_option, mode_option, ports_option, socket_option
from jfe_cni.cli.show import patience, print_json


class NetworkType(click.ParamType[Network]):
    """A network in CIDR notation."""

    name = "network"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Network:
        try:
            return ipaddress.ip_network(str(value))
        except ValueError as error:
            self.fail(f"{error}", param, ctx)


@click.command()
@click.option("--netns", metavar="PATH", help="A network namespace's file, as /run/netns/NAME.")
@click.option("--pid", metavar="PID", help="The network namespace of a process.")
@click.option("--unit", metavar="UNIT", help="A systemd unit, as nginx.service.")
@click.option("--cgroup", metavar="PATH", help="A cgroup, from the v2 root or absolute.")
@click.option("--all", "all_running", is_flag=True, help="Every pod that runs already, as its namespace asks for.")
@click.option("--name", help="What to call the workload (a-z, 0-9, -).")
@click.option("--identity", metavar="SPIFFE-ID", help="Instead of the one that follows from what is enrolled.")
@mode_option
@ports_option("--exclude-inbound-ports", "Ports that stay bare for all who call.")
@ports_option("--exclude-outbound-ports", "Ports to which it calls bare.")
@click.option(
    "--exclude-outbound-networks", type=NetworkType(), multiple=True, help="Networks to which it calls bare (CIDR)."
)
@ports_option("--application-tls-ports", "Ports whose application speaks TLS itself.")
@ports_option("--application-plaintext-ports", "Ports whose application does not.")
@ports_option("--await-hello-ports", "Ports that send a stranger nothing before its hello.")
@click.option(
    "--strangers-tls", is_flag=True, help="strict: terminate a stranger's TLS where the application has none."
)
@click.option("--no-verify-source", is_flag=True, help="A NAT lies between: do not hold a peer to its address.")
@socket_option
@json_option
def enroll(
    *,
    netns: str | None,
    pid: str | None,
    unit: str | None,
    cgroup: str | None,
    all_running: bool,
    name: str | None,
    identity: str | None,
    mode: Mode,
    exclude_inbound_ports: tuple[int, ...],
    exclude_outbound_ports: tuple[int, ...],
    exclude_outbound_networks: tuple[Network, ...],
    application_tls_ports: tuple[int, ...],
    application_plaintext_ports: tuple[int, ...],
    await_hello_ports: tuple[int, ...],
    strangers_tls: bool,
    no_verify_source: bool,
    socket: Path,
    as_json: bool,
) -> int:
    """Put a workload under cover: give one of --netns, --pid, --unit, --cgroup, --all.

    --all goes without the other options: pods' namespaces and annotations say how; exit status 1 if one could not be
    enrolled.
    """
    if all_running:
        _refuse_others_than("all_running", "socket", "as_json")
        return _show_running(asyncio.run(_enrol_running(socket)), as_json=as_json)
    enrolment = Enrolment(
        target=_target(netns=netns, pid=pid, unit=unit, cgroup=cgroup),
        mode=mode,
        name=name,
        identity=identity,
        settings=WorkloadSettings(
            excluded_inbound_ports=exclude_inbound_ports,
            excluded_outbound_ports=exclude_outbound_ports,
            excluded_outbound_networks=exclude_outbound_networks,
            application_tls_ports=application_tls_ports,
            application_plaintext_ports=application_plaintext_ports,
            await_hello_ports=await_hello_ports,
            strangers_tls=strangers_tls,
            verify_source=not no_verify_source,
        ),
    )
    report = asyncio.run(_enrol(socket, enrolment))
    if as_json:
        print_json(report_json(report))
    else:
        click.echo(f"{report.id} is {report.state} ({report.mode}) as {report.identity}")
    return 0


def _target(*, netns: str | None, pid: str | None, unit: str | None, cgroup: str | None) -> Target:
    given: list[Target] = []
    if netns is not None:
        # The agent has a working directory of its own: it gets a whole path.
        given.append(Target("netns", str(Path(netns).absolute())))
    if pid is not None:
        given.append(Target("pid", pid))
    if unit is not None:
        given.append(Target("unit", unit))
    if cgroup is not None:
        given.append(Target("cgroup", cgroup))
    if len(given) != 1:
        raise click.UsageError("Give exactly one of --netns, --pid, --unit, --cgroup, --all.")
    return given[0]


def _refuse_others_than(*names: str) -> None:
    context = click.get_current_context()
    for name in context.params:
        if name not in names and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(
                f"--all goes without {option}: namespaces and annotations say how pods are enrolled."
            )


def _show_running(report: RunningReport, *, as_json: bool) -> int:
    if as_json:
        print_json(report_json(report))
    else:
        click.echo(f"{len(report.enrolled)} enrolled, {len(report.let_through)} let through (mode off)")
        for failure in report.failed:
            click.echo(f"not enrolled: {failure}", err=True)
    return 1 if report.failed else 0


async def _enrol_running(socket: Path) -> RunningReport:
    async with AgentClient(socket) as agent, patience("enrolling the pods that run"):
        return await agent.enrol_running()


async def _enrol(socket: Path, enrolment: Enrolment) -> WorkloadReport:
    async with AgentClient(socket) as agent, patience(f"enrolling {enrolment.target.value}"):
        return await agent.enrol(enrolment)
