"""What cover costs a node: time of a pod's start, memory, and the time to take all pods back."""

from __future__ import annotations

import statistics

from bench.measures import Measure, Round
from bench.node import Node, at_once
from bench.stage import Stage
from bench.way import Way

ONE_BY_ONE = 20
AT_ONCE = 50
PODS = 250
WITH, WITHOUT = "bridge, jfe", "bridge"


async def start(stage: Stage, _: list[Way]) -> Round:
    """One by one with and without us in turn, then fifty at once each way."""
    found = Round()
    async with stage.node() as node:
        await node.start_agent()
        await _warm_up(node)
        times: dict[bool, list[float]] = {True: [], False: []}
        for number in range(ONE_BY_ONE):
            for covered in (True, False) if number % 2 else (False, True):
                (pod,) = await node.make_pods(1)
                times[covered].append(await node.add(pod, covered=covered))
                await node.delete(pod, covered=covered)
        found.seen[WITH, "ADD ms"] = statistics.median(times[True]) * 1e3
        found.seen[WITHOUT, "ADD ms"] = statistics.median(times[False]) * 1e3
        found.ratios["cni_add_ms"] = found.seen[WITH, "ADD ms"] - found.seen[WITHOUT, "ADD ms"]
        for covered, way in ((False, WITHOUT), (True, WITH)):
            pods = await node.make_pods(AT_ONCE)
            found.seen[way, "ADD of 50 at once, s"] = await at_once(node, pods, covered=covered)
            for pod in pods:
                await node.delete(pod, covered=covered)
        more = found.seen[WITH, "ADD of 50 at once, s"] - found.seen[WITHOUT, "ADD of 50 at once, s"]
        found.ratios["cni_add_50_ms"] = more / AT_ONCE * 1e3
    return found


async def full(stage: Stage, _: list[Way]) -> Round:
    """A node with 250 pods: memory, and an agent that is killed and started again."""
    found = Round()
    async with stage.node() as node:
        await node.start_agent()
        await _warm_up(node)
        empty = node.upgrader_megabytes()
        for pod in await node.make_pods(PODS):
            await node.add(pod, covered=True)
        upgrader = node.upgrader_megabytes()
        found.seen["250 pods", "agent MB"] = node.agent_megabytes()
        found.seen["250 pods", "upgrader MB"] = upgrader
        found.seen["250 pods", "sockets a pod"] = node.sockets() / PODS
        found.ratios["node_mb_250"] = found.seen["250 pods", "agent MB"] + upgrader
        found.ratios["upgrader_kb_per_pod"] = (upgrader - empty) / PODS * 1e3
        await node.kill_agent()
        found.ratios["takeover_250_s"] = await node.start_agent()
    return found


async def _warm_up(node: Node) -> None:
    """Once each way: what is loaded, made or read the first time is no part of what a pod costs."""
    for covered in (True, False):
        (pod,) = await node.make_pods(1)
        await node.add(pod, covered=covered)
        await node.delete(pod, covered=covered)


PODS_MEASURES = (
    Measure("pods", ("cni_add_ms", "cni_add_50_ms"), (), start),
    Measure("full_node", ("node_mb_250", "upgrader_kb_per_pod", "takeover_250_s"), (), full),
)
