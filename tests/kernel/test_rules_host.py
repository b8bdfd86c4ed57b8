"""Workloads of the host's own namespace, for which a namespace stands in here: each a cgroup, nobody else touched."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest

from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from jfe_cni.kernel.nft import Nft
from jfe_cni.rules import host as rules
from jfe_cni.rules.model import ConnectionTuple, HostIntent, HostWorkload, Mode
from tests.kernel.lab import (
    CALL_FROM_ONE_PORT,
    CLOSE_FIRST,
    INVERTED,
    MARK,
    REFUSED,
    RESET,
    TIMEOUT,
    Capture,
    Host,
    StandIn,
    Upgrader,
    first_line,
    ready,
)

SECRET = b"never-to-be-seen-on-a-wire"
BOTH = pytest.mark.parametrize("version", ["ipv4", "ipv6"])

COVER = """
# The host's rules go into this process's own namespace, so the one that loads them lives in the namespace under test.
import asyncio, sys
from ipaddress import ip_address
from jfe_cni.errors import JfeError
from jfe_cni.kernel import sockets
from jfe_cni.kernel.cover import Cover
from jfe_cni.rules.model import *
cover = Cover()
async def main():
    for line in sys.stdin:
        verb, intent = eval(line)
        try:
            print(repr(await getattr(cover, verb)(intent)), flush=True)
        except JfeError as error:
            print("error:", error, flush=True)
asyncio.run(main())
"""


def address(host: Host, version: str) -> str:
    return str(getattr(host, version))


@dataclass
class Agent:
    """A process in the host's namespace that loads rules there."""

    process: subprocess.Popen[str]

    def do(self, verb: str, what: object) -> str:
        assert self.process.stdin is not None
        text = re.sub(r"<(Mode\.\w+): '\w+'>", r"\1", repr((verb, what)))
        self.process.stdin.write(re.sub(r"IPv[46]Address", "ip_address", text) + "\n")
        self.process.stdin.flush()
        return first_line(self.process)


@dataclass
class Enrolled:
    """Two workloads, each with listeners of its own, and what else the tests need."""

    first: MadeCgroup
    second: MadeCgroup
    first_ports: StandIn
    second_ports: StandIn
    intent: HostIntent
    agent: Agent


@pytest.fixture
def agent(pod: Host) -> Agent:
    return Agent(pod.start(sys.executable, "-u", "-c", COVER))


@pytest.fixture
def enrolled(pod: Host, tree: CgroupTree, cgroups: MadeCgroup, upgrader: Upgrader, agent: Agent) -> Enrolled:
    first = tree.create(str(cgroups.path / "run" / "first"))
    second = tree.create(str(cgroups.path / "second"))
    ports = upgrader.start(pod), upgrader.start(pod)
    workloads = tuple(
        HostWorkload(name, tree.cgroup(str(made.path)), started.outbound, started.inbound, Mode.STRICT)
        for name, made, started in (("first", first, ports[0]), ("second", second, ports[1]))
    )
    intent = HostIntent(MARK, upgrader.exemption, workloads)
    assert agent.do("install_host", intent) == "()"
    return Enrolled(first, second, *ports, intent, agent)


@BOTH
def test_what_a_workload_sends_is_taken(pod: Host, peer: Host, enrolled: Enrolled, wire: Capture, version: str) -> None:
    peer.echo(address(peer, version), 80, inverted=True)
    for cgroup in (enrolled.first, enrolled.second):
        answer = pod.ask(address(peer, version), 80, SECRET, cgroup=cgroup)
        assert answer == address(pod, version).encode() + b" " + SECRET
    assert SECRET not in wire.payload()


@BOTH
def test_a_process_below_a_workloads_cgroup_is_taken_too(
    pod: Host, peer: Host, tree: CgroupTree, enrolled: Enrolled, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80, inverted=True)
    below = tree.create(str(enrolled.first.path / "of-its-own"))
    answer = pod.ask(address(peer, version), 80, SECRET, cgroup=below)
    assert answer == address(pod, version).encode() + b" " + SECRET
    assert SECRET not in wire.payload()


