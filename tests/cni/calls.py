"""The plugin's calls as they reach the agent's socket: variables, a NUL each, one more, then the configuration."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.stage import Host, Stage
from tests.stage.namespace import NetworkNamespace

NETWORK = "podnet"
PREVIOUS = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"}],
    "ips": [{"address": "198.18.9.2/24", "gateway": "198.18.9.1", "interface": 0}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["198.18.9.1"]},
    "of a later version": [1, {"and": "kept"}],
}


@dataclass(frozen=True)
class Answer:
    """`body`: parsed; None where nothing is to be printed."""

    status: int
    body: Any

    @property
    def done(self) -> bool:
        return self.status == 200

    @property
    def code(self) -> int:
        assert self.status == 422, self
        return int(self.body["code"])

    @property
    def said(self) -> str:
        assert self.status == 422, self
        return f"{self.body['msg']} {self.body['details']}"


class _OnUnixSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


def answers(host: Host) -> bool:
    """Whether somebody listens on the agent's socket; a killed agent leaves its file."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(host.socket_path)) == 0


def send(host: Host, body: bytes) -> Answer:
    """The bytes as they are."""
    connection = _OnUnixSocket(host.socket_path)
    try:
        connection.request("POST", "/v1/cni", body)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    return Answer(response.status, json.loads(content) if content else None)


def body_of(environment: Mapping[str, str], configuration: Any) -> bytes:
    variables = b"".join(f"{name}={value}\0".encode(errors="surrogateescape") for name, value in environment.items())
    text = configuration if isinstance(configuration, bytes) else json.dumps(configuration).encode()
    return variables + b"\0" + text


def environment(
    command: str, *, container: str, netns: str, interface: str = "eth0", pod: str | None = None
) -> dict[str, str]:
    """`pod`: NAMESPACE/NAME."""
    found = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": interface,
        "CNI_PATH": "/opt/cni/bin",
    }
    if pod is not None:
        namespace, name = pod.split("/")
        found["CNI_ARGS"] = f"IgnoreUnknown=1;K8S_POD_NAME={name};K8S_POD_UID=uid-1;K8S_POD_NAMESPACE={namespace}"
    return found


def configuration(
    *, version: str = "1.0.0", network: str = NETWORK, annotations: Mapping[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "cniVersion": version,
        "name": network,
        "type": "jfe",
        "runtimeConfig": {
            "io.kubernetes.cri.pod-annotations": annotations,
            "cgroupPath": "/kubepods/burstable/pod1",
        },
        "prevResult": PREVIOUS,
        **more,
    }


class Runtime:
    """Calls about one container on one host."""

    def __init__(self, host: Host, container: str, namespace: NetworkNamespace, pod: str | None = None) -> None:
        self.host = host
        self.container = container
        self.namespace = namespace
        self.pod = pod

    def call(
        self, command: str, *, interface: str = "eth0", netns: str | None = None, valid: object = None, **said: Any
    ) -> Answer:
        told = environment(
            command,
            container=self.container,
            netns=str(self.namespace.path) if netns is None else netns,
            interface=interface,
            pod=self.pod,
        )
        collected = {} if valid is None else {"cni.dev/valid-attachments": valid}
        return send(self.host, body_of(told, configuration(**said) | collected))

    def rules(self) -> bool:
        """Whether anything of ours is in the container's namespace."""
        return bool(self.namespace.inside(_tables))


def _tables() -> str:
    return subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def container(
    stage: Stage, host: Host, name: str = "c1", pod: str | None = None, *, clean: bool = True
) -> Iterator[Runtime]:
    """A namespace as a runtime makes it for a container; `clean`: deleted from its networks at the end."""
    namespace = NetworkNamespace(f"{stage.name}-{name}")
    try:
        made = Runtime(host, f"{stage.name}-{name}", namespace, pod)
        yield made
        for interface in ("eth0", "net1") if clean else ():
            made.call("DEL", interface=interface)
    finally:
        namespace.delete()
