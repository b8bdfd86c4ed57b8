"""The agent on the real kernel, with the real upgrader: `peer` is its node, `pod` a workload at the end of a link."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from jfe_cni.agent.client import AgentClient
from jfe_cni.agent.objects import DirectoryEntry, Enrolment, Target, network_of
from jfe_cni.errors import ConflictError, JfeError, NamespaceGone, RequestError
from jfe_cni.kernel.cgroups import CgroupTree
from jfe_cni.rules.closed_link import closed_link_table
from tests.kernel import lab
from tests.kernel.agent_node import Node, cover_of, pids_of_upgrader, run, settled
from tests.kernel.lab import Capture, Host

WORD = b"the word that nobody on the link should read"
PORT = 7000

# Sends and hears one word every few milliseconds on one connection, until it is told to stop.
CONVERSATION = """
talker = socket.create_connection((address, port)); talker.settimeout(PATIENCE)
told("ready")
rounds = 0
threading.Thread(target=lambda: (sys.stdin.readline(), stopped.append(True)), daemon=True).start()
try:
    while not stopped:
        talker.sendall(b"word"); talker.recv(1000); rounds += 1; time.sleep(0.002)
    told("whole")
except OSError as error:
    told(type(error).__name__)
"""


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_two_enrolled_workloads_talk_unchanged_and_the_wire_shows_nothing(
    node: Node, pod: Host, peer: Host, wire: Capture, family: str
) -> None:
    address, client = (getattr(peer, family), getattr(pod, family))
    node.enrol(pod)
    node.enrol(peer)
    peer.echo(address, PORT)
    assert pod.ask(address, PORT, WORD) == client.encode() + b" " + WORD
    assert WORD not in wire.payload()


def test_an_agent_says_that_it_has_proved_its_rules_before_it_answers(node: Node) -> None:
    status = node.status()
    assert status.rules_proven
    assert status.upgrader_connected


def test_unenrolment_leaves_the_namespace_as_it_was(node: Node, pod: Host) -> None:
    before = settled(pod)
    node.enrol(pod)
    assert pod.state() != before
    node.ask("unenrol", pod.name)
    assert pod.state() == before
    assert node.status().workloads == ()


def test_an_agent_that_ends_with_its_command_leaves_nothing(
    idle: Node, pod: Host, peer: Host, tree: CgroupTree
) -> None:
    before = settled(pod), settled(peer)
    idle.start()
    idle.enrol(pod)
    idle.enrol(peer)
    idle.stop()
    assert (pod.state(), peer.state()) == before
    assert not tree.path(f"jfe/{idle.name}").exists()
    assert not idle.socket.exists()


def test_of_two_enrolments_at_once_one_is_done_and_the_other_told_why_not(node: Node, pod: Host) -> None:
    async def both() -> list[object]:
        async with AgentClient(node.socket) as agent:
            target = Target("netns", str(pod.path))
            wishes = (Enrolment(target, "strict", name) for name in ("one", "two"))
            return list(await asyncio.gather(*(agent.enrol(wish) for wish in wishes), return_exceptions=True))

    done = run(both())
    assert sorted(type(each).__name__ for each in done) == ["ConflictError", "WorkloadReport"]
    assert len(node.status().workloads) == 1


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        (Target("netns", "/run/netns/no-such-namespace"), NamespaceGone),
        (Target("netns", "/etc/hostname"), RequestError),
        (Target("pid", "4194304"), NamespaceGone),
        (Target("cgroup", "jfe/no/such/cgroup"), RequestError),
        (Target("cgroup", "../etc"), RequestError),
    ],
)
def test_what_cannot_be_enrolled_is_refused_and_leaves_nothing(
    node: Node, target: Target, fault: type[JfeError]
) -> None:
    with pytest.raises(fault):
        node.ask("enrol", Enrolment(target, name="x"))
    assert node.status().workloads == ()


def test_the_whole_hosts_namespace_is_refused(node: Node) -> None:
    assert node.process is not None
    for target in (Target("pid", str(node.process.pid)), Target("netns", f"/proc/{node.process.pid}/ns/net")):
        with pytest.raises(RequestError, match="the host's own namespace"):
            node.ask("enrol", Enrolment(target, name="x"))


def test_an_enrolment_that_the_upgrader_refuses_is_undone(node: Node, pod: Host, tree: CgroupTree) -> None:
    before = settled(pod)
    # Stopped, it does not answer.
    for pid in pids_of_upgrader(node, tree):
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(JfeError):
        node.enrol(pod)
    assert pod.state() == before
    for pid in pids_of_upgrader(node, tree):
        os.kill(pid, signal.SIGCONT)
    lab.until(lambda: node.status().workloads == (), "the enrolment is not undone")
    node.enrol(pod)
    assert node.covered(pod)


def test_a_namespace_that_vanishes_is_unenrolled(node: Node, pod: Host) -> None:
    node.enrol(pod)
    subprocess.run(["ip", "netns", "delete", pod.name], check=True)
    lab.until(lambda: node.status().workloads == (), "the workload is still there")


def test_a_second_agent_with_the_same_state_is_refused(node: Node) -> None:
    second = subprocess.run(
        [
            *(sys.executable, "-m", "jfe_cni.cli.main", "agent", "--state-dir", str(node.folder / "state")),
            *("--socket", str(node.folder / "second.sock"), "--node", f"{node.name}-second"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert second.returncode != 0
    assert "another agent" in second.stderr + second.stdout


def test_strict_resets_the_connections_that_were_open(node: Node, pod: Host, peer: Host) -> None:
    peer.echo(peer.ipv4, PORT)
    talk = lab.ready(pod.python(CONVERSATION, address=peer.ipv4, port=PORT, stopped=[]))
    node.enrol(pod, "strict")
    # Whichever comes first: the agent, which ends the socket itself (ECONNABORTED, net/ipv4/tcp.c, tcp_abort), or the
    # answer of the rules, which are loaded before, to the next word.
    assert lab.first_line(talk) in (lab.RESET, lab.ABORTED)


def test_permissive_leaves_them_and_lists_them_as_bare_until_they_end(node: Node, pod: Host, peer: Host) -> None:
    peer.echo(peer.ipv4, PORT)
    talk = lab.ready(pod.python(CONVERSATION, address=peer.ipv4, port=PORT, stopped=[]))
    report = node.enrol(pod, "permissive")
    assert [(bare.peer_address, bare.peer_port) for bare in report.bare] == [(peer.ipv4, PORT)]
    assert talk.stdin is not None
    print(file=talk.stdin, flush=True)
    assert lab.first_line(talk) == "whole"
    lab.until(lambda: node.workload(pod).bare == (), "it is still listed")
    assert node.covered(pod)


def test_a_restarted_agent_takes_all_back_and_no_connection_notices(
    node: Node, pod: Host, peer: Host, tree: CgroupTree
) -> None:
    node.enrol(pod)
    node.enrol(peer)
    peer.echo(peer.ipv4, PORT)
    talk = lab.ready(pod.python(CONVERSATION, address=peer.ipv4, port=PORT, stopped=[]))
    before = node.workload(pod)
    upgrader = pids_of_upgrader(node, tree)
    node.kill()
    assert pod.ask(peer.ipv4, PORT, WORD) == pod.ipv4.encode() + b" " + WORD
    node.start()
    lab.until(lambda: node.covered(pod) and node.covered(peer), "not taken back")
    after = node.workload(pod)
    assert (after.identity, after.outbound_port, after.inbound_port, after.certificate_expires) == (
        before.identity,
        before.outbound_port,
        before.inbound_port,
        before.certificate_expires,
    )
    assert pids_of_upgrader(node, tree) == upgrader
    assert talk.stdin is not None
    print(file=talk.stdin, flush=True)
    assert lab.first_line(talk) == "whole"


def test_a_restarted_agent_leaves_rules_that_nobody_changed_and_loads_the_others_again(
    node: Node, pod: Host, peer: Host
) -> None:
    node.enrol(pod)
    node.enrol(peer)
    unchanged, whole = handles(pod), handles(peer)
    node.kill()
    peer.command("nft", "insert rule inet jfe outbound accept")
    node.start()
    lab.until(lambda: node.covered(pod) and node.covered(peer), "not taken back")
    assert handles(pod) == unchanged
    # Loaded again: as many lines, and none that was there before.
    assert len(handles(peer)) == len(whole)
    assert handles(peer) != whole


def handles(host: Host) -> list[str]:
    """The table with the numbers that the kernel gave to all of it."""
    return host.command("nft", "-s", "-a", "list", "table", "inet", "jfe").splitlines()


def test_a_killed_upgrader_is_replaced_and_until_then_nothing_passes_in_clear(
    node: Node, pod: Host, peer: Host, wire: Capture, tree: CgroupTree
) -> None:
    node.enrol(pod)
    node.enrol(peer)
    peer.echo(peer.ipv4, PORT)
    stop = threading.Event()
    answers: list[bytes | str] = []

    def keep_asking() -> None:
        while not stop.is_set():
            answers.append(pod.ask(peer.ipv4, PORT, WORD))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        for pid in pids_of_upgrader(node, tree)[:1]:
            os.kill(pid, signal.SIGKILL)
        lab.until(
            lambda: node.status().upgrader_restarts == 1 and node.covered(pod) and node.covered(peer), "no new one"
        )
        count = len(answers)
        lab.until(lambda: len(answers) > count + 2, "nobody asks any more")
    finally:
        stop.set()
        asking.join()
    assert answers[-1] == pod.ipv4.encode() + b" " + WORD
    assert WORD not in wire.payload()


def test_with_agent_and_upgrader_killed_a_strict_workload_neither_speaks_nor_hears(
    node: Node, pod: Host, peer: Host, wire: Capture, tree: CgroupTree
) -> None:
    peer.echo(peer.ipv4, PORT)
    pod.echo(pod.ipv4, PORT)
    node.enrol(pod)
    node.kill()
    for pid in pids_of_upgrader(node, tree):
        os.kill(pid, signal.SIGKILL)
    assert isinstance(pod.ask(peer.ipv4, PORT, WORD), str)
    assert isinstance(peer.ask(pod.ipv4, PORT, WORD), str)
    assert WORD not in wire.payload()
    node.start()
    lab.until(lambda: node.covered(pod), "not covered again")


def test_a_table_that_the_workload_flushed_is_mended_and_its_link_is_open_again(
    node: Node, pod: Host, peer: Host, wire: Capture
) -> None:
    node.enrol(pod)
    node.enrol(peer)
    peer.echo(peer.ipv4, PORT)
    wanted = cover_of(pod)
    for hurt in (
        ("nft", "flush", "ruleset"),
        ("nft", "flush", "chain", "inet", "jfe", "outbound"),
        ("ip", "rule", "delete", "table", str(lab.MARK.table)),
        ("ip", "-6", "route", "flush", "table", str(lab.MARK.table)),
        ("sysctl", "net.ipv4.tcp_fwmark_accept=0"),
    ):
        pod.command(*hurt)
        lab.until(lambda: node.covered(pod) and cover_of(pod) == wanted, f"not mended after {hurt}")
        lab.until(lambda: pod.ask(peer.ipv4, PORT, WORD) == pod.ipv4.encode() + b" " + WORD, "no way through")
    assert len(node.logged("rules-changed")) >= 5
    assert "jfe_closed" not in peer.rules()
    assert WORD not in wire.payload()


def test_a_device_and_an_address_that_come_after_the_enrolment_get_their_routes_and_raise_no_alarm(
    node: Node, pod: Host
) -> None:
    node.enrol(pod)

    def routed(version: str) -> bool:
        return "dev late0" in pod.command("ip", version, "route", "show", "table", str(lab.MARK.table))

    pod.command("ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1")
    # With the kernel's own link-local address, which comes when both are up.
    for device in ("late0", "late1"):
        pod.command("ip", "link", "set", device, "up")
    lab.until(lambda: routed("-6"), "no IPv6 route for a device that came late")
    pod.command("ip", "address", "add", "198.18.77.1/24", "dev", "late0")
    lab.until(lambda: routed("-4"), "no IPv4 route for a device that came late")
    assert node.logged("rules-changed") == []
    assert node.covered(pod)


def test_rules_are_mended_where_the_link_cannot_be_closed_and_that_is_told(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    wanted = cover_of(pod)
    # nft has no way to write this name in a rule.
    peer.command("ip", "link", "set", "eth0", "name", 'eth"0')
    pod.command("nft", "flush", "ruleset")
    lab.until(lambda: node.covered(pod) and cover_of(pod) == wanted, "not mended")
    lab.until(lambda: "nft failed" in (node.workload(pod).trouble or ""), "nothing is said of the link")


def orphan(host: Host) -> str:
    """Closes a link that is gone; the name of the table that is left of it."""
    table = closed_link_table("gone0")
    host.command("nft", f"add table netdev {table}")
    return table


def test_what_closed_a_link_that_is_gone_is_swept_at_the_start(idle: Node, peer: Host) -> None:
    table = orphan(peer)
    idle.start()
    assert table not in peer.rules()


def test_what_closed_a_link_that_is_gone_is_swept_at_a_release(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    table = orphan(peer)
    node.ask("unenrol", pod.name)
    assert table not in peer.rules()


def test_a_link_that_is_closed_now_is_not_opened_when_others_are_released(node: Node, pod: Host, peer: Host) -> None:
    closed = closed_link_table(peer.device)
    node.enrol(pod)
    node.enrol(peer)
    # A table that another process owns can't be replaced by anybody: the workload stays closed.
    owner = pod.start("nft", "-i")
    assert owner.stdin is not None
    print("delete table inet jfe; add table inet jfe { flags owner; }", file=owner.stdin, flush=True)
    lab.until(lambda: closed in peer.rules() and bool(node.workload(pod).trouble), "its link is not closed")
    table = orphan(peer)
    node.ask("unenrol", peer.name)
    assert table not in peer.rules()
    assert closed in peer.rules()
    lab.end(pod)
    lab.until(lambda: node.covered(pod) and closed not in peer.rules(), "not mended")


def test_the_authority_is_rotated_while_connections_live_and_are_made(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    node.enrol(peer)
    peer.echo(peer.ipv4, PORT)
    talk = lab.ready(pod.python(CONVERSATION, address=peer.ipv4, port=PORT, stopped=[]))
    first = node.ask("authority").roots[0].fingerprint
    for step, phase, roots in (("begin", "introduced", 2), ("switch", "switched", 2), ("retire", "single", 1)):
        report = node.ask("rotate", step)
        assert (report.phase, len(report.roots)) == (phase, roots)
        assert pod.ask(peer.ipv4, PORT, WORD) == pod.ipv4.encode() + b" " + WORD
    assert node.ask("authority").roots[0].fingerprint != first
    assert talk.stdin is not None
    print(file=talk.stdin, flush=True)
    assert lab.first_line(talk) == "whole"


def test_a_directory_file_and_pushed_entries_lead_the_upgrader(idle: Node, pod: Host, peer: Host) -> None:
    file = idle.folder / "peers.txt"
    file.write_text("")
    idle.start("--directory", str(file))
    idle.enrol(pod, "permissive")
    peer.echo(peer.ipv4, PORT)
    assert pod.ask(peer.ipv4, PORT, WORD) == pod.ipv4.encode() + b" " + WORD
    file.write_text(f"{peer.ipv4} {PORT}\n")
    # Covered by the directory, and answers plaintext: an error, never a fall-back.
    lab.until(lambda: pod.ask(peer.ipv4, PORT, WORD) == lab.RESET, "the file is not followed")
    file.write_text("")
    lab.until(lambda: pod.ask(peer.ipv4, PORT, WORD) != lab.RESET, "the file is not followed back")
    idle.ask("add_to_directory", [DirectoryEntry(network_of(f"{peer.ipv4}/32", "entry"))])
    assert pod.ask(peer.ipv4, PORT, WORD) == lab.RESET
    idle.ask("remove_from_directory", [(f"{peer.ipv4}/32", None)])
    assert pod.ask(peer.ipv4, PORT, WORD) == pod.ipv4.encode() + b" " + WORD


def test_a_directory_file_that_is_broken_at_a_restart_says_what_it_said_last(
    idle: Node, pod: Host, peer: Host, wire: Capture
) -> None:
    file = idle.folder / "peers.txt"
    file.write_text(f"{peer.ipv4} {PORT}\n")
    idle.start("--directory", str(file))
    idle.enrol(pod, "permissive")
    peer.echo(peer.ipv4, PORT)
    idle.kill()
    file.write_text("no network\n")
    idle.start("--directory", str(file))
    lab.until(lambda: idle.covered(pod), "not taken back")
    assert any(str(file) in trouble for trouble in idle.status().troubles)
    assert pod.ask(peer.ipv4, PORT, WORD) == lab.RESET
    assert WORD not in wire.payload()


def test_an_agent_whose_directory_file_could_never_be_read_does_not_start(idle: Node) -> None:
    file = idle.folder / "peers.txt"
    with pytest.raises(AssertionError, match=r"peers\.txt"):
        idle.start("--directory", str(file))
    assert idle.process is not None
    assert idle.process.wait(timeout=30) == 1
    idle.process = None


def test_entries_that_the_upgrader_does_not_take_are_not_kept(node: Node, peer: Host, tree: CgroupTree) -> None:
    for pid in pids_of_upgrader(node, tree):
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(JfeError):
        node.ask("add_to_directory", [DirectoryEntry(network_of(f"{peer.ipv4}/32", "entry"))])
    for pid in pids_of_upgrader(node, tree):
        os.kill(pid, signal.SIGCONT)
    assert node.ask("directory") == []
    saved = list((node.folder / "state").glob("workloads.db*"))
    assert saved
    assert not any(peer.ipv4.encode() in file.read_bytes() for file in saved)


def test_explain_says_what_then_happens(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    peer.echo(peer.ipv4, PORT)
    (stranger,) = node.ask("explain", f"{peer.ipv4}:{PORT}", pod.name)
    assert (stranger.decision, stranger.reason) == ("refuse", "plaintext-to-stranger")
    assert isinstance(pod.ask(peer.ipv4, PORT, WORD), str)
    node.enrol(peer)
    (enrolled,) = node.ask("explain", f"{peer.ipv4}:{PORT}", pod.name)
    assert (enrolled.decision, enrolled.encrypted) == ("upgrade", True)
    assert pod.ask(peer.ipv4, PORT, WORD) == pod.ipv4.encode() + b" " + WORD


def test_connections_and_counters_say_what_was_decided(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    node.enrol(peer)
    peer.echo(peer.ipv4, PORT)
    talk = lab.ready(pod.python(CONVERSATION, address=peer.ipv4, port=PORT, stopped=[]))
    lab.until(lambda: any(each.reason == "mutual" for each in node.ask("connections")), "no connection is shown")
    shown = {each.direction: each for each in node.ask("connections") if each.reason == "mutual"}
    assert shown["outbound"].destination == f"{peer.ipv4}:{PORT}"
    assert shown["outbound"].peer == node.workload(peer).identity
    assert shown["inbound"].peer == node.workload(pod).identity
    assert talk.stdin is not None
    print(file=talk.stdin, flush=True)
    counted = f'decision="upgrade",direction="outbound",reason="mutual",workload="{pod.name}"'
    lab.until(lambda: counted in node.ask("metrics"), "no counter")


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_an_agent_killed_in_the_middle_of_an_enrolment_is_no_harm(
    idle: Node, pod: Host, peer: Host, after: float
) -> None:
    before = settled(pod)
    idle.start()
    asking = threading.Thread(target=_try_enrol, args=(idle, pod))
    asking.start()
    threading.Event().wait(after)
    idle.kill()
    asking.join()
    idle.start()
    if idle.status().workloads:
        lab.until(lambda: idle.covered(pod), "half enrolled")
        idle.ask("unenrol", pod.name)
    assert pod.state() == before
    idle.enrol(pod)
    assert idle.covered(pod)


def _try_enrol(node: Node, host: Host) -> None:
    with contextlib.suppress(JfeError):
        node.enrol(host)


def test_garbage_on_the_api_and_on_the_control_socket_ends_nothing(node: Node, pod: Host, peer: Host) -> None:
    node.enrol(pod)
    node.enrol(peer)
    peer.echo(peer.ipv4, PORT)
    for path in (node.socket, node.folder / "state" / "upgrader.sock"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as raw:
            raw.connect(str(path))
            raw.sendall(b"\x00\x00\x00\x05garbage\xff" * 100)
    lab.until(lambda: node.status().upgrader_connected, "no upgrader any more")
    assert pod.ask(peer.ipv4, PORT, WORD) == pod.ipv4.encode() + b" " + WORD


def test_whoever_could_step_round_the_rules_is_shown(node: Node, pod: Host) -> None:
    pod.start("sleep", "1000")
    assert set(node.enrol(pod).hazards) == {"NET_RAW", "NET_ADMIN"}
    lab.end(pod)
    lab.until(lambda: node.workload(pod).hazards == (), "shown though it has ended")


def test_a_conflict_names_the_workload_that_is_in_the_way(node: Node, pod: Host) -> None:
    node.enrol(pod)
    with pytest.raises(ConflictError, match=pod.name) as refused:
        node.ask("enrol", Enrolment(Target("netns", str(pod.path)), "strict", "other"))
    assert f"jfe unenroll {pod.name}" in refused.value.remedy
