"""A stage whose hosts are nodes: pods of either reach those of the other, and no address is changed on the way."""

from __future__ import annotations

from tests.stage.namespace import ip
from tests.stage.node import POD_NETWORK, Node
from tests.stage.stage import NUMBERS, Stage, addresses


class Cluster(Stage):
    """`Stage`, with `Node` for `Host`."""

    a: Node
    b: Node

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        super().__init__()
        for node in self._nodes:
            ip("-n", self.stranger.name, "route", "add", node.pod_network, "via", node.ipv4)

    @property
    def hosts(self) -> tuple[Node, Node]:
        return self.a, self.b

    def _host(self, name: str) -> Node:
        namespace = self._joined(name)
        made = Node(namespace, self._own_folder(name), *addresses(name), self.folder / "authority", pods_number(name))
        self._nodes.append(made)
        for other in {"a", "b"} - {name}:
            made.reaches(POD_NETWORK.format(pods_number(other)), by=addresses(other)[0])
        return made

    def _remove(self) -> None:
        for node in self._nodes:
            node.close()
        super()._remove()


def pods_number(name: str) -> int:
    return 100 + NUMBERS[name]
