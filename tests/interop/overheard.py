"""What must hold of any exchange between host a and a server on host b, whatever the programs are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.stage import Capture, Stage
from tests.stage.place import Version


@contextlib.contextmanager
def overheard(hosts: Stage, port: int, *words: bytes, version: Version = 4) -> Iterator[Capture]:
    """The body lets a program on a talk to `port` of b, and `words` are part of what is said.

    Bare, an eavesdropper on the link reads them: the assertions can fail. Under cover there is nothing but TLS, none
    of the words, and both upgraders tell of mutual TLS with the other host, and of nothing else.
    The capture that is given can be read once the body has ended."""
    with hosts.capture() as wire:
        yield wire
    if not hosts.covered:
        assert all(wire.contains(word) for word in words)
        assert not wire.tls(port)
        return
    assert wire.tls(port)
    assert not [word for word in words if wire.contains(word)]
    assert_mutual(hosts, port, version)


def assert_mutual(hosts: Stage, port: int, version: Version = 4) -> None:
    """Both hosts tell of connections from a to `port` of b; all of them were upgraded, and each knew the other."""
    a, b = hosts.a.address(version), hosts.b.address(version)
    source, destination = (f"{a}:", f"{b}:{port}") if version == 4 else (f"[{a}]:", f"[{b}]:{port}")
    for host, peer, direction in ((hosts.a, hosts.b, "outbound"), (hosts.b, hosts.a, "inbound")):
        found = host.told(direction=direction, destination=destination, reason="mutual", peer=peer.identity)
        assert all(connection.source.startswith(source) for connection in found)
        everything = host.told(direction=direction, destination=destination)
        assert {(c.decision, c.reason) for c in everything} == {("upgrade", "mutual")}
