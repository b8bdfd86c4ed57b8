"""WebSocket: HTTP that becomes a conversation in both directions."""

import sys
from pathlib import Path

from tests.interop.overheard import overheard
from tests.stage import Stage

PORT = 8090
HERE = Path(__file__).parent


def test_messages_go_both_ways_and_the_server_sees_who_talks(hosts: Stage) -> None:
    hosts.b.spawn([sys.executable, str(HERE / "websocket_server.py"), str(PORT)], ready=PORT)
    client = [sys.executable, str(HERE / "websocket_client.py"), f"ws://{hosts.b.ipv4}:{PORT}/"]
    # What clients send is masked (RFC 6455, section 5.3): only the server's words can be read on any wire.
    with overheard(hosts, PORT, b"Upgrade: websocket", b"word-that-comes-back"):
        answer = hosts.a.run([*client, "word-that-comes-back", "another"])
    assert answer.stdout.decode().splitlines() == [
        f"you are {hosts.a.ipv4}",
        "word-that-comes-back",
        "another",
        str(1 << 20),
    ]
