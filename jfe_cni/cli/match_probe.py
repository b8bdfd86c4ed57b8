"""Run in a throw-away network namespace: proves that a rule by cgroup matches, by a connection that it must refuse.

A rule that was loaded from another cgroup namespace, or on a kernel that counts levels otherwise, is accepted and never
matches; only a packet tells. Exit status 0 if it matches; else 1, with the reason as the last line."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from jfe_cni.cli.host_offer import v2_mount

# nft resolves cgroup paths below this folder (nft(8), SOCKET EXPRESSION).
NFT_ROOT = Path("/sys/fs/cgroup")


def main() -> int:
    mounted = v2_mount(Path("/proc/self/mounts").read_text())
    if mounted is None:
        print("cgroup v2 is not mounted")
        return 1
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with own_cgroup(mounted) as cgroup, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ruleset = (
            "table inet jfe_doctor {\n chain c {\n  type filter hook output priority filter;\n"
            f'  tcp dport {port} socket cgroupv2 level 1 "{nft_path(cgroup)}" reject with tcp reset\n }}\n}}\n'
        )
        loaded = subprocess.run(["nft", "-f", "-"], input=ruleset, capture_output=True, text=True, check=False)
        if loaded.returncode != 0:
            print(loaded.stderr.strip())
            return 1
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
        except ConnectionRefusedError:
            return 0
        except TimeoutError:
            print("the probe's connection was neither refused nor made")
            return 1
    print("the rule was accepted and does not match")
    return 1


@contextlib.contextmanager
def own_cgroup(mounted: Path) -> Iterator[Path]:
    """A cgroup below the v2 root with this process in it, which goes back where it was at the end."""
    before = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    cgroup = mounted / f"jfe-doctor-{os.getpid()}"
    cgroup.mkdir()
    try:
        (cgroup / "cgroup.procs").write_text("0")
        yield cgroup
    finally:
        (mounted / before.lstrip("/") / "cgroup.procs").write_text("0")
        cgroup.rmdir()


def nft_path(cgroup: Path) -> str:
    """As nft wants it: below /sys/fs/cgroup, and so `unified/NAME` on a host that has cgroup v1 beside v2."""
    return str(cgroup.relative_to(NFT_ROOT))


if __name__ == "__main__":
    sys.exit(main())
