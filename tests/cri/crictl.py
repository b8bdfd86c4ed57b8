"""crictl, which speaks the container runtime interface (CRI) as the kubelet does."""

from __future__ import annotations

import json

from tests.stage.node import Node
from tests.stage.programs import go_program

SOCKET = "/run/containerd/containerd.sock"


class Crictl:
    """On a node whose containerd runs."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._files = node.folder / "crictl"
        self._files.mkdir(exist_ok=True)

    def __call__(self, *words: str) -> str:
        return self.node.run(self.command(*words)).stdout.decode()

    def command(self, *words: str) -> list[str]:
        # Its own limit, 2 s, is for somebody who waits at a terminal.
        options = ["--runtime-endpoint", f"unix://{SOCKET}", "--image-endpoint", f"unix://{SOCKET}", "--timeout", "30s"]
        return [str(go_program("crictl")), *options, *words]

    def file(self, name: str, value: object) -> str:
        """Where `value` now is, for a verb that reads it."""
        path = self._files / f"{name}.json"
        path.write_text(json.dumps(value))
        return str(path)

    def pods(self) -> list[str]:
        """Those that are known, running or not."""
        return self("pods", "--quiet").split()

    def networks(self) -> list[object]:
        """The conflists of the node that the runtime has in use."""
        used = json.loads(self("info"))["cniconfig"]["Networks"]
        return [json.loads(each["Config"]["Source"]) for each in used]
