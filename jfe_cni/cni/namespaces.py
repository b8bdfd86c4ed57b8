"""What each Kubernetes namespace asks for and allows, and what follows for one of its pods. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jfe_cni.agent.attachment import Pod
from jfe_cni.agent.fields import Fields
from jfe_cni.agent.objects import Mode, WorkloadSettings
from jfe_cni.cni import annotations as asked
from jfe_cni.cni.annotations import MODES, AnnotationError, NamespaceMode
from jfe_cni.errors import RequestError

ALLOW_WEAKEN = "allow-weaken"


@dataclass(frozen=True)
class Namespace:
    """`allow_weaken`: a pod's annotations may loosen what the namespace asks for, exclusions included."""

    mode: NamespaceMode = "permissive"
    allow_weaken: bool = False


@dataclass(frozen=True)
class Wish:
    """How one pod is to be enrolled."""

    mode: Mode
    settings: WorkloadSettings


@dataclass(frozen=True)
class Namespaces:
    """`default`: of namespaces that are not named, and of containers that are no pods. `release`: the namespace of this
    project's own pods, which are let through, or no node could heal itself."""

    default: NamespaceMode = "permissive"
    release: str | None = None
    named: Mapping[str, Namespace] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "default": self.default,
            "release-namespace": self.release,
            "namespaces": {
                name: {"mode": each.mode, ALLOW_WEAKEN: each.allow_weaken} for name, each in self.named.items()
            },
        }

    @classmethod
    def of(cls, fields: Fields) -> Namespaces:
        listed = fields.nested("namespaces")
        namespaces = cls(
            default=_mode(fields, "default"),
            release=fields.optional_text("release-namespace"),
            named={} if listed is None else {name: _namespace(each) for name, each in listed.objects()},
        )
        fields.done()
        return namespaces

    def wish(self, pod: Pod | None, annotations: Mapping[str, str]) -> Wish | Literal["off"]:
        """Raises AnnotationError where an annotation is malformed or loosens what may not be loosened."""
        if pod is not None and pod.namespace == self.release:
            return "off"
        asked.check_known(annotations)
        namespace = Namespace(self.default) if pod is None else self.named.get(pod.namespace, Namespace(self.default))
        where = "no namespace" if pod is None else f"namespace {pod.namespace}"
        mode = asked.mode(annotations) or namespace.mode
        if MODES.index(mode) < MODES.index(namespace.mode) and not namespace.allow_weaken:
            raise AnnotationError.weakening(asked.MODE, mode, f"{where} asks for {namespace.mode}")
        if mode == "off":
            return "off"
        # A namespace that asks for nothing loses nothing by what a pod leaves out.
        if namespace.mode != "off" and not namespace.allow_weaken:
            for name in asked.EXCLUSIONS:
                if annotations.get(name):
                    raise AnnotationError.weakening(name, annotations[name], f"{where} allows no exclusions")
        if namespace.mode == "strict" and not namespace.allow_weaken and annotations.get(asked.APPLICATION_TLS_PORTS):
            # A stranger's hello would reach an application that may not speak TLS; what does is found out by asking it.
            raise AnnotationError.weakening(
                asked.APPLICATION_TLS_PORTS, annotations[asked.APPLICATION_TLS_PORTS], f"{where} asks for strict"
            )
        return Wish(mode, asked.settings(annotations))


def _namespace(fields: Fields) -> Namespace:
    namespace = Namespace(_mode(fields, "mode"), fields.flag(ALLOW_WEAKEN))
    fields.done()
    return namespace


def _mode(fields: Fields, name: str) -> NamespaceMode:
    text = fields.optional_text(name) or "permissive"
    for mode in MODES:
        if text == mode:
            return mode
    raise RequestError(f"{name} of {fields.what} is {text!r}, no mode", remedy=f"write one of {', '.join(MODES)}")