@BOTH
def test_a_process_that_is_not_enrolled_is_untouched(
    pod: Host, peer: Host, enrolled: Enrolled, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80)
    pod.echo(address(pod, version), 91)
    here, there = address(pod, version), address(peer, version)
    assert pod.ask(there, 80, SECRET) == here.encode() + b" " + SECRET
    assert peer.ask(here, 91, SECRET) == there.encode() + b" " + SECRET
    assert peer.ask(here, 99, SECRET) == REFUSED
    assert pod.ask(there, 99, SECRET) == REFUSED
    assert SECRET in wire.payload()


@BOTH
def test_a_workloads_server_sees_its_clients_address(pod: Host, peer: Host, enrolled: Enrolled, version: str) -> None:
    for port, cgroup in ((90, enrolled.first), (92, enrolled.second)):
        pod.echo(address(pod, version), port, cgroup=cgroup)
        answer = peer.ask(address(pod, version), port, SECRET.translate(INVERTED))
        assert isinstance(answer, bytes)
        assert answer.translate(INVERTED) == address(peer, version).encode() + b" " + SECRET


def test_a_workloads_own_loopback_is_left_alone(pod: Host, enrolled: Enrolled) -> None:
    pod.echo("127.0.0.1", 91, cgroup=enrolled.first)
    assert pod.ask("127.0.0.1", 91, b"?", cgroup=enrolled.second) == b"127.0.0.1 ?"


def test_a_listener_that_another_made_is_covered_by_its_port(
    pod: Host, peer: Host, enrolled: Enrolled, upgrader: Upgrader
) -> None:
    pod.echo(pod.ipv4, 93)  # made outside any workload's cgroup, as by a supervisor
    first, second = enrolled.intent.workloads
    intent = replace(enrolled.intent, workloads=(replace(first, listener_ports=(93,)), second))
    assert enrolled.agent.do("install_host", intent) == "()"
    answer = peer.ask(pod.ipv4, 93, SECRET.translate(INVERTED))
    assert isinstance(answer, bytes)
    assert answer.translate(INVERTED) == peer.ipv4.encode() + b" " + SECRET


@BOTH
def test_a_workload_bound_to_a_device_works(
    pod: Host, peer: Host, enrolled: Enrolled, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80, inverted=True)
    before = "asker.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')"
    answer = pod.ask(address(peer, version), 80, SECRET, before=before, cgroup=enrolled.first)
    assert answer == address(pod, version).encode() + b" " + SECRET
    assert SECRET not in wire.payload()


@BOTH
def test_raw_sockets_of_a_workload_send_no_tcp(
    pod: Host, peer: Host, enrolled: Enrolled, wire: Capture, version: str
) -> None:
    pod.run(
        """
        raw = socket.socket(family(there), socket.SOCK_RAW, socket.IPPROTO_TCP)
        for mark in (0, mark):
            raw.setsockopt(socket.SOL_SOCKET, 36, mark)
            for flags in range(64):
                header = struct.pack("!HHIIBBHHH", 5555, 80, 1000, 2000, 0x50, flags, 1000, 0, 0)
                try:
                    raw.sendto(header + secret, (there, 0))
                except OSError:
                    pass
        """,
        cgroup=enrolled.first,
        there=address(peer, version),
        mark=MARK.bit,
        secret=SECRET,
    )
    assert SECRET not in wire.payload()


@BOTH
def test_data_of_a_connection_that_is_closed_at_once_never_leaves_as_it_was(
    pod: Host, peer: Host, enrolled: Enrolled, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80, inverted=True)
    pod.run(
        """
        sender = open_socket(address); sender.connect((address, 80)); sender.setblocking(False)
        try:
            while True:
                sender.send(secret * 2000)
        except BlockingIOError:
            sender.close()
        """,
        cgroup=enrolled.first,
        address=address(peer, version),
        secret=SECRET,
    )
    assert SECRET not in wire.payload()


ATTEMPT = """
asker = open_socket(address); asker.settimeout(0.5)
try:
    asker.connect((address, port)); asker.sendall(secret); told("connected")
except OSError as error:
    told(type(error).__name__)
"""


@BOTH
def test_after_the_upgrader_died_nothing_leaves_and_nothing_comes_in(
    pod: Host, peer: Host, enrolled: Enrolled, wire: Capture, version: str
) -> None:
    pod.echo(address(pod, version), 90, cgroup=enrolled.first)
    peer.echo(address(peer, version), 80)
    enrolled.first_ports.kill()
    there, here = address(peer, version), address(pod, version)
    assert pod.run(ATTEMPT, cgroup=enrolled.first, address=there, port=80, secret=SECRET) == REFUSED
    assert peer.run(ATTEMPT, address=here, port=90, secret=SECRET) == "TimeoutError"
    assert SECRET not in wire.payload()


