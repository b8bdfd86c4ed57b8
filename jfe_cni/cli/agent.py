"""`jfe agent`: the daemon of a node, in the foreground (systemd or a container keeps it)."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Literal

import click

from jfe_cni.agent.ca_address import CaAddress, CaCredentials
from jfe_cni.agent.settings import DEFAULT_STATE_DIR, MOST_WORKERS, Settings, node_name
from jfe_cni.cli.options import socket_option
from jfe_cni.cni.references import DEFAULT_CACHE_DIR
from jfe_cni.errors import RequestError
from jfe_cni.rules.model import DEFAULT_MARK_BIT, DEFAULT_TABLE


class Endpoint(click.ParamType[tuple[str, int]]):
    """`ADDRESS:PORT`, an IPv6 address in brackets."""

    name = "address:port"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        address, colon, port = str(value).rpartition(":")
        address = address.removeprefix("[").removesuffix("]")
        if not colon or not address or not port.isdigit() or not 1 <= int(port) <= 65535:
            self.fail(f"{value!r} is no ADDRESS:PORT", param, ctx)
        return address, int(port)


class Number(click.ParamType[int]):
    """A whole number, decimal or with 0x."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else int(str(value), 0)
        except ValueError:
            self.fail(f"{value!r} is no whole number", param, ctx)


class Authority(click.ParamType[CaAddress]):
    """An authority behind ratelock."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> CaAddress:
        try:
            return value if isinstance(value, CaAddress) else CaAddress.parse(str(value))
        except RequestError as error:
            self.fail(str(error), param, ctx)


_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_STATE_DIR,
    show_default=True,
    help="Identities, the authority, what is enrolled; root only.",
)
@socket_option
@click.option(
    "--node",
    default=node_name,
    envvar="JFE_NODE",
    show_default="this host's name",
    show_envvar=True,
    help="This node, in identities and cgroups.",
)
@click.option(
    "--trust-domain",
    default=Settings.trust_domain,
    envvar="JFE_TRUST_DOMAIN",
    show_default=True,
    show_envvar=True,
    help="Shared by all peers.",
)
@click.option(
    "--authority-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The authority's folder, where another than STATE_DIR/authority.",
)
@click.option(
    "--ca",
    type=Authority(),
    help="An authority behind ratelock instead: ratelock://HOST:PORT/NAME, or ratelock+unix://%2FPATH/NAME.",
)
@click.option(
    "--ca-token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="This node's token for it; or the environment's JFE_CA_TOKEN.",
)
@click.option("--ca-certificate", type=_FILE, help="PEM file of this node's certificate for it, instead of a token.")
@click.option("--ca-key", type=_FILE, help="PEM file of the certificate's key.")
@click.option("--ca-roots", type=_FILE, help="PEM file of the roots that ratelock's own certificate comes from.")
@click.option(
    "--directory",
    "directory_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file of peers: JSON, TOML or one network a line; looked at each second.",
)
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), help="Of the upgrader; default: one a CPU.")
@click.option("--metrics", "metrics_listen", type=Endpoint(), help="Serve Prometheus there, over TCP.")
@click.option(
    "--flows-to",
    type=Endpoint(),
    metavar="HOST:PORT",
    help="Tell the node's own flows there, as IPFIX over UDP; for instance to overflowd.",
)
@click.option(
    "--flows-every",
    type=click.FloatRange(0.1, 3600),
    default=Settings.flows_every,
    show_default=True,
    help="Seconds from one slice of a long flow to the next.",
)
@click.option(
    "--flows-conntrack",
    type=click.Choice(["off", "read", "account"]),
    default=Settings.flows_conntrack,
    show_default=True,
    help="Flows that the upgrader does not relay. read: where conntrack counts them. account: it is made to, by "
    "net.netfilter.nf_conntrack_acct of the agent's namespace.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--log-connections", is_flag=True, help="One log line for each connection that ends.")
@click.option(
    "--on-exit",
    type=click.Choice(["keep", "remove"]),
    default="keep",
    show_default=True,
    help="keep: the cover stays for the next agent. remove: everything is released.",
)
@click.option(
    "--cni-namespaces",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What each Kubernetes namespace asks for and allows: TOML or JSON. With it the agent awaits an authority that "
    "can't be used yet, and meanwhile lets pods of mode off start.",
)
@click.option(
    "--cni-cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_CACHE_DIR,
    show_default=True,
    help="Where libcni keeps a record of what it has added.",
)
@click.option("--enroll-running", is_flag=True, help="Enrol pods that run already, as `jfe enroll --all` does.")
@click.option("--mark", type=Number(), default=hex(DEFAULT_MARK_BIT), show_default=True, help="One bit of marks.")
@click.option("--table", type=Number(), default=DEFAULT_TABLE, show_default=True, help="Routing table.")
@click.option(
    "--upgrader", type=click.Path(path_type=Path, dir_okay=False), help="Another jfe-upgrader than the installed one."
)
def agent(
    *,
    state_dir: Path,
    socket: Path,
    node: str,
    trust_domain: str,
    authority_dir: Path | None,
    ca: CaAddress | None,
    ca_token_file: Path | None,
    ca_certificate: Path | None,
    ca_key: Path | None,
    ca_roots: Path | None,
    directory_file: Path | None,
    workers: int | None,
    metrics_listen: tuple[str, int] | None,
    flows_to: tuple[str, int] | None,
    flows_every: float,
    flows_conntrack: Literal["off", "read", "account"],
    log_format: Literal["text", "json"],
    log_connections: bool,
    on_exit: Literal["keep", "remove"],
    cni_namespaces: Path | None,
    cni_cache_dir: Path,
    enroll_running: bool,
    mark: int,
    table: int,
    upgrader: Path | None,
) -> None:
    """Run this node's agent until SIGTERM.

    It enrols and releases workloads, loads rules, signs identities, and starts and feeds the upgrader. Connections
    never pass through it: it can be restarted under traffic.
    """
    settings = Settings(
        state_dir=state_dir.absolute(),
        socket=socket.absolute(),
        node=node,
        trust_domain=trust_domain,
        authority_dir=_absolute(authority_dir),
        ca=ca,
        ca_credentials=CaCredentials(
            token_file=_absolute(ca_token_file),
            # No option: whoever lists processes would read it. Nor is the upgrader to inherit it.
            token=os.environ.pop("JFE_CA_TOKEN", None),
            certificate=_absolute(ca_certificate),
            key=_absolute(ca_key),
            roots=_absolute(ca_roots),
        ),
        directory_file=_absolute(directory_file),
        mark=mark,
        table=table,
        workers=workers,
        metrics_listen=metrics_listen,
        flows_to=flows_to,
        flows_every=flows_every,
        flows_conntrack=flows_conntrack,
        upgrader=_absolute(upgrader),
        log_format=log_format,
        log_connections=log_connections,
        on_exit=on_exit,
        wait_for_authority=cni_namespaces is not None or ca is not None,
    )
    # The daemon's imports (netlink, TLS, HTTP server) would slow every other verb.
    from jfe_cni.agent import log
    from jfe_cni.agent.daemon import run
    from jfe_cni.cni.namespaces_file import NamespacesFile
    from jfe_cni.cni.service import CniService
    from jfe_cni.identity.spiffe import TrustDomain

    logger = log.configure(log_format)
    cni = CniService(
        NamespacesFile(_absolute(cni_namespaces), settings.state_dir / "namespaces.json", logger),
        TrustDomain.parse(trust_domain),
        cni_cache_dir.absolute(),
        logger,
        enrol_running=enroll_running,
    )
    asyncio.run(run(settings, [cni]))


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()
