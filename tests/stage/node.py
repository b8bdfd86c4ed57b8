"""A host that runs containers: files of its own where a container runtime and its plugins keep theirs."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from jfe_cni.kernel.cgroups import CgroupTree
from tests.stage.host import Host
from tests.stage.namespace import ExistingNamespace, ip

# What plugins and runtimes write below these, the node alone sees; whatever else lies there is the machine's, as it is.
# In memory: overlayfs can't stand on another overlayfs, which a container's root file system is.
# Version 1 of cgroups, where a machine has both, is out of sight: runtimes would choose it.
SEPARATE = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 node /run
for folder in /etc /opt /var/lib; do
    mkdir -p /run/node$folder/upper /run/node$folder/work
    mount -t overlay -o lowerdir=$folder,upperdir=/run/node$folder/upper,workdir=/run/node$folder/work node $folder
done
mkdir -p /run/netns /etc/cni/net.d /opt/cni/bin /var/lib/cni /var/lib/containerd
mount -t tmpfs -o mode=711 node /var/lib/containerd
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo made
read -r _
"""
POD_BRIDGE = "cni0"
# Beside the stage's own network in what RFC 2544 set apart: one of these for each node.
POD_NETWORK = "198.18.{}.0/24"
POD_GATEWAY = "198.18.{}.1"
POD_NETWORK_6 = "fd00:{}::/64"
POD_GATEWAY_6 = "fd00:{}::1"


class Node(Host):
    """Programs run in a mount namespace of the node's, which nothing but this object keeps: `close` ends it.

    `root` is the node's `/` as the test sees it; `number` tells its pod network from those of others."""

    def __init__(
        self, namespace: ExistingNamespace, folder: Path, ipv4: str, ipv6: str, authority: Path, number: int
    ) -> None:
        super().__init__(namespace, folder, ipv4, ipv6, authority)
        self.pod_network = POD_NETWORK.format(number)
        self.pod_network_6 = POD_NETWORK_6.format(number)
        self._pod_gateways = (f"{POD_GATEWAY.format(number)}/24", f"{POD_GATEWAY_6.format(number)}/64")
        self._files = contextlib.ExitStack()
        # Below this folder of its own, so that all that a runtime has started can be ended.
        self.cgroup = CgroupTree.found().create(f"jfe-test/{self.name}")
        try:
            self._separate()
            self._make_bridge()
        except BaseException:
            self.close()
            raise

    def _separate(self) -> None:
        command = self.namespace.command("unshare", "--mount", "sh", "-c", SEPARATE)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "made\n", "the node's mounts could not be made"
            self._mounts = self._kept(Path(f"/proc/{maker.pid}/ns/mnt"), os.O_RDONLY)
            self.root = self._kept(Path(f"/proc/{maker.pid}/root"), os.O_PATH)
            maker.communicate("")

    def _kept(self, path: Path, flags: int) -> Path:
        """Another path to it, which other processes find, too, and which stays when the process of `path` has ended."""
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        self._files.callback(os.close, descriptor)
        return Path(f"/proc/{os.getpid()}/fd/{descriptor}")

    def _make_bridge(self) -> None:
        """The bridge plugin would make it with the first pod, and let it stay: here it is there from the start."""
        words = ("-n", self.name, "link")
        # With a hardware address of its own it keeps it, whatever comes and goes at its ports: CHECK compares.
        ip(*words, "add", POD_BRIDGE, "address", "02:00:00:00:00:01", "type", "bridge")
        # It would make itself a link-local address with its first port; without one it can't ask where pods are.
        ip(*words, "set", POD_BRIDGE, "addrgenmode", "none", "up")
        for gateway in (*self._pod_gateways, "fe80::1/64"):
            ip("-n", self.name, "address", "add", gateway, "dev", POD_BRIDGE, *(["nodad"] if ":" in gateway else []))
        self.inside(_forward)

    def entering(self, *words: str) -> list[str]:
        # Whoever enters a mount namespace finds itself at its root (setns(2)).
        here = ("env", f"--chdir={Path.cwd()}")
        return ["nsenter", f"--net={self.path}", f"--mount={self._mounts}", "--", *here, *words]

    def contained(self, *words: str) -> list[str]:
        """For `run` and `spawn`: what this starts, and all that comes of it, `close` ends."""
        procs = f"/sys/fs/cgroup/{self.cgroup.path.relative_to(self.cgroup.root)}/runtime/cgroup.procs"
        return ["sh", "-c", f'mkdir -p $(dirname {procs}); echo 0 > {procs}; exec "$@"', "sh", *words]

    def file(self, path: str) -> Path:
        """One of the node's files, as the test gets at it."""
        return self.root / path.lstrip("/")

    def close(self) -> None:
        self.cgroup.kill()
        self.cgroup.remove()
        self._files.close()


def _forward() -> None:
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", name).write_text("1")
