"""Listeners that want to hear strangers in clear: tried without cover, where each hears them, and under it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pytest

from tests.e2e.confined import Confined, confined
from tests.e2e.witness import PORT, call
from tests.stage.place import Version

LISTENERS = {
    "as another user": "become_nobody(); listener = stream()",
    "with the mark of the rules": "become_nobody(); listener = stream(); listener.setsockopt(1, SO_MARK, 0x00400000)",
    "transparent": "become_nobody(); listener = stream(); listener.setsockopt(*TRANSPARENT, 1)",
    "transparent and marked": """
        become_nobody(); listener = stream()
        listener.setsockopt(*TRANSPARENT, 1); listener.setsockopt(1, SO_MARK, 0x00400000)
        """,
    "bound to the device": """
        become_nobody(); listener = stream(); listener.setsockopt(1, socket.SO_BINDTODEVICE, b"eth0")
        """,
    "for multipath TCP": "listener = stream(IPPROTO_MPTCP)",
    "for words with the first packet": """
        # ip-sysctl.rst: 0x2 as a server, 0x200 also without a cookie, 0x400 without being asked.
        open("/proc/sys/net/ipv4/tcp_fastopen", "w").write(str(0x603))
        listener = stream()
        """,
    "in a child's session": "os.fork() and os._exit(os.wait()[1] >> 8); os.setsid(); listener = stream()",
}
SERVE = """
listener.settimeout(None)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((here, port)); listener.listen(); print("ready", flush=True)
while True:
    taken, peer = listener.accept()
    taken.settimeout(None)
    print("taken from", peer, flush=True)
    heard = taken.recv(1000)
    print("heard", heard, flush=True)
    taken.sendall(b"heard: " + heard); taken.close()
"""
TRIED = [pytest.param(version, how, id=f"{how}-v{version}") for version in (4, 6) for how in LISTENERS]


@pytest.fixture(scope="module", params=["bare", "namespace", "host"])
def host(request: pytest.FixtureRequest) -> Iterator[Confined]:
    with confined(request.param) as made:
        yield made


@pytest.mark.parametrize(("version", "how"), TRIED)
def test_no_byte_of_a_stranger_arrives_and_a_covered_peer_is_understood(
    host: Confined, version: Version, how: str
) -> None:
    """However a program of a strict workload listens."""
    b = host.stage.b.address(version)
    listener = host.start(textwrap.dedent(LISTENERS[how]) + SERVE, there=b, port=PORT)
    with host.stage.capture() as wire:
        refused = call(host.stage.stranger, b, PORT, b"a-word-of-a-stranger", seconds=5)
        told = call(host.stage.a, b, PORT, b"a-word-of-a-peer")
    listener.stop()
    assert told == b"heard: a-word-of-a-peer", listener.output()
    assert ("a-word-of-a-stranger" in listener.output()) is not host.covered
    assert wire.contains(b"a-word-of-a-peer") is not host.covered
    if host.covered:
        assert host.stage.stranger.address(version) not in listener.output()
        assert refused in (b"", "ConnectionResetError", "ConnectionRefusedError", "TimeoutError")
