"""Two throw-away hosts: network namespaces with a link between them, made and taken away."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.errors import HostError

# RFC 2544 set these apart for tests between devices: no network that a person is in has them.
CLIENT_ADDRESS = ipaddress.IPv4Address("198.18.5.2")
SERVER_ADDRESS = ipaddress.IPv4Address("198.18.5.9")
PREFIX = 24
# Both hosts' only link is called as on a real host.
LINK = "eth0"
NAMESPACES = Path("/run/netns")


@dataclass(frozen=True)
class Host:
    """`name` is that of its namespace and its node; `folder` holds its agent's state, root only."""

    name: str
    address: ipaddress.IPv4Address
    folder: Path

    @property
    def namespace(self) -> Path:
        return NAMESPACES / self.name

    @property
    def socket(self) -> Path:
        return self.folder / "agent.sock"

    def command(self, *command: str) -> tuple[str, ...]:
        """`command` in this host. Only the network is another: `ip netns exec` would hide the cgroups."""
        return ("nsenter", f"--net={self.namespace}", "--", *command)


@contextlib.asynccontextmanager
async def two_hosts(demo: str, folder: Path) -> AsyncIterator[tuple[Host, Host]]:
    """(client, server), joined by a link; gone at the end. HostError where this host can't make them."""
    client = Host(f"{demo}-client", CLIENT_ADDRESS, folder / "client")
    server = Host(f"{demo}-server", SERVER_ADDRESS, folder / "server")
    hosts = (client, server)
    try:
        for host in hosts:
            host.folder.mkdir(mode=0o700)
            await ip("netns", "add", host.name)
        await ip(
            *("link", "add", LINK, "netns", client.name, "type", "veth"),
            *("peer", "name", LINK, "netns", server.name),
        )
        for host in hosts:
            await ip("-netns", host.name, "link", "set", "lo", "up")
            await ip("-netns", host.name, "address", "add", f"{host.address}/{PREFIX}", "dev", LINK)
            await ip("-netns", host.name, "link", "set", LINK, "up")
        yield client, server
    finally:
        # The link ends with the namespaces.
        for host in hosts:
            if host.namespace.exists():
                await ip("netns", "delete", host.name)


async def ip(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        "ip",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    if process.returncode != 0:
        raise HostError(
            f"`ip {' '.join(arguments)}` failed: {printed.decode(errors='replace').strip()}",
            remedy="run as root; `jfe doctor` tells what this host lacks",
        )
