"""The agents' own flows: what a collector is told of what went between workloads, and of what strangers sent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jfe_cni.agent.flows.unsent import Unsent
from tests.e2e.collector import PORT as COLLECTOR_PORT
from tests.e2e.collector import Collector, Told
from tests.e2e.command import client, identity, jfe_run, served
from tests.e2e.pod import enrol_pod, pod
from tests.e2e.talk import dialled, listening, received, talking
from tests.stage import Host, Place, Stage, eventually
from tests.stage.namespace import ip
from tests.stage.place import Version

PORT = 7001
EVERY = "0.3"
THERE, BACK = 4_000_000, 1_000_000
FLOOD = 20_000
# 100 bytes below 8 of UDP and 20 of IPv4.
OCTETS = 128
INGRESS, EGRESS = 0, 1
# Packets of which the two ends, and the link between them, may think differently: the handshake's, the last ACKs and
# what was sent anew. What came twice the receiver counts as a packet, and its bytes once.
PACKETS_APART = 12
LARGEST_PACKET = 1500


@pytest.fixture
def collector(stage: Stage) -> Iterator[Collector]:
    with Collector(stage.stranger).listening() as made:
        yield made


def options(stage: Stage) -> tuple[str, ...]:
    """One segment a packet, so that packets can be counted on the link."""
    for host in stage.hosts:
        ip("-n", host.name, "link", "set", "eth0", "gso_max_segs", "1")
    return "--flows-to", f"{stage.stranger.ipv4}:{COLLECTOR_PORT}", "--flows-every", EVERY


def of(
    flows: list[Told], exporter: Place, source: str, destination: str, protocol: int = socket.IPPROTO_TCP
) -> list[Told]:
    return [
        flow
        for flow in flows
        if (flow.exporter, flow.source, flow.destination, flow.protocol)
        == (exporter.ipv4, source, destination, protocol)
    ]


def packets(flows: list[Told]) -> int:
    return sum(flow.packets for flow in flows)


def octets(flows: list[Told]) -> int:
    return sum(flow.octets for flow in flows)


def transfer(caller: Place, callee: Place, version: Version = 4) -> None:
    """THERE bytes, then BACK, and the end."""
    with talking(caller, callee, PORT, version=version, first=b"x") as talk:
        for one, other, size in ((talk.client, talk.server, THERE), (talk.server, talk.client, BACK)):
            sent = 0
            part = bytes(100_000)
            while sent < size:
                one.sendall(part)
                received(other, len(part))
                sent += len(part)
        talk.client.shutdown(socket.SHUT_WR)
        assert talk.server.recv(1) == b""


@pytest.mark.parametrize("version", [4, 6])
def test_a_transfer_between_two_workloads_is_told_by_both_agents_as_it_went_over_the_link(
    stage: Stage, collector: Collector, version: Version
) -> None:
    stage.cover(*options(stage))
    a, b = stage.a.address(version), stage.b.address(version)
    before = time.time_ns() // 1000
    with stage.capture(f"tcp port {PORT}") as wire:
        transfer(stage.a, stage.b, version)
        told = (stage.a, a, b), (stage.a, b, a), (stage.b, a, b), (stage.b, b, a)

        def all_told() -> bool:
            found = [of(collector.told(), *each) for each in told]
            return all(
                octets(flows) >= size for flows, size in zip(found, (THERE, BACK, THERE, BACK), strict=True)
            ) and not any(host.ask(lambda agent: agent.connections()) for host in stage.hosts)

        eventually(all_told, "both agents tell of the transfer", otherwise=lambda: f"{collector.told()}")
    after = time.time_ns() // 1000
    field = "ip" if version == 4 else "ipv6"
    length = "ip.len" if version == 4 else "ipv6.plen"
    rows = wire.tshark(f"tcp.port=={PORT}", f"{field}.src", length, "tcp.srcport")
    for exporter, source, destination in told:
        flows = of(collector.told(), exporter, source, destination)
        seen = [int(size) + (0 if version == 4 else 40) for sender, size, _ in rows if sender == source]
        assert abs(packets(flows) - len(seen)) <= PACKETS_APART
        assert abs(octets(flows) - sum(seen)) <= PACKETS_APART * LARGEST_PACKET
        # The sender's way out is the receiver's way in.
        away = (exporter is stage.a) == (source == a)
        assert {flow.direction for flow in flows} == {EGRESS if away else INGRESS}
        client_port = {int(port) for sender, _, port in rows if sender == a}
        ports = {(flow.source_port, flow.destination_port) for flow in flows}
        assert ports == ({(*client_port, PORT)} if source == a else {(PORT, *client_port)})
        assert all(before - 1000 <= flow.first <= flow.last <= after for flow in flows)


def test_a_long_connection_is_told_in_slices_and_nothing_twice(stage: Stage, collector: Collector) -> None:
    stage.cover(*options(stage))

    def sent() -> list[Told]:
        return of(collector.told(), stage.a, stage.a.ipv4, stage.b.ipv4)

    with talking(stage.a, stage.b, PORT, first=b"x") as talk:
        for turn in range(1, 4):
            talk.client.sendall(bytes(200_000))
            received(talk.server, 200_000)
            eventually(lambda n=turn: octets(sent()) >= n * 200_000, "a slice is told")  # type: ignore[misc]
    assert len(sent()) >= 3
    eventually(lambda: not stage.a.ask(lambda agent: agent.connections()), "the connection has ended")
    assert 600_000 <= octets(sent()) < 640_000


@pytest.mark.parametrize("sender", ["a workload", "a stranger"])
def test_a_flood_of_connections_is_told_by_the_agent_of_who_suffers(
    stage: Stage, collector: Collector, sender: str
) -> None:
    stage.cover(*options(stage), mode_b="permissive")
    source: Place = stage.a if sender == "a workload" else stage.stranger
    with listening(stage.b, PORT) as listener:
        for _ in range(50):
            with dialled(source, stage.b.ipv4, PORT) as caller:
                caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
                server, _ = listener.accept()
                server.close()

        def told() -> list[Told]:
            return of(collector.told(), stage.b, source.ipv4, stage.b.ipv4)

        eventually(lambda: len({flow.source_port for flow in told()}) == 50, "each of the 50 connections is told")
    assert {flow.direction for flow in told()} == {INGRESS}


@contextlib.contextmanager
def tracking(host: Host) -> Iterator[None]:
    """Its kernel tracks, as it does where kube-proxy or docker is."""
    host.run(["nft", "add table inet t; add chain inet t c { type filter hook forward priority 0; }"])
    host.run(["nft", "add rule inet t c ct state new"])
    try:
        yield
    finally:
        host.run(["nft", "delete table inet t"])


def flood(source: Place, destination: str, count: int) -> int:
    """Its port."""
    with source.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((destination, PORT))
        for number in range(count):
            sender.send(bytes(100))
            if number % 50 == 0:
                time.sleep(0.001)
        port: int = sender.getsockname()[1]
        return port


def test_a_strangers_flood_of_datagrams_through_the_node_is_told_packet_by_packet_and_what_is_covered_once(
    stage: Stage, collector: Collector
) -> None:
    stage.start_agents(*options(stage), "--flows-conntrack", "account")
    stage.b.enrol("strict")
    with pod(stage, stage.a) as made, tracking(stage.a):
        identity = enrol_pod(stage.a, made)
        stage.b.know(made, identity=identity)
        stage.introduce(stage.b, to=stage.a)
        with made.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.bind((made.ipv4, PORT))
            port = flood(stage.stranger, made.ipv4, FLOOD)

            def flooded() -> list[Told]:
                return of(collector.told(), stage.a, stage.stranger.ipv4, made.ipv4, socket.IPPROTO_UDP)

            eventually(lambda: packets(flooded()) >= FLOOD, "the flood is told", otherwise=lambda: f"{flooded()}")
        transfer(made, stage.b)

        def covered() -> list[Told]:
            return of(collector.told(), stage.a, made.ipv4, stage.b.ipv4)

        eventually(lambda: octets(covered()) >= THERE, "the transfer is told")
        eventually(lambda: not stage.a.ask(lambda agent: agent.connections()), "the connection has ended")
        # Whoever tells of what came later has looked at the connection, too.
        later = flood(stage.stranger, made.ipv4, 1)
        eventually(lambda: later in {flow.source_port for flow in flooded()}, "conntrack was read once more")
        assert {flow.direction for flow in covered()} == {EGRESS}
        assert octets(covered()) < THERE * 1.1
        of_flood = [flow for flow in flooded() if flow.source_port == port]
        assert {flow.destination_port for flow in of_flood} == {PORT}
        assert (packets(of_flood), octets(of_flood)) == (FLOOD, FLOOD * OCTETS)
        metrics = stage.a.ask(lambda agent: agent.metrics())
        stage.a.unenrol("pod")
    assert 'jfe_flows_conntrack_absent{reason="not-accounted"} 0.0' in metrics
    stage.a.stop_agent()
    accounting = Path("/proc/sys/net/netfilter/nf_conntrack_acct")
    assert stage.a.inside(accounting.read_text).strip() == "0"


def test_of_commands_under_cover_on_hosts_whose_nat_is_tracked_each_connection_is_told_once_by_each_node(
    stage: Stage, collector: Collector
) -> None:
    stage.start_agents(*options(stage), "--flows-conntrack", "account")
    word = "w" * 100_000
    with served(stage.b, "server", PORT):
        stage.a.know(stage.b, identity=identity(stage.b, "server"), port=PORT)
        # It stays: with the last command of a host its rules go, and conntrack with them.
        stays = 'python=$1; shift; "$python" "$@" && echo done && sleep 300'
        command = jfe_run(stage.a, "client", "sh", "-c", stays, "sh", *client(stage.b.ipv4, PORT, word))
        stage.a.spawn(command, name="client").says("done")
        for host in stage.hosts:

            def fenced(host: Host = host) -> bool:
                flood(stage.stranger, host.ipv4, 1)
                return bool(of(collector.told(), host, stage.stranger.ipv4, host.ipv4, socket.IPPROTO_UDP))

            def told(host: Host = host) -> bool:
                ways = (stage.a.ipv4, stage.b.ipv4), (stage.b.ipv4, stage.a.ipv4)
                return all(octets(of(collector.told(), host, *way)) > len(word) for way in ways)

            eventually(told, f"{host.name} tells of the connection")
            eventually(fenced, f"{host.name} has read conntrack since", otherwise=host.agent.output)
        of_tcp = [flow for flow in collector.told() if flow.protocol == socket.IPPROTO_TCP]
        for host in stage.hosts:
            seen = [flow for flow in of_tcp if flow.exporter == host.ipv4]
            assert {flow.direction for flow in seen} == {INGRESS, EGRESS}
            assert {frozenset((flow.source, flow.destination)) for flow in seen} == {
                frozenset((stage.a.ipv4, stage.b.ipv4))
            }
            assert 2 * len(word) < octets(seen) < 2.5 * len(word)
        # The connection is one to both.
        assert len({frozenset((flow.source_port, flow.destination_port)) for flow in of_tcp}) == 1


def unsent(host: Host, reason: Unsent) -> float:
    lines = host.ask(lambda agent: agent.metrics()).splitlines()
    (line,) = [line for line in lines if line.startswith(f'jfe_flows_unsent_total{{reason="{reason}"}}')]
    return float(line.split()[-1])


@pytest.mark.parametrize("victim", ["a worker", "the upgrader"])
def test_what_a_killed_process_has_carried_is_told_and_the_next_ones_connections_are_too(
    stage: Stage, collector: Collector, victim: str
) -> None:
    stage.cover(*options(stage))

    def sent() -> list[Told]:
        return of(collector.told(), stage.a, stage.a.ipv4, stage.b.ipv4)

    with talking(stage.a, stage.b, PORT, first=b"x") as talk:
        talk.client.sendall(bytes(200_000))
        received(talk.server, 200_000)
        eventually(lambda: octets(sent()) >= 200_000, "a slice is told")
        broker, worker = stage.a.upgrader()
        os.kill(worker if victim == "a worker" else broker, signal.SIGKILL)
        eventually(lambda: unsent(stage.a, Unsent.UPGRADER_GONE) == 1, "it is counted whose rest nobody knows")
    stage.a.await_ready()

    def talks() -> bool:
        with contextlib.suppress(OSError, AssertionError):
            transfer(stage.a, stage.b)
            return True
        return False

    eventually(talks, "the next one relays")
    eventually(lambda: octets(sent()) >= 200_000 + THERE, "its connections are told")


def test_the_next_agent_tells_what_comes_and_not_again_what_was_told(stage: Stage, collector: Collector) -> None:
    stage.cover(*options(stage))

    def sent() -> list[Told]:
        return of(collector.told(), stage.a, stage.a.ipv4, stage.b.ipv4)

    with talking(stage.a, stage.b, PORT, first=b"x") as talk:
        talk.client.sendall(bytes(400_000))
        received(talk.server, 400_000)
        eventually(lambda: octets(sent()) >= 400_000, "a slice is told")
        before = octets(sent())
        stage.a.stop_agent(signal.SIGKILL)
        stage.a.start_agent(*options(stage))
        # Once the connection has been named to it, whatever comes is new to it.
        eventually(lambda: stage.a.ask(lambda agent: agent.connections()), "the connection goes on")
        talk.client.sendall(bytes(200_000))
        received(talk.server, 200_000)
        eventually(lambda: octets(sent()) >= before + 200_000, "what came later is told")
    assert octets(sent()) < before + 250_000


def test_an_agent_whose_collector_is_away_goes_on_and_counts_what_it_could_not_tell(stage: Stage) -> None:
    stage.cover(*options(stage))
    for _ in range(3):
        transfer(stage.a, stage.b)

    def tried() -> bool:
        with talking(stage.a, stage.b, PORT, first=b"x"):
            return unsent(stage.a, Unsent.COLLECTOR_AWAY) > 0

    eventually(tried, "what could not be told is counted")
    # Whoever listens from now on is told, templates first.
    with Collector(stage.stranger).listening() as late:

        def told() -> bool:
            with talking(stage.a, stage.b, PORT, first=b"x"):
                return bool(of(late.told(), stage.a, stage.a.ipv4, stage.b.ipv4))

        eventually(told, "a collector that comes later is told")
