"""The upgrader's own ports: taken by a thief after it died, and dialled by whoever finds them."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.e2e.confined import Confined, Shape, confined
from tests.e2e.killing import kill
from tests.e2e.witness import PORT, Witness, call, understood
from tests.stage import Host, eventually
from tests.stage.place import Version

SERVE = """
listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    taken, peer = listener.accept()
    heard = taken.recv(1000); print("heard", heard, flush=True)
    taken.sendall(b"heard: " + heard); taken.close()
"""
# IP_TRANSPARENT and SO_REUSEPORT are what a thief has to get at what `tproxy` gives; it listens wherever it can.
STEAL = """
become_nobody()
def serve(listener):
    while True:
        print("stolen from", listener.accept()[1], flush=True)
for kind, address, option in ((socket.AF_INET, "127.0.0.1", (0, 19)), (socket.AF_INET6, "::1", (41, 75)),
                              (socket.AF_INET, "198.18.7.20", (0, 19)), (socket.AF_INET6, "fd00:7::20", (41, 75))):
    for stolen in json.loads(words):
        listener = socket.socket(kind)
        listener.setsockopt(*option, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address, stolen)); listener.listen()
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
print("ready", flush=True)
time.sleep(600)
"""
BOTH_SHAPES = pytest.mark.parametrize("shape", ["namespace", "host"])


def own_ports(host: Host) -> tuple[int, int]:
    """Outbound, inbound."""
    (workload,) = host.ask(lambda agent: agent.workloads())
    assert workload.outbound_port is not None
    assert workload.inbound_port is not None
    return workload.outbound_port, workload.inbound_port


@BOTH_SHAPES
def test_a_thief_of_the_dead_upgraders_ports_gets_nothing_and_keeps_nobody_away(shape: Shape) -> None:
    with confined(shape) as host, Witness(host.stage.stranger) as stranger:
        stage, b = host.stage, host.stage.b
        application = host.start(SERVE, there=b.ipv4, port=PORT)
        assert understood(call(stage.a, b.ipv4, PORT, b"before"), b"before")
        ports = own_ports(b)
        # Without the agent nobody starts the next upgrader.
        b.agent.stop(signal.SIGKILL)
        kill(*b.upgrader())
        words = str(list(ports)).encode()
        thief = b.spawn(host.beside(STEAL, there=b.ipv4, port=PORT, words=words), name="thief")
        thief.says("ready")
        with stage.capture() as wire:
            for there in (stage.stranger.ipv4, stage.stranger.ipv6, stage.a.ipv4, stage.a.ipv6):
                host.run("speak(stream())", there=there, port=PORT, words=b"said-to-a-thief", patience=0.5)
            for version in (4, 6):
                call(stage.stranger, b.address(version), PORT, b"heard-by-a-thief", seconds=0.5)
                call(stage.a, b.address(version), PORT, b"heard-by-a-thief", seconds=0.5)
        assert not wire.contains(b"said-to-a-thief")
        assert not stranger.heard(b"said-to-a-thief")
        assert "heard-by-a-thief" not in application.output()
        assert thief.output() == "ready\n"

        b.start_agent()
        eventually(lambda: understood(call(stage.a, b.ipv4, PORT, b"after", seconds=5), b"after"), "b answers again")
        assert b.told(direction="inbound", reason="mutual", peer=stage.a.identity)
        assert thief.alive
        assert thief.output() == "ready\n"
        assert set(own_ports(b)).isdisjoint(ports)


@pytest.fixture(scope="module", params=["namespace", "host"])
def host(request: pytest.FixtureRequest) -> Iterator[Confined]:
    with confined(request.param) as made:
        made.start(SERVE, there=made.stage.b.ipv4, port=PORT)
        yield made


@pytest.mark.parametrize("version", [4, 6])
def test_the_upgraders_own_listeners_dialled_directly_relay_nowhere(host: Confined, version: Version) -> None:
    """From inside by every address that leads there, from outside, and through the cover of a peer."""
    stage, b = host.stage, host.stage.b
    processes = b.upgrader()
    loopback = "127.0.0.1" if version == 4 else "::1"
    before = len(b.connections())
    for port in own_ports(b):
        for address in (loopback, b.address(version)):
            said = b"GET / HTTP/1.0\r\n\r\n"
            inside = host.run(
                "speak(stream())\ntime.sleep(0.1)", there=address, port=port, words=said, patience=10
            ).stdout.decode()
            assert inside.strip() in ("ConnectionRefusedError", "ConnectionResetError", ""), inside
        for caller in (stage.stranger, stage.a):
            answer = call(caller, b.address(version), port, said, seconds=15)
            assert answer in ("ConnectionRefusedError", "ConnectionResetError", b""), answer
    # Eight callings: a loop would make connections until the descriptors are out.
    assert len(b.connections()) - before <= 8
    assert b.upgrader() == processes
    assert understood(call(stage.a, b.address(version), PORT, b"still there"), b"still there")
