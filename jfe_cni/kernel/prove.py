"""Proof that the rules do on this host what they say, made in a throw-away namespace before anything is covered."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from functools import partial

from jfe_cni.errors import HostError, KernelError, RuleMatchError
from jfe_cni.kernel import routing
from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup, check_cgroup_namespace
from jfe_cni.kernel.namespace import Namespace, fresh_namespace, run_inside
from jfe_cni.kernel.nft import Nft
from jfe_cni.rules.model import Exemption, Mark, Mode, NamespaceIntent
from jfe_cni.rules.namespace import namespace_ruleset
from jfe_cni.rules.probe import probe_ruleset

PROBE = """
import socket, sys
if sys.argv[1]:
    open(sys.argv[1], "w").write("0")
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[2])), 2).close()
except ConnectionRefusedError:
    sys.exit(3)
"""
"""Enters a cgroup, if one is given, before it makes its socket. Status 0: connected, 3: reset, else: another fault."""

CONNECTED, REFUSED = 0, 3


async def prove_rules_match(nft: Nft, tree: CgroupTree, upgrader: str, mark: Mark) -> None:
    """A process in the cgroup `upgrader` (which exists) must be told from one outside by a rule that names it.

    HostError where the kernel cannot load the rules at all, RuleMatchError where they load and do not match."""
    check_cgroup_namespace()
    exemption = tree.exemption(upgrader)
    with await fresh_namespace() as namespace:
        await _prove_loadable(nft, exemption, mark, namespace)
        listener = await run_inside(namespace, _listen)
        try:
            port = listener.getsockname()[1]
            await nft.load(probe_ruleset(exemption, port), namespace)
            made = MadeCgroup(tree.root, tree.path(upgrader))
            inside, outside = await asyncio.gather(
                run_inside(namespace, partial(_probe, str(made.procs), port)),
                run_inside(namespace, partial(_probe, "", port)),
            )
        finally:
            listener.close()
    if (inside, outside) != (CONNECTED, REFUSED):
        raise RuleMatchError(
            f"a rule for the cgroup {exemption.path} loads and does not match "
            f"(from inside {_word(inside)}, from outside {_word(outside)})",
            "run the agent in the cgroup namespace of the host's first process, on Linux 5.16 or later",
        )


async def _prove_loadable(nft: Nft, exemption: Exemption, mark: Mark, namespace: Namespace) -> None:
    intent = NamespaceIntent("probe", mark, 1, 2, ipv6=True, mode=Mode.STRICT, exemption=exemption)
    try:
        await nft.check(namespace_ruleset(intent), namespace)
    except KernelError as error:
        raise HostError(
            f"this kernel cannot load the rules ({error.message})",
            "it needs nf_tables with NFT_SOCKET, NFT_TPROXY, NFT_FIB_INET and NFT_REJECT_INET; see `jfe doctor`",
        ) from error


def _listen() -> socket.socket:
    routing.set_loopback(up=True)
    return socket.create_server(("127.0.0.1", 0))


def _probe(procs: str, port: int) -> int:
    """On a thread inside the namespace, which the child is in, too."""
    command = [sys.executable, "-I", "-S", "-c", PROBE, procs, str(port)]
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, check=False
    ).returncode


def _word(status: int) -> str:
    return {CONNECTED: "connected", REFUSED: "refused"}.get(status, f"failed with status {status}")
