"""A stage whose hosts are nodes: pods of either reach those of the other, and no address is changed on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.stage.deadline import eventually
from tests.stage.namespace import ip
from tests.stage.node import POD_NETWORK, POD_NETWORK_6, Node
from tests.stage.stage import NUMBERS, Stage, addresses


class Cluster(Stage):
    """`Stage`, with `Node` for `Host`."""

    a: Node
    b: Node

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        super().__init__()
        for name in ("a", "b"):
            self._reach_pods(self.stranger.name, name)

    @property
    def hosts(self) -> tuple[Node, Node]:
        return self.a, self.b

    def _host(self, name: str) -> Node:
        namespace = self._joined(name)
        made = Node(namespace, self._own_folder(name), *addresses(name), self.folder / "authority", pods_number(name))
        self._nodes.append(made)
        for other in {"a", "b"} - {name}:
            self._reach_pods(made.name, other)
        return made

    def _reach_pods(self, namespace: str, of: str) -> None:
        for network, gateway in zip((POD_NETWORK, POD_NETWORK_6), addresses(of), strict=True):
            ip("-n", namespace, "route", "add", network.format(pods_number(of)), "via", gateway)

    def _left_behind(self) -> Iterator[str]:
        yield from super()._left_behind()
        for node in self.hosts:
            with contextlib.suppress(AssertionError):
                eventually(lambda n=node: not n.cgroup.processes(), "processes have ended", seconds=5)  # type: ignore[misc]
            # In namespaces of their own, as a pod's are.
            for pid in node.cgroup.processes():
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield f"process {pid} in {node.cgroup.path}: {words}"

    def _remove(self) -> None:
        for node in self._nodes:
            node.close()
        super()._remove()


def pods_number(name: str) -> int:
    return 100 + NUMBERS[name]
