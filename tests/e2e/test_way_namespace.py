"""Which way a connection takes between namespaces under cover, whom each end sees, and what stays closed."""

from __future__ import annotations

import json
import secrets
import socket

import pytest

from tests.e2e.talk import (
    Echo,
    dialled,
    forwards,
    goes_both_ways,
    is_reset,
    is_turned_away,
    listening,
    passage,
    received,
    routed,
    talking,
)
from tests.stage import Place, Stage
from tests.stage.place import Version

PORT = 7001
CLOSED = 7002
INNER = 7003
# TEST-NET-3 (RFC 5737): nobody has it.
NOWHERE = "203.0.113.99"


@pytest.mark.parametrize("version", [4, 6])
def test_the_server_sees_the_clients_address(pair: Stage, version: Version) -> None:
    with pair.capture() as wire, talking(pair.a, pair.b, PORT, version=version) as talk:
        assert goes_both_ways(talk)
        assert talk.seen[0] == pair.a.address(version)
        assert talk.server.getsockname()[:2] == (pair.b.address(version), PORT)
        assert talk.client.getpeername()[:2] == (pair.b.address(version), PORT)
    assert wire.tls(PORT)
    family = "ip" if version == 4 else "ipv6"
    seen = {frozenset(row) for row in wire.tshark(f"tcp.port=={PORT}", f"{family}.src", f"{family}.dst")}
    assert seen == {frozenset({pair.a.address(version), pair.b.address(version)})}


@pytest.mark.parametrize(("caller", "callee"), [("a", "b"), ("stranger", "b"), ("b", "stranger")])
def test_a_link_local_address_gets_no_answer_and_nobody_is_called_in_its_name(
    permissive: Stage, caller: str, callee: str
) -> None:
    """Not even b, which is permissive, hears a client under another's address, and what is covered is silent."""
    places = {"a": permissive.a, "b": permissive.b, "stranger": permissive.stranger}
    with Echo(places[callee], PORT, version=6) as application, permissive.capture() as wire:
        with pytest.raises(TimeoutError):
            say_over_the_link(places[caller], places[callee])
        assert application.seen == []
    assert caller == "stranger" or not wire.contains(b"over-the-link-alone")


def say_over_the_link(caller: Place, callee: Place) -> None:
    shown = callee.run(["ip", "-json", "-6", "address", "show", "dev", "eth0", "scope", "link"]).stdout
    (address,) = [each["local"] for each in json.loads(shown)[0]["addr_info"] if each]
    with caller.socket(socket.AF_INET6) as client:
        client.settimeout(3)
        client.connect((address, PORT, 0, caller.inside(lambda: socket.if_nametoindex("eth0"))))
        client.sendall(b"over-the-link-alone")
        client.recv(1)


@pytest.mark.parametrize("version", [4, 6])
def test_both_hosts_know_who_the_other_is(pair: Stage, version: Version) -> None:
    with talking(pair.a, pair.b, PORT, version=version) as talk:
        assert goes_both_ways(talk)
        destination = f"{pair.b.ipv4}:{PORT}" if version == 4 else f"[{pair.b.ipv6}]:{PORT}"
        assert pair.a.told(destination=destination, reason="mutual", peer=pair.b.identity, direction="outbound")
        assert pair.b.told(destination=destination, reason="mutual", peer=pair.a.identity, direction="inbound")


@pytest.mark.parametrize("version", [4, 6])
def test_a_client_that_chose_its_address_and_port_is_seen_with_this_address(pair: Stage, version: Version) -> None:
    with listening(pair.b, PORT, version=version) as listener:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with pair.a.socket(family) as client:
            client.settimeout(30)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind((pair.a.address(version), 40123))
            client.connect((pair.b.address(version), PORT))
            taken, seen = listener.accept()
            with taken:
                assert seen[0] == pair.a.address(version)
                client.sendall(b"bound")
                assert received(taken, 5) == b"bound"


@pytest.mark.parametrize("version", [4, 6])
def test_a_port_on_which_nobody_listens_is_refused_by_the_kernel(pair: Stage, version: Version) -> None:
    with pytest.raises(ConnectionRefusedError):
        dialled(pair.stranger, pair.b.address(version), CLOSED)


