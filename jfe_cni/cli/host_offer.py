"""What this host offers, one check each. Rules are tried in namespaces that end with the process that tried them."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.agent import binaries
from jfe_cni.errors import JfeError

# A link's egress hook came with Linux 5.16 (kernel commit 42df6e1d221d); `socket cgroupv2` with 5.13 (e0bb96db96f8) and
# nft 0.9.9; `meta … set` on `tproxy` before.
LEAST_KERNEL = (5, 16)
LEAST_NFT = (0, 9, 9)
# Bits of capabilities(7) that the agent and the broker use.
CAPABILITIES = {"CAP_KILL": 5, "CAP_SETPCAP": 8, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}
PROBE_SECONDS = 20.0


@dataclass(frozen=True)
class Finding:
    """`found` says what is there; `remedy` the line that mends it; not `needed`: only something less works."""

    subject: str
    ok: bool
    found: str
    remedy: str = ""
    needed: bool = True


async def root() -> Finding:
    return Finding("root", os.geteuid() == 0, f"user id {os.geteuid()}", "sudo jfe doctor")


async def kernel() -> Finding:
    release = platform.release()
    return Finding(
        "kernel",
        numbers(release)[:2] >= LEAST_KERNEL,
        release,
        f"boot a kernel of {'.'.join(map(str, LEAST_KERNEL))} or newer: closing a workload's link needs it",
    )


async def capabilities() -> Finding:
    effective = int(_field(Path("/proc/self/status").read_text(), "CapEff") or "0", 16)
    lacking = lacking_capabilities(effective)
    return Finding(
        "capabilities",
        not lacking,
        "all that are needed" if not lacking else f"{', '.join(lacking)} not there",
        "run as root outside of a container, or in one with these capabilities",
    )


async def nft() -> Finding:
    remedy = "apt-get install nftables"
    if shutil.which("nft") is None:
        return Finding("nft", False, "not found on PATH", remedy)
    _, text = await _output("nft", "--version")
    return Finding("nft", numbers(text.partition(" v")[2]) >= LEAST_NFT, text.strip(), remedy)


async def programs() -> Finding:
    lacking = [name for name in ("ip", "nsenter", "unshare") if shutil.which(name) is None]
    return Finding(
        "ip, nsenter, unshare",
        not lacking,
        "found" if not lacking else f"{', '.join(lacking)} not found on PATH",
        "apt-get install iproute2 util-linux",
    )


async def cgroup_v2() -> Finding:
    mounted = v2_mount(Path("/proc/self/mounts").read_text())
    if mounted is None:
        return Finding(
            "cgroup v2",
            False,
            "not mounted",
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd's default",
        )
    writable = os.access(mounted, os.W_OK) and not os.statvfs(mounted).f_flag & os.ST_RDONLY
    return Finding(
        "cgroup v2",
        writable,
        f"at {mounted}" + ("" if writable else ", not writable"),
        f"mount -o remount,rw {mounted} (as root, in the host's mount namespace)",
    )


async def cgroup_namespace() -> Finding:
    remedy = "start the agent by `nsenter --target 1 --cgroup`: from another namespace rules load and never match"
    try:
        same = Path("/proc/self/ns/cgroup").readlink() == Path("/proc/1/ns/cgroup").readlink()
    except OSError as error:
        # Some hosts hide process 1 from everybody. Whether rules match is then for the probe alone to tell.
        return Finding(
            "cgroup namespace", False, f"process 1 can't be compared with: {error.strerror}", remedy, needed=False
        )
    return Finding("cgroup namespace", same, "the host's own" if same else "not that of process 1", remedy)


async def namespaces() -> Finding:
    status, text = await _output("unshare", "--net", "true")
    return Finding(
        "network namespaces",
        status == 0,
        "can be made" if status == 0 else text.strip(),
        "run as root with CAP_SYS_ADMIN, on a kernel with CONFIG_NET_NS",
    )


async def rules() -> Finding:
    lacking = []
    for name, ruleset in RULESETS.items():
        status, _ = await _output("unshare", "--net", "nft", "-f", "-", given=ruleset)
        if status != 0:
            lacking.append(name)
    return Finding(
        "nft expressions",
        not lacking,
        "all load" if not lacking else f"do not load: {', '.join(lacking)}",
        "modprobe -a nft_socket nft_tproxy nft_fib_inet nft_reject_inet nft_redir nft_ct, or a kernel that has them "
        "(netdev: CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS, CONFIG_NETFILTER_EGRESS)",
    )


async def matching() -> Finding:
    status, text = await _output("unshare", "--net", sys.executable, "-m", "jfe_cni.cli.match_probe")
    return Finding(
        "rules match by cgroup",
        status == 0,
        "proven by a connection in a throw-away namespace" if status == 0 else _last_line(text),
        "start from the host's cgroup namespace: nsenter --target 1 --cgroup jfe doctor",
    )


async def policy_routing() -> Finding:
    for family in ("-4", "-6"):
        script = (
            f"ip link set lo up && ip {family} rule add fwmark 1/1 lookup 29286"
            f" && ip {family} route add local default dev lo table 29286"
        )
        status, text = await _output("unshare", "--net", "sh", "-c", script)
        if status != 0:
            return Finding(
                "policy routing",
                False,
                f"refused for IP{'v4' if family == '-4' else 'v6'}: {_last_line(text)}",
                "a kernel with CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES",
            )
    return Finding("policy routing", True, "IPv4 and IPv6")


async def sysctls() -> Finding:
    wanted = ("net/ipv4/tcp_fwmark_accept", "net/ipv4/fwmark_reflect")
    lacking = [name for name in wanted if not Path("/proc/sys", name).exists()]
    return Finding(
        "marks on accepted sockets",
        not lacking,
        "offered" if not lacking else f"no {', '.join(lacking)}",
        "a kernel with CONFIG_INET and writable /proc/sys",
    )


async def destroying() -> Finding:
    status, text = await _output("unshare", "--net", sys.executable, "-m", "jfe_cni.cli.destroy_probe")
    return Finding(
        "closing sockets (sock_diag)",
        status == 0,
        "proven on a connection in a throw-away namespace" if status == 0 else _last_line(text),
        "a kernel with CONFIG_INET_DIAG_DESTROY; modprobe -a inet_diag tcp_diag; apt-get install iproute2",
    )


async def ipv6() -> Finding:
    there = Path("/proc/net/if_inet6").exists()
    return Finding(
        "IPv6", there, "there" if there else "not in this kernel", "boot without ipv6.disable=1", needed=False
    )


async def seccomp() -> Finding:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    found = actions.read_text().split() if actions.exists() else []
    return Finding(
        "seccomp",
        "kill_process" in found,
        "filters that kill" if "kill_process" in found else "no filters",
        "a kernel with CONFIG_SECCOMP_FILTER",
    )


async def upgrader() -> Finding:
    try:
        found = str(binaries.find())
    except JfeError as error:
        return Finding("upgrader", False, error.message, error.remedy)
    return Finding("upgrader", True, found)


async def aes() -> Finding:
    flags = (_field(Path("/proc/cpuinfo").read_text(), "flags") or "").split()
    there = "aes" in flags
    found = "AES with wide vectors (VAES)" if "vaes" in flags else "AES" if there else "no AES instructions"
    return Finding(
        "processor", there, found, "a processor with AES instructions is several times as fast", needed=False
    )


async def demo_programs() -> Finding:
    lacking = [name for name in ("tcpdump", "curl") if shutil.which(name) is None]
    return Finding(
        "for the demo",
        not lacking,
        "tcpdump and curl" if not lacking else f"{', '.join(lacking)} not found on PATH",
        f"apt-get install {' '.join(lacking)}",
        needed=False,
    )


CHECKS: tuple[Callable[[], Awaitable[Finding]], ...] = (
    root,
    kernel,
    capabilities,
    programs,
    nft,
    cgroup_v2,
    cgroup_namespace,
    namespaces,
    rules,
    matching,
    policy_routing,
    sysctls,
    destroying,
    ipv6,
    seccomp,
    upgrader,
    aes,
    demo_programs,
)


def _ruleset(family: str, hook: str, rule: str) -> str:
    return f"table {family} jfe_doctor {{\n chain c {{\n  type {hook};\n  {rule}\n }}\n}}\n"


# One ruleset an expression or hook, so that what is missing is named.
RULESETS = {
    name: _ruleset("inet", hook, rule)
    for name, hook, rule in (
        ("tproxy ip", "filter hook prerouting priority mangle", "meta l4proto tcp tproxy ip to 127.0.0.1:9 accept"),
        ("tproxy ip6", "filter hook prerouting priority mangle", "meta l4proto tcp tproxy ip6 to [::1]:9 accept"),
        ("socket", "filter hook prerouting priority mangle", "socket wildcard 0 accept"),
        ("fib", "route hook output priority mangle", "fib daddr type local accept"),
        ("meta skuid", "route hook output priority mangle", "meta skuid 0-4294967295 meta mark set 1 accept"),
        ("ct mark", "route hook output priority mangle", "ct mark 1 ct direction reply meta mark set 1"),
        ("redirect", "nat hook output priority -100", "meta l4proto tcp redirect to :9"),
        ("reject", "filter hook output priority filter", "meta l4proto tcp reject with tcp reset"),
    )
} | {
    f"netdev {hook}": _ruleset("netdev", f'filter hook {hook} device "lo" priority -500', "counter drop")
    for hook in ("ingress", "egress")
}


def numbers(version: str) -> tuple[int, ...]:
    """`6.1.0-13-amd64` → (6, 1, 0): what is comparable of a version. Empty where there is none."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()


def lacking_capabilities(effective: int) -> list[str]:
    """Names of those needed that the bit set of /proc/PID/status lacks."""
    return [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]


def v2_mount(mounts: str) -> Path | None:
    """Where cgroup v2 is mounted, from the text of /proc/PID/mounts (fstab(5): spaces as \\040)."""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1].replace("\\040", " "))
    return None


async def _output(program: str, *arguments: str, given: str = "") -> tuple[int, str]:
    """Exit status and all that was printed; 127 where the program is not there (as sh does)."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except FileNotFoundError:
        return 127, f"{program} not found on PATH"
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            printed, _ = await process.communicate(given.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        return 124, f"{program} did not end within {PROBE_SECONDS:.0f} s"
    assert process.returncode is not None
    return process.returncode, printed.decode(errors="replace")


def _field(text: str, name: str) -> str | None:
    """`NAME<blank>: value`, the first such line's value."""
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1) if found else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a word"
