"""Workloads of the host's namespace on the real kernel: a cgroup under cover, and everything beside it as it was.

`peer` is the node, with an agent of its own; `pod` is another host, with an agent of its own that shares the authority.
"""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jfe_cni.agent.objects import DirectoryEntry, Enrolment, Mode, Target, network_of
from jfe_cni.agent.reports import WorkloadReport
from jfe_cni.errors import ConflictError
from jfe_cni.kernel.cgroups import CgroupTree, MadeCgroup
from tests.kernel import lab
from tests.kernel.agent_node import Node, settled
from tests.kernel.lab import Capture, Host
from tests.kernel.test_agent import CONVERSATION, PORT, WORD


@pytest.fixture
def node(peer: Host, tmp_path: Path, tree: CgroupTree) -> Iterator[Node]:
    yield from node_on(peer, tmp_path / "node", tmp_path, tree)


@pytest.fixture
def other(pod: Host, tmp_path: Path, tree: CgroupTree) -> Iterator[Node]:
    yield from node_on(pod, tmp_path / "other", tmp_path, tree)


def node_on(host: Host, folder: Path, shared: Path, tree: CgroupTree) -> Iterator[Node]:
    folder.mkdir()
    node = Node(host, folder)
    node.start("--authority-dir", str(shared / "authority"))
    try:
        yield node
        node.stop()
    finally:
        made = tree.create(f"jfe/{node.name}")
        made.kill()
        made.remove()


def enrol(node: Node, cgroup: MadeCgroup, mode: Mode = "strict") -> WorkloadReport:
    report: WorkloadReport = node.ask("enrol", Enrolment(Target("cgroup", str(cgroup.path)), mode, cgroup.path.name))
    return report


def made(tree: CgroupTree, node: Node, name: str) -> MadeCgroup:
    return tree.create(f"jfe/{node.name}/run/{name}")


def know(node: Node, address: str, port: int | None = None) -> None:
    prefix = ipaddress.ip_address(address).max_prefixlen
    node.ask("add_to_directory", [DirectoryEntry(network_of(f"{address}/{prefix}", "entry"), port)])


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_command_under_cover_calls_an_enrolled_peer_and_the_wire_shows_nothing(
    node: Node, other: Node, pod: Host, peer: Host, wire: Capture, tree: CgroupTree, family: str
) -> None:
    server, client = getattr(pod, family), getattr(peer, family)
    other.enrol(pod)
    pod.echo(server, PORT)
    know(node, server)
    cgroup = made(tree, node, "client")
    enrol(node, cgroup)
    assert peer.ask(server, PORT, WORD, cgroup=cgroup) == client.encode() + b" " + WORD
    assert WORD not in wire.payload()
    # What is not enrolled is untouched: bare as ever, and so refused by the strict server.
    assert isinstance(peer.ask(server, PORT, WORD), str)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_server_under_cover_is_known_by_its_port_and_sees_the_clients_address(
    node: Node, other: Node, pod: Host, peer: Host, wire: Capture, tree: CgroupTree, family: str
) -> None:
    server, client = getattr(peer, family), getattr(pod, family)
    cgroup = made(tree, node, "server")
    enrol(node, cgroup)
    peer.echo(server, PORT, cgroup=cgroup)
    peer.echo(server, PORT + 1)
    lab.until(lambda: PORT in [entry.port for entry in node.ask("directory")], "the port is not published")
    assert PORT + 1 not in [entry.port for entry in node.ask("directory")]
    other.enrol(pod, "permissive")
    know(other, server, PORT)
    assert pod.ask(server, PORT, WORD) == client.encode() + b" " + WORD
    assert WORD not in wire.payload()
    # Beside it, and not enrolled: as ever.
    assert pod.ask(server, PORT + 1, b"other") == client.encode() + b" other"


ONE_LISTENER_FOR_ALL = """
listener = socket.create_server(("", port)); told("made")
for folder in folders:
    if os.fork() == 0:
        open(folder, "w").write("0"); time.sleep(1000)
time.sleep(1000)
"""