@pytest.mark.parametrize("version", [4, 6])
def test_a_service_of_the_loopback_is_not_reached_from_outside(pair: Stage, version: Version) -> None:
    own = "127.0.0.1" if version == 4 else "::1"
    with listening(pair.b, INNER, version=version, address=own) as listener:
        with pytest.raises(ConnectionRefusedError):
            dialled(pair.stranger, pair.b.address(version), INNER)
        assert is_turned_away(pair.a, pair.b.address(version), INNER)
        with dialled(pair.b, own, INNER) as inside:
            taken, _ = listener.accept()
            with taken:
                inside.sendall(b"at home")
                assert received(taken, 7) == b"at home"


@pytest.mark.parametrize("version", [4, 6])
def test_a_closed_port_of_an_enrolled_peer_reaches_the_client_as_a_reset(pair: Stage, version: Version) -> None:
    assert is_turned_away(pair.a, pair.b.address(version), CLOSED)
    where = f"{pair.b.ipv4}:{CLOSED}" if version == 4 else f"[{pair.b.ipv6}]:{CLOSED}"
    assert {c.decision for c in pair.a.told(destination=where, reason="connect-refused")} == {"refuse"}


def test_a_closed_port_of_a_stranger_reaches_the_client_as_a_reset(pair: Stage) -> None:
    assert is_turned_away(pair.a, pair.stranger.ipv4, CLOSED)
    assert pair.a.told(destination=f"{pair.stranger.ipv4}:{CLOSED}", reason="connect-refused")


def test_a_destination_that_a_router_calls_unreachable_reaches_the_client_as_a_reset(pair: Stage) -> None:
    with (
        forwards(pair.stranger),
        routed(pair.stranger, f"unreachable {NOWHERE}"),
        routed(pair.a, f"{NOWHERE} via {pair.stranger.ipv4}"),
    ):
        assert is_turned_away(pair.a, NOWHERE, PORT)
        assert pair.a.told(destination=f"{NOWHERE}:{PORT}", reason="connect-unreachable", decision="refuse")


def test_a_destination_without_a_route_is_refused_by_the_kernel(pair: Stage) -> None:
    with pytest.raises(OSError, match="Network is unreachable"):
        dialled(pair.a, NOWHERE, PORT)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "own"])
def test_what_stays_inside_a_workload_meets_no_upgrader(pair: Stage, address: str) -> None:
    """The client's port is the one that the server sees: nobody stands between."""
    address = pair.b.ipv4 if address == "own" else address
    version: Version = 6 if ":" in address else 4
    with listening(pair.b, PORT, version=version) as listener, dialled(pair.b, address, PORT) as client:
        taken, seen = listener.accept()
        with taken:
            assert seen[:2] == client.getsockname()[:2]


def test_udp_passes_as_it_is(pair: Stage) -> None:
    word = secrets.token_hex(16).encode()
    with pair.capture("udp") as wire, pair.stranger.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.settimeout(30)
        heard.bind((pair.stranger.ipv4, PORT))
        with pair.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(word, (pair.stranger.ipv4, PORT))
            said, (source, _) = heard.recvfrom(100)
    assert (said, source) == (word, pair.a.ipv4)
    assert word in wire.path.read_bytes()


def test_what_a_namespace_forwards_to_others_on_a_port_of_its_own_is_untouched(stage: Stage) -> None:
    """b listens on the same port, on all addresses, and is strict: it would refuse a word of plaintext for itself."""
    word = secrets.token_hex(16).encode()
    stage.b.start_agent()
    stage.b.enrol("strict")
    with passage(stage) as target, stage.capture() as wire, Echo(stage.b, PORT) as own:
        with listening(stage.stranger, PORT) as listener, dialled(stage.a, target, PORT) as client:
            taken, seen = listener.accept()
            with taken:
                assert seen == client.getsockname()
                client.sendall(word)
                assert received(taken, len(word)) == word
        # The same for b itself gets nowhere.
        with dialled(stage.a, stage.b.ipv4, PORT) as client:
            client.sendall(word)
            assert is_reset(client)
        assert own.seen == []
    assert wire.contains(word)
