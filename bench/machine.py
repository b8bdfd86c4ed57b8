"""What this machine is, and what processes on it use: CPU time, memory, the CPU they may run on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.errors import HostError

PROC = Path("/proc")
CONGESTION_CONTROL = PROC / "sys/net/ipv4/tcp_congestion_control"
# What aws-lc and OpenSSL choose their AES-GCM code by (crypto/fipsmodule/cpucap in aws-lc).
NOTED_FLAGS = ("aes", "pclmulqdq", "avx2", "bmi2", "sha_ni", "vaes", "vpclmulqdq", "avx512f", "avx512vl", "avx512bw")


@dataclass(frozen=True)
class Circumstances:
    """What figures depend on beside what is measured: they are worth nothing without it."""

    cpu_flags: tuple[str, ...]
    congestion_control: str
    load_before: float


def cpu_flags() -> list[str]:
    """Those of NOTED_FLAGS that the kernel shows."""
    lines = (PROC / "cpuinfo").read_text().splitlines()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in NOTED_FLAGS if flag in flags]


def congestion_control() -> str:
    """TCP's on this host, which its new namespaces inherit (ip-sysctl.rst, tcp_congestion_control)."""
    return CONGESTION_CONTROL.read_text().strip()


def set_congestion_control(namespace: Path, name: str) -> None:
    """For all sockets that will be made in `namespace`. HostError where the kernel does not offer it there."""
    command = ["nsenter", f"--net={namespace}", "--", "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={name}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HostError(
            f"the congestion control {name} can't be had in a namespace: {done.stderr.strip()}",
            remedy="choose one of net.ipv4.tcp_allowed_congestion_control",
        )


def one_cpu() -> int:
    return min(os.sched_getaffinity(0))


def threads(pid: int) -> list[int]:
    return [int(task.name) for task in (PROC / str(pid) / "task").iterdir()]


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time so far (/proc/PID/schedstat, in nanoseconds: a tick of /proc/PID/stat is 10 ms)."""
    spent = 0
    for pid in pids:
        for thread in threads(pid):
            spent += int((PROC / str(pid) / "task" / str(thread) / "schedstat").read_text().split()[0])
    return spent / 1e9


def memory_megabytes(pids: Iterable[int]) -> float:
    """Proportional set size (proc_pid_smaps(5)): pages that several share count once in all."""
    kibibytes = 0
    for pid in pids:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        kibibytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kibibytes * 1024 / 1e6


@contextlib.contextmanager
def pinned(pids: Iterable[int], cpu: int) -> Iterator[None]:
    """All threads of these processes on one CPU while the body runs."""
    former = {thread: os.sched_getaffinity(thread) for pid in pids for thread in threads(pid)}
    try:
        for thread in former:
            os.sched_setaffinity(thread, {cpu})
        yield
    finally:
        for thread, cpus in former.items():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cpus)
