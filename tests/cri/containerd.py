"""containerd on a node of the stage: the distribution's, of version 1, or the newer one that dev/go-programs builds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.cni.network import write
from tests.cri.crictl import SOCKET, Crictl
from tests.cri.image import IMAGE, archive
from tests.stage import Process, eventually, program
from tests.stage.node import Node
from tests.stage.programs import go_program

# Those that would look for what a test machine need not have, or that concern no container.
UNWANTED = ("aufs", "blockfile", "btrfs", "devmapper", "erofs", "zfs")
DISABLED = [f"io.containerd.snapshotter.v1.{each}" for each in UNWANTED]
DISABLED += ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]
# An unprivileged process may not lower its score, and a test's machine may have a kernel without AppArmor.
CONFIGURATION_1 = """
version = 2
disabled_plugins = {disabled}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""
CONFIGURATION_2 = """
version = 3
disabled_plugins = {disabled}
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{image}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"""
# Stands before runc. Where the v2 hierarchy has no controllers (they are with version 1 then) no limit can be set, and
# the CRI sets one for each sandbox: of the resources, the list of devices stays.
RUNC = """#!{python} -IS
import json, os, sys
words = sys.argv[1:]
if "create" in words and "memory" not in open("/sys/fs/cgroup/cgroup.controllers").read().split():
    path = os.path.join(words[words.index("--bundle") + 1], "config.json")
    with open(path) as file:
        spec = json.load(file)
    resources = spec["linux"].pop("resources", {{}})
    spec["linux"]["resources"] = {{"devices": resources.get("devices", [])}}
    with open(path, "w") as file:
        json.dump(spec, file)
os.execv("{runc}", ["runc", *words])
"""


@dataclass(frozen=True)
class Release:
    """`folder` has containerd, its shim and ctr. `cni_versions`: what a chain may be written in, the newest last.
    `drop_ins`: whether the libcni that it was built with loads a network's folder of further plugins (1.3)."""

    folder: Path
    configuration: str
    cni_versions: tuple[str, str]
    drop_ins: bool


def release(major: Literal["1", "2"]) -> Release:
    """Fails the test where that version is not to be had."""
    if major == "2":
        return Release(go_program("containerd").parent, CONFIGURATION_2, ("1.0.0", "1.1.0"), drop_ins=True)
    found = Path(program("/usr/bin/containerd"))
    *_, version, _ = subprocess.run([found, "--version"], check=True, capture_output=True, text=True).stdout.split()
    if not version.removeprefix("v").startswith("1."):
        pytest.fail(f"{found} is {version}, and the test is of version 1: install Debian's containerd")
    return Release(found.parent, CONFIGURATION_1, ("0.4.0", "1.0.0"), drop_ins=False)


class Containerd:
    """Ready when made: it answers, and has the image."""

    def __init__(self, node: Node, what: Release) -> None:
        self.node = node
        self.release = what
        wrapper = node.file("/opt/runc")
        wrapper.write_text(RUNC.format(python=sys.executable, runc=program("runc")))
        wrapper.chmod(0o755)
        configuration = node.file("/run/containerd.toml")
        configuration.write_text(
            what.configuration.format(disabled=json.dumps(DISABLED), image=IMAGE, runc="/opt/runc")
        )
        self._process = self._start()
        node.run([*self._ctr, "--namespace=k8s.io", "images", "import", "-"], input=archive())

    def use(self, conflist: Mapping[str, Any]) -> None:
        """Written, and taken up: containerd watches the folder."""
        write(self.node, conflist)
        crictl = Crictl(self.node)
        eventually(lambda: conflist in crictl.networks(), "containerd has taken up the network's new chain")

    @property
    def _ctr(self) -> list[str]:
        return [str(self.release.folder / "ctr"), "--address", SOCKET]

    def _start(self) -> Process:
        path = f"{self.release.folder}:/usr/sbin:/usr/bin:/sbin:/bin"
        command = ["env", "-i", f"PATH={path}", str(self.release.folder / "containerd")]
        command += ["--config", "/run/containerd.toml", "--address", SOCKET]
        return self.node.spawn(self.node.contained(*command), ready=self._answers, name="containerd")

    def _answers(self) -> bool:
        return self.node.run([*self._ctr, "version"], check=False).returncode == 0