def test_a_listener_that_two_commands_hold_is_the_firsts_and_nobody_else_is_troubled(
    node: Node, peer: Host, tree: CgroupTree
) -> None:
    one, two, three = (made(tree, node, name) for name in ("one", "two", "three"))
    folders = [str(each.procs) for each in (two, one)]
    assert lab.first_line(peer.python(ONE_LISTENER_FOR_ALL, port=PORT, folders=folders)) == "made"
    lab.until(lambda: bool(one.processes() and two.processes()), "they are not in their cgroups")

    def troubled() -> dict[str, bool]:
        return {each.id: f"port {PORT} is" in (each.trouble or "") for each in node.status().workloads}

    enrol(node, two)
    enrol(node, one)
    assert troubled() == {"one": True, "two": False}
    enrol(node, three)
    lab.until(lambda: {each.state for each in node.status().workloads} == {"covered"}, "not all are covered")
    named = {each.identity for each in node.ask("directory") if each.port == PORT}
    assert named == {each.identity for each in node.status().workloads if each.id == "two"}
    node.ask("unenrol", "two")
    assert troubled() == {"one": False, "three": False}
    assert PORT in [each.port for each in node.ask("directory")]


def test_whoever_could_step_round_the_rules_is_shown_however_deep_its_cgroup(
    node: Node, peer: Host, tree: CgroupTree
) -> None:
    cgroup = made(tree, node, "deep")
    peer.start("sleep", "1000", cgroup=tree.create(f"{cgroup.path}/a/b"))
    lab.until(lambda: bool(cgroup.processes()), "it is not in its cgroup")
    assert set(enrol(node, cgroup).hazards) == {"NET_RAW", "NET_ADMIN"}


def test_two_commands_at_once_have_two_identities(
    node: Node, other: Node, pod: Host, peer: Host, tree: CgroupTree
) -> None:
    other.enrol(pod)
    pod.echo(pod.ipv4, PORT)
    know(node, pod.ipv4)
    identities = set()
    for name in ("one", "two"):
        cgroup = made(tree, node, name)
        identities.add(enrol(node, cgroup).identity)
        lab.ready(peer.python(CONVERSATION, cgroup=cgroup, address=pod.ipv4, port=PORT, stopped=[]))
    seen: set[str | None] = set()

    def both_seen() -> bool:
        seen.update(each.peer for each in other.ask("connections") if each.direction == "inbound")
        return identities <= seen

    assert len(identities) == 2
    lab.until(both_seen, f"the server saw {seen}")


SILENT = """
talker = socket.create_connection((address, port)); told("ready")
try:
    told(talker.recv(1))
except OSError as error:
    told(type(error).__name__)
"""


def conversation(caller: Host, server: Host, cgroup: MadeCgroup | None = None) -> subprocess.Popen[str]:
    return lab.ready(caller.python(CONVERSATION, cgroup=cgroup, address=server.ipv4, port=PORT, stopped=[]))


def outcome(talk: subprocess.Popen[str]) -> str:
    """Of a conversation that is asked to come to its end."""
    assert talk.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        print(file=talk.stdin, flush=True)
    return lab.first_line(talk)


def open_at(server: Host) -> set[int]:
    """The callers' ports."""
    lines = server.command("ss", "-Htn", "state", "established", f"sport = :{PORT}").splitlines()
    return {int(line.split()[-1].rpartition(":")[2]) for line in lines}


def test_strict_resets_a_commands_open_connections_and_no_neighbours(
    node: Node, pod: Host, peer: Host, tree: CgroupTree
) -> None:
    pod.echo(pod.ipv4, PORT)
    cgroup, beside = made(tree, node, "client"), made(tree, node, "beside")
    own = [conversation(peer, pod, cgroup), conversation(peer, pod, made(tree, node, "client/below"))]
    own.append(lab.ready(peer.python(SILENT, cgroup=cgroup, address=pod.ipv4, port=PORT)))
    others = [conversation(peer, pod, beside), conversation(peer, pod)]
    enrol(node, cgroup, "strict")
    assert {lab.first_line(talk) for talk in own} <= {lab.RESET, lab.ABORTED}
    # Their peer has heard of the end too, also of the one on which nobody says a word.
    lab.until(lambda: len(open_at(pod)) == len(others), f"still open: {open_at(pod)}")
    assert [outcome(talk) for talk in others] == ["whole", "whole"]


def test_permissive_leaves_a_commands_open_connections_and_lists_them_and_no_neighbours(
    node: Node, pod: Host, peer: Host, tree: CgroupTree
) -> None:
    pod.echo(pod.ipv4, PORT)
    cgroup, beside = made(tree, node, "client"), made(tree, node, "beside")
    others = [conversation(peer, pod, beside), conversation(peer, pod)]
    known = open_at(pod)
    own = conversation(peer, pod, cgroup)
    (port,) = open_at(pod) - known
    bare = enrol(node, cgroup, "permissive").bare
    assert [(each.local_address, each.local_port, each.peer_address, each.peer_port) for each in bare] == [
        (peer.ipv4, port, pod.ipv4, PORT)
    ]
    assert [outcome(talk) for talk in (own, *others)] == ["whole"] * 3
    lab.until(lambda: node.ask("workload", "client").bare == (), "it is still listed")


