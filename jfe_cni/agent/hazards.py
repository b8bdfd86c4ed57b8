"""Who in a workload could step round its rules: processes that hold a capability which netfilter can't answer."""

from __future__ import annotations

from pathlib import Path

from jfe_cni.agent.roster import Record
from jfe_cni.kernel.cgroups import NFT_ROOT, MadeCgroup

# linux/capability.h, by bit: packet sockets never meet the output hook; the table can be flushed (and is mended).
_CAPABILITIES = {13: "NET_RAW", 12: "NET_ADMIN"}


def hazards(record: Record) -> tuple[str, ...]:
    """Capabilities that some process of the workload holds now, by name. Reads /proc: call it on a thread."""
    held = 0
    for process in _processes(record):
        held |= _effective(process)
    return tuple(name for bit, name in _CAPABILITIES.items() if held >> bit & 1)


def _processes(record: Record) -> list[Path]:
    proc = Path("/proc")
    workload = record.workload
    if workload.shape == "host":
        if workload.cgroup is None:
            return []
        # Those below it are the workload's, too: its rules match them all.
        cgroup = MadeCgroup(NFT_ROOT, NFT_ROOT / workload.cgroup.path)
        return [proc / str(member) for member in cgroup.processes()]
    return [each for each in proc.iterdir() if each.name.isdigit() and _namespace_of(each) == workload.namespace]


def _namespace_of(process: Path) -> tuple[int, int] | None:
    try:
        status = (process / "ns" / "net").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _effective(process: Path) -> int:
    """proc_pid_status(5), CapEff: a mask in hexadecimal. Gone already: none."""
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
