"""Whose a port is on which two host workloads hold listeners that others made for them. Pure.

Two units that are activated by sockets on one port of two addresses, or one descriptor that was passed to both: a rule
knows such a listener by its port alone, so that what arrives there can be taken for one of them only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jfe_cni.agent.workload import Workload


def holders(workloads: Iterable[Workload], before: Mapping[int, str]) -> dict[int, str]:
    """The workload's id by port: who had it `before` and still listens there, else the smallest id."""
    asking: dict[int, list[str]] = {}
    for workload in workloads:
        for port in workload.lent_ports:
            asking.setdefault(port, []).append(workload.id)
    return {port: before[port] if before.get(port) in ids else min(ids) for port, ids in asking.items()}


def yielded(workload: Workload, held: Mapping[int, str]) -> dict[int, str]:
    """The workload's lent ports that are another's, and whose."""
    return {port: held[port] for port in workload.lent_ports if held.get(port, workload.id) != workload.id}


def trouble(ports: Mapping[int, str]) -> str | None:
    """What a person is told of the `yielded` ports."""
    if not ports:
        return None
    said = "; ".join(f"port {port} is {holder}'s, which holds a listener there, too" for port, holder in ports.items())
    return f"{said}: give each a port of its own"
