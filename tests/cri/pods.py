"""Pods as the kubelet makes them: by the container runtime interface (CRI), spoken by crictl."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cni.pod import Pod
from tests.cri.crictl import Crictl
from tests.cri.image import IMAGE, WEB_ROOT
from tests.stage import Failed, eventually
from tests.stage.namespace import ExistingNamespace
from tests.stage.node import Node

# NamespaceMode of the CRI (api.proto).
POD, NODE = 0, 2
LOGS = "/run/pods"


@dataclass(frozen=True)
class PodSpec:
    """`namespace` and `name` are Kubernetes'. `host_network`: it has no network namespace of its own."""

    name: str
    namespace: str = "shop"
    annotations: Mapping[str, str] = field(default_factory=dict)
    host_network: bool = False


def run_pod(node: Node, spec: PodSpec) -> Sandbox:
    """Its sandbox is up when this returns."""
    crictl, configuration = Crictl(node), _sandbox(node, spec)
    identifier = crictl("runp", crictl.file(spec.name, configuration)).strip()
    return Sandbox(crictl, spec, identifier, configuration)


def refused(node: Node, spec: PodSpec) -> str:
    """What is said where the sandbox can't be made. AssertionError where it can."""
    crictl = Crictl(node)
    ended = node.run(crictl.command("runp", crictl.file(spec.name, _sandbox(node, spec))), check=False)
    assert ended.returncode != 0, f"pod {spec.name} was taken"
    return ended.stderr.decode()


def _sandbox(node: Node, spec: PodSpec) -> dict[str, Any]:
    """PodSandboxConfig of the CRI. The kubelet makes a pod's cgroup before anything else."""
    cgroup = node.cgroup.path / "kubepods" / f"pod{spec.name}"
    cgroup.mkdir(parents=True, exist_ok=True)
    return {
        "metadata": {"name": spec.name, "namespace": spec.namespace, "uid": f"uid-{spec.name}", "attempt": 0},
        # Who has the host's network keeps the host's name (CRI, PodSandboxConfig).
        "hostname": "" if spec.host_network else spec.name,
        "log_directory": f"{LOGS}/{spec.name}",
        "annotations": dict(spec.annotations),
        "dns_config": {},
        "linux": {
            "cgroup_parent": f"/{cgroup.relative_to(node.cgroup.root)}",
            "security_context": {"namespace_options": {"network": NODE if spec.host_network else POD}},
        },
    }


class Sandbox(Pod):
    """A sandbox that runs. `start` runs a program in it; `run`, `socket` and the like of a `Place` are the
    test's own ways into its network."""

    def __init__(self, crictl: Crictl, spec: PodSpec, identifier: str, configuration: dict[str, Any]) -> None:
        self.crictl = crictl
        self.spec = spec
        self.configuration = configuration
        told = json.loads(crictl("inspectp", identifier))
        namespaces = {each["type"]: each.get("path") for each in told["info"]["runtimeSpec"]["linux"]["namespaces"]}
        node = crictl.node
        if spec.host_network:
            namespace, address = node.namespace, node.ipv4
        else:
            path = node.file(str(Path("/run") / Path(namespaces["network"]).relative_to("/var/run")))
            namespace, address = ExistingNamespace(spec.name, path), told["status"]["network"]["ip"]
        kubernetes = f"{spec.namespace}/{spec.name}"
        super().__init__(node, namespace, node.folder, address, container=identifier, kubernetes=kubernetes)

    @property
    def cgroup(self) -> str:
        """As a person on the node would write it."""
        return f"/sys/fs/cgroup{self.configuration['linux']['cgroup_parent']}"

    def start(self, name: str, command: Sequence[str]) -> Container:
        """Started."""
        configuration = {
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": list(command),
            "log_path": f"{name}.log",
            "linux": {},
        }
        sandbox = self.crictl.file(self.spec.name, self.configuration)
        written = self.crictl.file(f"{self.spec.name}-{name}", configuration)
        identifier = self.crictl("create", self.container, written, sandbox).strip()
        self.crictl("start", identifier)
        return Container(self, name, identifier)

    def serve(self, port: int) -> Container:
        """A web server whose page /cgi-bin/who says who asks; it listens."""
        started = self.start(f"web-{port}", ["httpd", "-f", "-p", str(port), "-h", WEB_ROOT])
        eventually(lambda: self.listening(port), f"{self.spec.name} listens on {port}", otherwise=started.output)
        return started

    def remove(self) -> None:
        """As the kubelet does, whatever still runs in it."""
        self.stop_all()
        self.crictl("stopp", self.container)
        self.crictl("rmp", "--force", self.container)


@dataclass(frozen=True)
class Container:
    pod: Sandbox
    name: str
    id: str

    def exec(self, *command: str) -> str:
        """In the container, to its end. Failed where its status is not 0."""
        return self.pod.crictl("exec", self.id, *command)

    def output(self) -> str:
        return self.pod.crictl("logs", self.id)

    def ask(self, address: str, port: int, word: str) -> str:
        """The address as which the web server there sees this pod."""
        seen, said = self.exec("wget", "-q", "-O", "-", f"http://{address}:{port}/cgi-bin/who?{word}").split()
        if said != word:
            raise Failed(f"{said!r} came back instead of {word!r}")
        return seen


def annotated(spec: PodSpec, **annotations: str) -> PodSpec:
    """`exclude_outbound_ports="80"` is the annotation `jfe.io/exclude-outbound-ports`."""
    named = {f"jfe.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return dataclasses.replace(spec, annotations={**spec.annotations, **named})
