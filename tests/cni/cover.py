"""Pods under cover: by an agent that knows what their namespaces ask for, and how a test sees that they are."""

from __future__ import annotations

from jfe_cni.agent.objects import DirectoryEntry, network_of
from jfe_cni.agent.reports import WorkloadReport
from tests.cni.pod import Pod
from tests.e2e.talk import goes_both_ways, talking
from tests.stage import Stage
from tests.stage.node import Node
from tests.stage.place import Version

PORT = 8080
# Pods of the namespace `shop` are strict, and may ask for less; all others are permissive.
NAMESPACES = """
default = "permissive"
release-namespace = "jfe-system"

[namespaces.shop]
mode = "strict"
allow-weaken = true

[namespaces.vault]
mode = "strict"
"""


def start_agent(node: Node) -> None:
    table = node.folder / "cni-namespaces.toml"
    table.write_text(NAMESPACES)
    node.start_agent("--cni-namespaces", str(table))


def workloads(node: Node) -> list[WorkloadReport]:
    return node.ask(lambda agent: agent.workloads())


def workload_of(pod: Pod) -> WorkloadReport | None:
    """None: no attachment of this pod is known to its node's agent."""
    found = [
        each
        for each in workloads(pod.node)
        if any(attachment.container == pod.container for attachment in each.attachments)
    ]
    assert len(found) <= 1, f"{pod.name} is enrolled more than once: {found}"
    return found[0] if found else None


def is_bare(pod: Pod) -> bool:
    """Nothing of ours is in its namespace: no table, no rule of policy routing."""
    rules = pod.run(["nft", "list", "ruleset"]).stdout.decode()
    routing = pod.run(["ip", "rule", "show"]).stdout.decode()
    return "jfe" not in rules and "fwmark" not in routing


def introduce(pod: Pod, to: Node) -> None:
    """`to` gets to know that the pod is covered, and as whom."""
    addresses = [address for address in (pod.ipv4, pod.ipv6) if address]
    entries = [DirectoryEntry(network_of(address, "the test"), None, pod.identity) for address in addresses]
    to.ask(lambda agent: agent.add_to_directory(entries))


def check_mutual(stage: Stage, client: Pod, server: Pod, port: int = PORT, *, version: Version = 4) -> None:
    """What one says to the other is TLS on the link, and the server sees the client's own address."""
    introduce(server, to=client.node)
    introduce(client, to=server.node)
    with stage.capture() as wire, talking(client, server, port, version=version) as talk:
        assert talk.seen[0] == client.address(version)
        assert goes_both_ways(talk)
    assert wire.tls(port)
    told = server.node.told(direction="inbound", reason="mutual", peer=client.identity)
    source = client.ipv4 if version == 4 else f"[{client.ipv6}]"
    assert any(each.source.startswith(f"{source}:") for each in told)