@BOTH
def test_whoever_binds_the_dead_upgraders_ports_gets_nothing(
    pod: Host, peer: Host, enrolled: Enrolled, version: str
) -> None:
    pod.echo(address(pod, version), 90, cgroup=enrolled.first)
    enrolled.first_ports.kill()
    thief = ready(
        pod.python(
            """
            def serve(listener):
                while True:
                    told("stolen from", listener.accept()[1])
            for address, level, option in (("127.0.0.1", 0, 19), ("::1", 41, 75)):
                for port, transparent in zip(ports, (0, 1)):
                    listener = socket.socket(family(address))
                    listener.setsockopt(level, option, transparent)
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind((address, port)); listener.listen()
                    threading.Thread(target=serve, args=(listener,), daemon=True).start()
            told("ready")
            time.sleep(PATIENCE)
            """,
            ports=[enrolled.first_ports.outbound, enrolled.first_ports.inbound],
        )
    )
    there, here = address(peer, version), address(pod, version)
    assert pod.run(ATTEMPT, cgroup=enrolled.first, address=there, port=80, secret=SECRET) == REFUSED
    assert peer.run(ATTEMPT, address=here, port=90, secret=SECRET) == "TimeoutError"
    thief.kill()
    assert thief.stdout is not None
    assert thief.stdout.read() == ""


@BOTH
def test_without_policy_rule_and_nat_nothing_leaves(
    pod: Host, peer: Host, enrolled: Enrolled, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80)
    for family in ("-4", "-6"):
        pod.command("ip", family, "rule", "delete", "fwmark", f"{MARK.bit:#x}/{MARK.bit:#x}")
    pod.command("nft", "flush chain inet jfe_host redirected")
    there = address(peer, version)
    pod.run(
        """
        raw = socket.socket(family(address), socket.SOCK_RAW, socket.IPPROTO_TCP)
        raw.sendto(struct.pack("!HHIIBBHHH", 5555, 80, 1, 0, 0x50, 2, 1000, 0, 0) + secret, (address, 0))
        """,
        cgroup=enrolled.first,
        address=there,
        secret=SECRET,
    )
    assert pod.run(ATTEMPT, cgroup=enrolled.first, address=there, port=80, secret=SECRET) == "TimeoutError"
    assert SECRET not in wire.payload()


def test_a_client_that_uses_its_port_again_never_meets_the_application_in_clear(
    pod: Host, peer: Host, enrolled: Enrolled
) -> None:
    """Behind TIME_WAIT no cgroup is seen, so it cannot be said whose listener it is: the client tries again later."""
    server = ready(pod.python(CLOSE_FIRST, cgroup=enrolled.first, address=pod.ipv4, port=90))
    out = peer.run(CALL_FROM_ONE_PORT, address=pod.ipv4, port=90, message=SECRET, turns=2, patience=0.5)
    assert out.split() == ["True", "TimeoutError"]
    assert first_line(server) != "4444"
    assert peer.ask(pod.ipv4, 90, SECRET) == SECRET
    assert first_line(server) != "4444"


