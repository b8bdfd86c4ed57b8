"""A container's interface in a network of the container runtime, and what the runtime told of it, as values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from jfe_cni.agent.fields import Fields


@dataclass(frozen=True)
class Attachment:
    """CNI SPEC, section 2 (parameters): network name, container id and interface are the primary key of all state."""

    network: str
    container: str
    interface: str

    def as_json(self) -> dict[str, Any]:
        return {"network": self.network, "container": self.container, "interface": self.interface}

    @classmethod
    def of(cls, fields: Fields) -> Attachment:
        attachment = cls(fields.text("network"), fields.text("container"), fields.text("interface"))
        fields.done()
        return attachment


@dataclass(frozen=True)
class Pod:
    """As the kubelet names it. `uid` may be empty: not every runtime tells it."""

    namespace: str
    name: str
    uid: str

    def as_json(self) -> dict[str, Any]:
        return {"namespace": self.namespace, "name": self.name, "uid": self.uid}

    @classmethod
    def of(cls, fields: Fields) -> Pod:
        pod = cls(fields.text("namespace"), fields.text("name"), fields.text("uid"))
        fields.done()
        return pod


@dataclass(frozen=True)
class Container:
    """What a runtime told of the container that is enrolled. `cgroup`: the pod's, as the runtime wrote it. `ran_bare`:
    it had been running before it was enrolled, so what it sent until then was not covered."""

    attachments: tuple[Attachment, ...]
    pod: Pod | None = None
    cgroup: str | None = None
    ran_bare: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "attachments": [attachment.as_json() for attachment in self.attachments],
            "pod": None if self.pod is None else self.pod.as_json(),
            "cgroup": self.cgroup,
            "ran_bare": self.ran_bare,
        }

    @classmethod
    def of(cls, fields: Fields) -> Container:
        pod = fields.nested("pod")
        container = cls(
            attachments=tuple(Attachment.of(Fields(each, "an attachment")) for each in fields.elements("attachments")),
            pod=None if pod is None else Pod.of(pod),
            cgroup=fields.optional_text("cgroup"),
            ran_bare=fields.flag("ran_bare"),
        )
        fields.done()
        return container

    @property
    def id(self) -> str:
        """As its runtime calls it: one, whatever networks it is in."""
        return self.attachments[0].container

    def holds(self, attachment: Attachment) -> bool:
        """By container and interface: a network may have been renamed, or give one interface under two names."""
        return any(_same_interface(each, attachment) for each in self.attachments)

    def without(self, attachment: Attachment) -> Container:
        """That one; where its network is not known by that name, all of that interface."""
        exact = attachment in self.attachments
        left = (
            each for each in self.attachments if each != attachment and (exact or not _same_interface(each, attachment))
        )
        return dataclasses.replace(self, attachments=tuple(left))


def _same_interface(one: Attachment, other: Attachment) -> bool:
    return (one.container, one.interface) == (other.container, other.interface)
