"""One call of the plugin, from the bytes that it was given to values. Whatever the bytes, the outcome is a call or a
CniError."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jfe_cni.agent.attachment import Attachment, Pod
from jfe_cni.cni.configuration import Configuration
from jfe_cni.cni.faults import INVALID_CONFIGURATION, INVALID_ENVIRONMENT, UNDECODABLE, CniError

COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS")
# CNI SPEC, "Parameters": what a container id and a network's name may be.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Linux takes 15 letters (IFNAMSIZ, linux/if.h), and no path's part that means another folder (dev_valid_name).
_INTERFACE = re.compile(r"[^\s/:\0]{1,15}")
# Kubernetes' names of namespaces and pods: RFC 1123 labels and subdomains. No file, id or rule is made of another.
_KUBERNETES_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LONGEST_NAME = 253


@dataclass(frozen=True)
class Invocation:
    """`container`, `interface`, `namespace` are empty where the command has none. `pod`: None of a container that is no
    pod of Kubernetes."""

    command: str
    container: str
    interface: str
    namespace: str
    pod: Pod | None
    configuration: Configuration

    @property
    def attachment(self) -> Attachment:
        return Attachment(self.configuration.network, self.container, self.interface)


def environment_and_input(body: bytes) -> tuple[dict[str, str], bytes]:
    """What the plugin sends: each variable ended by a NUL, one more NUL, then its standard input."""
    environment: dict[str, str] = {}
    at = 0
    while True:
        end = body.find(b"\0", at)
        if end < 0:
            raise CniError(UNDECODABLE, "the call is cut short", "install plugin and agent of one version")
        if end == at:
            return environment, body[end + 1 :]
        name, _, value = body[at:end].decode(errors="surrogateescape").partition("=")
        environment[name] = value
        at = end + 1


def invocation_of(environment: Mapping[str, str], configuration: Configuration) -> Invocation:
    """Raises CniError naming the variable that is absent or unfit (CNI SPEC, code 4)."""
    command = environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise CniError(INVALID_ENVIRONMENT, f"CNI_COMMAND is {command!r}", f"it is one of {', '.join(COMMANDS)}")
    # Leniently: whatever was added must be possible to delete.
    lenient = command == "DEL"
    container = interface = namespace = ""
    pod = None
    if command in ("ADD", "DEL", "CHECK"):
        container = _fit(environment, "CNI_CONTAINERID", _NAME)
        interface = _fit(environment, "CNI_IFNAME", _INTERFACE)
        if interface in (".", ".."):
            raise CniError(INVALID_ENVIRONMENT, f"CNI_IFNAME is {interface!r}", "no interface can be called so")
        namespace = environment.get("CNI_NETNS", "")
        if not namespace and not lenient:
            raise CniError(INVALID_ENVIRONMENT, "CNI_NETNS is empty", f"{command} needs the container's namespace")
        pod = None if lenient else pod_of(_arguments(environment.get("CNI_ARGS", "")))
    if not lenient and not _NAME.fullmatch(configuration.network):
        raise CniError(
            INVALID_CONFIGURATION,
            f"the network's name is {configuration.network!r}",
            "a name begins with a letter or digit; then letters, digits, dots, hyphens and underscores",
        )
    return Invocation(command, container, interface, mounted(namespace), pod, configuration)


def check_attachment(attachment: Attachment) -> None:
    """What a runtime's own record says is held to the same forms. Raises CniError."""
    told = {"CNI_CONTAINERID": attachment.container, "CNI_IFNAME": attachment.interface, "network": attachment.network}
    for variable, form in (("CNI_CONTAINERID", _NAME), ("CNI_IFNAME", _INTERFACE), ("network", _NAME)):
        _fit(told, variable, form)


def pod_of(arguments: Mapping[str, str]) -> Pod | None:
    """As containerd and CRI-O tell it (`K8S_POD_NAMESPACE=…`). Raises CniError where only half of it is told."""
    namespace, name = arguments.get("K8S_POD_NAMESPACE", ""), arguments.get("K8S_POD_NAME", "")
    if not namespace and not name:
        return None
    for argument, value in (("K8S_POD_NAMESPACE", namespace), ("K8S_POD_NAME", name)):
        if len(value) > _LONGEST_NAME or not _KUBERNETES_NAME.fullmatch(value):
            raise CniError(
                INVALID_ENVIRONMENT, f"CNI_ARGS has {argument}={value!r}", "it is a name as Kubernetes takes it"
            )
    return Pod(namespace, name, arguments.get("K8S_POD_UID", "")[:_LONGEST_NAME])


def _arguments(text: str) -> dict[str, str]:
    """`A=B;C=D`, in any order: it differs from call to call."""
    found: dict[str, str] = {}
    for pair in filter(None, text.split(";")):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CniError(INVALID_ENVIRONMENT, f"CNI_ARGS has {pair!r}", "write NAME=VALUE, separated by semicolons")
        found[name] = value
    return found


def _fit(environment: Mapping[str, str], variable: str, form: re.Pattern[str]) -> str:
    value = environment.get(variable, "")
    if not form.fullmatch(value):
        raise CniError(
            INVALID_ENVIRONMENT, f"{variable} is {value!r}" if value else f"{variable} is empty", "see the CNI SPEC"
        )
    return value


def mounted(namespace: str) -> str:
    """containerd names namespaces below /var/run, which is a link to /run on hosts and absent in many images."""
    below = namespace.removeprefix("/var/run/")
    if below != namespace and not Path("/var/run").is_symlink() and not Path(namespace).exists():
        return f"/run/{below}"
    return namespace