def test_what_the_host_forwards_to_others_on_the_same_port_is_left_alone(
    pod: Host, peer: Host, enrolled: Enrolled
) -> None:
    """A listener on all addresses matches in prerouting whatever the packet's destination."""
    pod.echo("0.0.0.0", 90, cgroup=enrolled.first)
    pod.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
    pod.command("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    pod.command("ip", "link", "set", "up0", "up")
    pod.command("ip", "link", "set", "up1", "up")
    pod.command("ip", "route", "add", "10.98.0.0/24", "dev", "up0")
    pod.command("nft", "add table ip seen; add chain ip seen f { type filter hook forward priority 0; }; "
                "add rule ip seen f tcp dport 90 counter")  # fmt: skip
    peer.command("ip", "route", "add", "10.98.0.0/24", "via", pod.ipv4)
    peer.run(ATTEMPT, address="10.98.0.5", port=90, secret=SECRET)
    assert "counter packets 0" not in pod.command("nft", "list", "chain", "ip", "seen", "f")


@BOTH
@pytest.mark.parametrize("listener", ["its own", "another's, on one address", "another's, on all addresses"])
def test_the_last_word_of_a_handshake_by_cookies_does_not_reach_the_application(
    pod: Host, peer: Host, enrolled: Enrolled, version: str, listener: str
) -> None:
    """Nothing is kept of such a handshake, and the cookie is good for any listener of that address and port."""
    pod.command("sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
    first, second = enrolled.intent.workloads
    intent = replace(enrolled.intent, workloads=(replace(first, listener_ports=(93,)), second))
    assert enrolled.agent.do("install_host", intent) == "()"
    here = address(pod, version)
    port, cgroup = (90, enrolled.first) if listener == "its own" else (93, None)
    pod.echo("::" if "all" in listener else here, port, cgroup=cgroup)
    answer = peer.ask(here, port, SECRET.translate(INVERTED))
    assert isinstance(answer, bytes)
    assert answer.translate(INVERTED).endswith(address(peer, version).encode() + b" " + SECRET)


def test_refused_by_the_peer_is_reset_for_the_application(pod: Host, peer: Host, enrolled: Enrolled) -> None:
    assert pod.ask(peer.ipv4, 99, b"?", cgroup=enrolled.first) == RESET


def test_permissive_leaves_open_connections_as_they_are(
    pod: Host, peer: Host, agent: Agent, tree: CgroupTree, cgroups: MadeCgroup, upgrader: Upgrader
) -> None:
    peer.echo(peer.ipv4, 80)
    made = tree.create(str(cgroups.path / "run" / "first"))
    call = ready(
        pod.python(
            """
            caller = open_socket(address); caller.bind(("", 4444)); caller.connect((address, 80)); told("ready")
            for line in sys.stdin:
                caller.sendall(line.encode()); told(caller.recv(100))
            """,
            cgroup=made,
            address=peer.ipv4,
        )
    )
    started = upgrader.start(pod)
    bare = (ConnectionTuple(ip_address(pod.ipv4), 4444, ip_address(peer.ipv4), 80),)
    workload = HostWorkload(
        "first", tree.cgroup(str(made.path)), started.outbound, started.inbound, Mode.PERMISSIVE, (), bare
    )
    assert agent.do("install_host", HostIntent(MARK, upgrader.exemption, (workload,))) == "()"
    assert call.stdin is not None
    call.stdin.write("still bare\n")
    call.stdin.flush()
    assert "still bare" in first_line(call)


def test_route_localnet_does_not_open_the_upgraders_listeners(pod: Host, peer: Host, enrolled: Enrolled) -> None:
    """An administrator may set it for other reasons: then whoever is on the link reaches what listens on 127.0.0.1."""
    pod.echo("127.0.0.1", 91)
    for host in (pod, peer):
        host.command("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    peer.command("ip", "address", "delete", "127.0.0.1/8", "dev", "lo")
    peer.command("ip", "route", "add", "127.0.0.1", "via", pod.ipv4, "src", peer.ipv4)
    assert peer.ask("127.0.0.1", 91, b"?") == peer.ipv4.encode() + b" ?"
    for started in (enrolled.first_ports, enrolled.second_ports):
        for port in (started.outbound, started.inbound):
            assert peer.run(ATTEMPT, address="127.0.0.1", port=port, secret=SECRET) == TIMEOUT


@BOTH
@pytest.mark.parametrize("bound", ["one address", "all addresses"])
def test_a_transparent_listener_of_somebody_else_is_left_alone(
    pod: Host, peer: Host, enrolled: Enrolled, version: str, bound: str
) -> None:
    """Another proxy's, say."""
    here = address(pod, version)
    ready(
        pod.python(
            """
            listener = socket.socket(family(address))
            level, option = (41, 75) if ":" in address else (0, 19)  # IPV6_TRANSPARENT, IP_TRANSPARENT
            listener.setsockopt(level, option, 1)
            listener.bind((address if one else "", 91)); listener.listen()
            told("ready")
            connection, _ = listener.accept(); connection.sendall(connection.recv(100))
            """,
            address=here,
            one=bound == "one address",
        )
    )
    assert peer.ask(here, 91, b"?") == b"?"


@BOTH
def test_even_what_conntrack_does_not_know_reaches_a_workloads_own_host(
    pod: Host, enrolled: Enrolled, version: str
) -> None:
    """TCP from a raw socket, without a flag: its own addresses never leave."""
    out = pod.run(
        """
        raw = socket.socket(family(address), socket.SOCK_RAW, socket.IPPROTO_TCP); raw.settimeout(2)
        raw.sendto(struct.pack("!HHIIBBHHH", 5555, 80, 1000, 2000, 0x50, 0, 1000, 0, 0) + word, (address, 0))
        try:
            told(word in raw.recv(1000))
        except OSError as error:
            told(type(error).__name__)
        """,
        cgroup=enrolled.first,
        address=address(pod, version),
        word=SECRET,
    )
    assert out == "True"


@BOTH
def test_the_upgrader_is_exempt_even_below_a_workloads_cgroup(
    pod: Host, peer: Host, agent: Agent, tree: CgroupTree, cgroups: MadeCgroup, upgrader: Upgrader, version: str
) -> None:
    """As where somebody enrols the whole slice in which its agent runs, too."""
    inner = tree.create(str(cgroups.path / "run"))
    started = upgrader.start(pod)
    workload = HostWorkload("all", tree.cgroup(str(cgroups.path)), started.outbound, started.inbound, Mode.STRICT)
    assert agent.do("install_host", HostIntent(MARK, upgrader.exemption, (workload,))) == "()"
    here, there = address(pod, version), address(peer, version)
    peer.echo(there, 80, inverted=True)
    pod.echo(here, 90, cgroup=inner)
    assert pod.ask(there, 80, SECRET, cgroup=inner) == here.encode() + b" " + SECRET
    answer = peer.ask(here, 90, SECRET.translate(INVERTED))
    assert isinstance(answer, bytes)
    assert answer.translate(INVERTED) == there.encode() + b" " + SECRET


@BOTH
def test_a_new_connection_with_the_numbers_of_one_that_was_left_open_is_refused(
    pod: Host, peer: Host, agent: Agent, tree: CgroupTree, cgroups: MadeCgroup, upgrader: Upgrader, version: str
) -> None:
    """It would be taken for the old one, and be bare."""
    here, there = address(pod, version), address(peer, version)
    peer.echo(there, 80)
    made = tree.create(str(cgroups.path / "run" / "first"))
    started = upgrader.start(pod)
    bare = (ConnectionTuple(ip_address(here), 4444, ip_address(there), 80),)
    cgroup = tree.cgroup(str(made.path))
    workload = HostWorkload("first", cgroup, started.outbound, started.inbound, Mode.PERMISSIVE, (), bare)
    assert agent.do("install_host", HostIntent(MARK, upgrader.exemption, (workload,))) == "()"
    assert pod.ask(there, 80, SECRET, before="asker.bind(('', 4444))", cgroup=made) == REFUSED


def test_release_leaves_the_host_as_it_was(
    pod: Host, agent: Agent, upgrader: Upgrader, tree: CgroupTree, cgroups: MadeCgroup
) -> None:
    before = pod.state()
    intent = HostIntent(
        MARK, upgrader.exemption, (HostWorkload("w", tree.cgroup(str(cgroups.path)), 61001, 61002, Mode.STRICT),)
    )
    assert agent.do("install_host", intent) == "()"
    assert agent.do("check_host", intent) == "()"
    assert "'w'" in agent.do("list_tagged", None)
    pod.command("nft", "delete table inet jfe_host")
    assert "missing" in agent.do("check_host", intent)
    assert agent.do("install_host", intent) == "()"
    assert agent.do("remove_host", MARK) == "None"
    assert agent.do("remove_host", MARK) == "None"
    assert pod.state() == before


def test_a_workload_whose_cgroup_is_gone_is_named_and_nothing_is_left(
    pod: Host, agent: Agent, upgrader: Upgrader, tree: CgroupTree
) -> None:
    before = pod.state()
    gone = tree.cgroup("jfe-test-gone/x")
    intent = HostIntent(MARK, upgrader.exemption, (HostWorkload("w", gone, 61001, 61002, Mode.STRICT),))
    assert gone.path in agent.do("install_host", intent)
    assert pod.state() == before


async def test_the_rules_of_a_host_without_workloads_load(pod: Host, upgrader: Upgrader, nft: Nft) -> None:
    with pod.open() as namespace:
        await nft.load(rules.host_ruleset(HostIntent(MARK, upgrader.exemption, ())), namespace)
