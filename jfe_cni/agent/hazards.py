"""Who in a workload could step round its rules: processes that hold a capability which netfilter can't answer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jfe_cni.agent.roster import Record
from jfe_cni.kernel.cgroups import NFT_ROOT, MadeCgroup
from jfe_cni.kernel.processes import network_namespace, processes

# linux/capability.h, by bit: packet sockets never meet the output hook; the table can be flushed (and is mended).
_CAPABILITIES = {13: "NET_RAW", 12: "NET_ADMIN"}


def hazards(records: Iterable[Record]) -> list[tuple[str, ...]]:
    """Of each workload the capabilities that some process of it holds now, by name. Reads /proc, all of it once however
    many the workloads are: call it on a thread."""
    wanted = list(records)
    held = {record.workload.namespace: 0 for record in wanted if record.workload.shape == "namespace"}
    if held:
        for process in processes():
            namespace = network_namespace(process)
            if namespace in held:
                held[namespace] |= _effective(process)
    return [
        _names(_of_host(record) if record.workload.shape == "host" else held[record.workload.namespace])
        for record in wanted
    ]


def _of_host(record: Record) -> int:
    held = 0
    if record.workload.cgroup is not None:
        # Those below it are the workload's, too: its rules match them all.
        for process in MadeCgroup(NFT_ROOT, NFT_ROOT / record.workload.cgroup.path).processes():
            held |= _effective(str(process))
    return held


def _effective(process: str) -> int:
    """proc_pid_status(5), CapEff: a mask in hexadecimal. Gone already: none."""
    try:
        lines = Path("/proc", process, "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def _names(held: int) -> tuple[str, ...]:
    return tuple(name for bit, name in _CAPABILITIES.items() if held >> bit & 1)