def test_release_leaves_the_host_as_it_was(node: Node, peer: Host, tree: CgroupTree) -> None:
    before = settled(peer)
    one, two = made(tree, node, "one"), made(tree, node, "two")
    enrol(node, one)
    enrol(node, two, "permissive")
    node.ask("unenrol", "one")
    assert peer.state() != before
    node.ask("unenrol", "two")
    assert peer.state() == before


def test_a_command_whose_cgroup_is_gone_is_released(node: Node, peer: Host, tree: CgroupTree) -> None:
    before = settled(peer)
    cgroup = made(tree, node, "brief")
    enrol(node, cgroup)
    cgroup.remove()
    lab.until(lambda: node.status().workloads == (), "it is still there")
    assert peer.state() == before


def test_a_service_that_is_started_again_in_a_cgroup_made_anew_is_covered_again(
    node: Node, other: Node, pod: Host, peer: Host, tree: CgroupTree
) -> None:
    other.enrol(pod)
    pod.echo(pod.ipv4, PORT)
    know(node, pod.ipv4)
    path = f"jfe/{node.name}/service"
    enrol(node, tree.create(path))
    tree.create(path).remove()
    lab.until(lambda: [each.state for each in node.status().workloads] == ["absent"], "its absence is not seen")
    again = tree.create(path)
    lab.until(lambda: [each.state for each in node.status().workloads] == ["covered"], "its return is not seen")
    assert peer.ask(pod.ipv4, PORT, WORD, cgroup=again) == peer.ipv4.encode() + b" " + WORD


def test_a_restarted_agent_takes_host_workloads_back(
    node: Node, other: Node, pod: Host, peer: Host, tree: CgroupTree
) -> None:
    other.enrol(pod)
    pod.echo(pod.ipv4, PORT)
    know(node, pod.ipv4)
    cgroup = made(tree, node, "client")
    enrol(node, cgroup)
    talk = lab.ready(peer.python(CONVERSATION, cgroup=cgroup, address=pod.ipv4, port=PORT, stopped=[]))
    node.kill()
    node.start("--authority-dir", str(node.folder.parent / "authority"))
    lab.until(lambda: [each.state for each in node.status().workloads] == ["covered"], "not taken back")
    assert talk.stdin is not None
    print(file=talk.stdin, flush=True)
    assert lab.first_line(talk) == "whole"
    assert peer.ask(pod.ipv4, PORT, WORD, cgroup=cgroup) == peer.ipv4.encode() + b" " + WORD
    assert node.logged("rules-changed") == []


def test_another_agent_on_the_same_host_does_not_take_the_cover_away(
    node: Node, peer: Host, tmp_path: Path, tree: CgroupTree
) -> None:
    enrol(node, made(tree, node, "one"))
    second = Node(peer, tmp_path / "second")
    second.folder.mkdir()
    try:
        with pytest.raises(AssertionError, match="another agent has one under cover"):
            second.start()
    finally:
        tree.create(f"jfe/{second.name}/upgrader").remove()
    assert [each.state for each in node.status().workloads] == ["covered"]


def test_a_namespace_that_another_agent_has_under_cover_is_refused_and_left_as_it_is(
    node: Node, other: Node, pod: Host
) -> None:
    other.enrol(pod)
    before = settled(pod)
    with pytest.raises(ConflictError, match=f"is under cover as {pod.name}") as refused:
        node.ask("enrol", Enrolment(Target("netns", str(pod.path)), "strict", "mine"))
    assert f"jfe unenroll {pod.name}" in refused.value.remedy
    assert pod.state() == before
    assert node.status().workloads == ()
    other.ask("unenrol", pod.name)
    node.ask("enrol", Enrolment(Target("netns", str(pod.path)), "strict", "mine"))


def test_rules_that_a_lost_agent_left_of_the_same_workload_are_taken_over(
    node: Node, other: Node, pod: Host, tree: CgroupTree
) -> None:
    other.enrol(pod)
    other.kill()
    tree.create(f"jfe/{other.name}").kill()
    node.enrol(pod)
    assert node.covered(pod)
