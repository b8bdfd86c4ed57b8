"""What the agent asks of the kernel: to put a workload under cover, to see that it is, to release it."""

from __future__ import annotations

from dataclasses import dataclass

from jfe_cni.kernel.namespace import Namespace
from jfe_cni.rules.model import HostIntent, Mark, NamespaceIntent


@dataclass(frozen=True)
class Tagged:
    """One object of ours in the kernel: `kind` is "table", "policy rule" or "route"; `what` is its name or selector."""

    kind: str
    what: str
    workloads: tuple[str, ...]


class Cover:
    """Every method raises JfeError, and has then undone whatever it did. One call at a time for one namespace."""

    async def install_namespace(self, intent: NamespaceIntent, namespace: Namespace) -> None:
        """Rules, policy routing and sysctls of one workload; replaces what an earlier intent left there."""
        raise NotImplementedError

    async def check_namespace(self, intent: NamespaceIntent, namespace: Namespace) -> tuple[str, ...]:
        """What is not as `intent` wants it, in words; empty: whole."""
        raise NotImplementedError

    async def remove_namespace(self, namespace: Namespace, mark: Mark) -> None:
        """Leave rules, routes and sysctls as before the enrolment; done already is done."""
        raise NotImplementedError

    async def install_host(self, intent: HostIntent) -> None:
        raise NotImplementedError

    async def check_host(self, intent: HostIntent) -> tuple[str, ...]:
        raise NotImplementedError

    async def remove_host(self, mark: Mark) -> None:
        raise NotImplementedError

    async def list_tagged(self, namespace: Namespace | None = None, mark: Mark | None = None) -> tuple[Tagged, ...]:
        """All of ours in `namespace` (absent: this process's own)."""
        raise NotImplementedError
