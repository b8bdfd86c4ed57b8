"""A node's networks as an administrator writes them, and cnitool, the plainest of all container runtimes.

cnitool (github.com/containernetworking/cni, cnitool/cmd) takes capabilities' arguments from CAP_ARGS and a container's
from CNI_ARGS, calls a container by a digest of its namespace's path, and keeps results in libcni's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from jfe_cni.agent import binaries
from tests.cni.pod import Pod
from tests.stage.namespace import ExistingNamespace
from tests.stage.node import POD_BRIDGE, Node
from tests.stage.programs import go_program

Verb = Literal["add", "check", "del", "gc", "status"]
REFERENCE_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
CONFIGURATIONS = "/etc/cni/net.d"
PLUGINS = "/opt/cni/bin"
CACHE = "/var/lib/cni/results"


def install_plugins(node: Node) -> None:
    """The reference plugins, and ours, where runtimes look for them."""
    for name in REFERENCE_PLUGINS:
        node.file(f"{PLUGINS}/{name}").symlink_to(go_program(name))
    install_our_plugin(node)


def install_our_plugin(node: Node) -> None:
    node.file(f"{PLUGINS}/jfe").symlink_to(binaries.find("jfe-cni-plugin"))


def plugin(node: Node, **more: Any) -> dict[str, Any]:
    """Ours, as one of a chain."""
    capabilities = {ANNOTATIONS: True, "cgroupPath": True}
    return {"type": "jfe", "capabilities": capabilities, "agentSocket": str(node.socket_path), **more}


def chain(node: Node, name: str, version: str, *, covered: bool = True, dual_stack: bool = False) -> dict[str, Any]:
    """bridge, portmap and, where `covered`, ours. Each network hands out addresses from the first on."""
    subnets = (node.pod_network, *([node.pod_network_6] if dual_stack else []))
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": subnet}] for subnet in subnets],
        "routes": [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets],
        "dataDir": f"/var/lib/cni/{name}",
    }
    bridge = {"type": "bridge", "bridge": POD_BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": ipam}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}, "backend": "nftables"}
    plugins = [bridge, portmap, *([plugin(node)] if covered else [])]
    return {"cniVersion": version, "name": name, "plugins": plugins}


def write(node: Node, conflist: Mapping[str, Any]) -> Path:
    """Renamed into place: a runtime that looks sees all of it or nothing."""
    folder = node.file(CONFIGURATIONS)
    unfinished, finished = folder / ".unfinished", folder / f"10-{conflist['name']}.conflist"
    unfinished.write_text(json.dumps(conflist, indent=2))
    unfinished.rename(finished)
    return finished


class PlainPod(Pod):
    """A namespace as a runtime makes one before it calls the plugins: nothing in it is up. It gets its address by the
    first `Network.add`."""

    def __init__(self, node: Node, name: str, *, kubernetes: str | None, annotations: Mapping[str, str] | None) -> None:
        self.annotations = annotations
        self.inner_path = f"/run/netns/{name}"
        node.run(["ip", "netns", "add", name])
        namespace = ExistingNamespace(name, node.file(self.inner_path))
        # As cnitool makes it of the path.
        container = f"cnitool-{hashlib.sha512(self.inner_path.encode()).digest()[:10].hex()}"
        super().__init__(node, namespace, node.folder, "", container=container, kubernetes=kubernetes)

    def environment(self) -> dict[str, str]:
        """As containerd and CRI-O tell it."""
        told = {"CAP_ARGS": json.dumps({ANNOTATIONS: self.annotations})}
        if self.kubernetes is not None:
            namespace, _, name = self.kubernetes.partition("/")
            told["CNI_ARGS"] = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID=u-{name}"
        return told

    def delete(self) -> None:
        self.stop_all()
        if self.path.exists():
            self.node.run(["ip", "netns", "delete", self.name])


class Network:
    """A network of a node by name; its conflist is written at once."""

    def __init__(self, node: Node, name: str, version: str, *, covered: bool = True, dual_stack: bool = False) -> None:
        self.node = node
        self.name = name
        write(node, chain(node, name, version, covered=covered, dual_stack=dual_stack))

    def command(self, verb: Verb, pod: PlainPod | None = None, *, interface: str = "eth0") -> list[str]:
        told = {"CNI_PATH": PLUGINS, "PATH": os.environ["PATH"], **(pod.environment() if pod else {})}
        # GC and STATUS take a namespace's path, too, and make nothing of it.
        path = pod.inner_path if pod else "/run/netns/none"
        variables = [f"{variable}={value}" for variable, value in told.items()]
        return ["env", "-i", *variables, str(go_program("cnitool")), verb, self.name, path, "-i", interface]

    def add(self, pod: PlainPod, *, interface: str = "eth0") -> dict[str, Any]:
        """The result; the pod has the addresses that it names, where they are its first."""
        result: dict[str, Any] = json.loads(self.node.run(self.command("add", pod, interface=interface)).stdout)
        addresses = [each["address"].partition("/")[0] for each in result["ips"]]
        pod.ipv4 = pod.ipv4 or next((address for address in addresses if ":" not in address), "")
        pod.ipv6 = pod.ipv6 or next((address for address in addresses if ":" in address), "")
        return result

    def check(self, pod: PlainPod, *, interface: str = "eth0") -> None:
        self.node.run(self.command("check", pod, interface=interface))

    def delete(self, pod: PlainPod, *, interface: str = "eth0") -> None:
        self.node.run(self.command("del", pod, interface=interface))

    def status(self) -> None:
        self.node.run(self.command("status"))

    def refused(self, verb: Verb, pod: PlainPod | None = None, *, interface: str = "eth0") -> str:
        """What is said where it fails. AssertionError where it does not."""
        ended = self.node.run(self.command(verb, pod, interface=interface), check=False)
        assert ended.returncode != 0, f"cnitool {verb} of {self.name} did not fail: {ended.stdout.decode()}"
        return ended.stderr.decode().splitlines()[0]

    def forget(self, pod: PlainPod, *, interface: str = "eth0") -> None:
        """Libcni's record of it, as a runtime that has lost its disk."""
        self.node.file(f"{CACHE}/{self.name}-{pod.container}-{interface}").unlink()


def direct(node: Node, command: str, configuration: Mapping[str, Any], pod: PlainPod, **variables: str) -> bytes:
    """The plugin's own answer, without a runtime. Failed where its status is not 0."""
    told = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": pod.container,
        "CNI_NETNS": pod.inner_path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": PLUGINS,
        **variables,
    }
    words = [f"{variable}={value}" for variable, value in told.items()]
    return node.run(["env", "-i", *words, f"{PLUGINS}/jfe"], input=json.dumps(configuration).encode()).stdout
