"""A pod on a node, whoever runs it."""

from __future__ import annotations

from pathlib import Path

from tests.stage import Place
from tests.stage.host import TRUST_DOMAIN
from tests.stage.namespace import ExistingNamespace
from tests.stage.node import Node


class Pod(Place):
    """`container` is its runtime's name for it, as plugins are told. `kubernetes` is `NAMESPACE/NAME`, None for a
    container that is no pod of Kubernetes."""

    def __init__(
        self,
        node: Node,
        namespace: ExistingNamespace,
        folder: Path,
        ipv4: str,
        *,
        container: str,
        kubernetes: str | None,
    ) -> None:
        super().__init__(namespace, folder, ipv4, "")
        self.node = node
        self.container = container
        self.kubernetes = kubernetes

    @property
    def identity(self) -> str:
        assert self.kubernetes is not None, f"{self.container} is no pod of Kubernetes"
        namespace, _, name = self.kubernetes.partition("/")
        return f"spiffe://{TRUST_DOMAIN}/ns/{namespace}/pod/{name}"
