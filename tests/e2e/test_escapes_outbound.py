"""Programs that want to speak past the cover: without it each gets through; then under it, in both shapes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.confined import Confined, confined
from tests.e2e.witness import PORT, Witness
from tests.stage import eventually, program
from tests.stage.place import Version

RAW = """
import zlib
def segment(flags):
    pseudo = socket.inet_pton(FAMILY, here) + socket.inet_pton(FAMILY, there)
    length = 20 + len(words)
    pseudo += struct.pack("!BBH", 0, 6, length) if FAMILY == socket.AF_INET else struct.pack("!I3xB", length, 6)
    def header(checksum):
        return struct.pack("!HHIIBBHHH", 5555, port, 1000, 2000, 0x50, flags, 1000, checksum, 0)
    whole = pseudo + header(0) + words
    whole += bytes(len(whole) % 2)
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    total = (total >> 16) + (total & 0xffff); total += total >> 16
    return header(~total & 0xffff) + words
def send_all_kinds(raw):
    for flags in range(64):
        try:
            raw.sendto(segment(flags), (there, 0))
        except OSError:
            pass
"""
# Each names what a program does; whatever comes of it, it has tried to send `words`.
ESCAPES = {
    "as another user": "become_nobody(); speak(stream())",
    "with the mark of the rules": "become_nobody(); s = stream(); s.setsockopt(1, SO_MARK, 0x00400000); speak(s)",
    "with every mark": "become_nobody(); s = stream(); s.setsockopt(1, SO_MARK, -1); speak(s)",
    "transparent": "become_nobody(); s = stream(); s.setsockopt(*TRANSPARENT, 1); speak(s)",
    "bound to the device": "become_nobody(); s = stream(); s.setsockopt(1, socket.SO_BINDTODEVICE, b'eth0'); speak(s)",
    "bound to its address": "become_nobody(); s = stream(); s.bind((here, 4444)); speak(s)",
    "with the first packet": """
        # ip-sysctl.rst: 0x1 as a client, 0x4 also without a cookie.
        open("/proc/sys/net/ipv4/tcp_fastopen", "w").write("5")
        s = stream()
        s.setblocking(True)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
        try:
            s.sendto(words, socket.MSG_FASTOPEN, (there, port)); s.recv(100)
        except OSError:
            pass
        """,
    "by multipath TCP": "speak(stream(IPPROTO_MPTCP))",
    "as a child": "os.fork() and os._exit(os.wait()[1] >> 8); speak(stream())",
    "in a session of its own": "os.fork() and os._exit(os.wait()[1] >> 8); os.setsid(); speak(stream())",
    "from a cgroup below its own": """
        mine = [line[3:].strip() for line in open("/proc/self/cgroup") if line.startswith("0::")][0]
        root = "/sys/fs/cgroup/unified" if os.path.isdir("/sys/fs/cgroup/unified") else "/sys/fs/cgroup"
        deeper = f"{root}{mine}/deeper-{os.getpid()}"
        os.mkdir(deeper)
        open(f"{deeper}/cgroup.procs", "w").write("0")
        speak(stream())
        """,
    "and is gone at once": """
        for linger in (False, True):
            s = stream()
            s.setblocking(False)
            if linger:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                s.connect((there, port))
            except BlockingIOError:
                pass
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline:
                try:
                    s.send(words); break
                except BlockingIOError:
                    time.sleep(0.001)
                except OSError:
                    break
            s.close()
        """,
    "on a raw socket": RAW + "become_nobody(); send_all_kinds(socket.socket(FAMILY, socket.SOCK_RAW, 6))",
    "on a marked raw socket": RAW
    + "become_nobody(); raw = socket.socket(FAMILY, socket.SOCK_RAW, 6); raw.setsockopt(1, SO_MARK, 0x00400000)\n"
    + "send_all_kinds(raw)",
    "on a raw socket bound to the device": RAW
    + "become_nobody(); raw = socket.socket(FAMILY, socket.SOCK_RAW, 6)\n"
    + "raw.setsockopt(1, socket.SO_BINDTODEVICE, b'eth0'); send_all_kinds(raw)",
}
IPV4_ONLY = {
    # IPv6 has no socket that takes a whole packet: IPV6_HDRINCL comes to what the others do.
    "with IP headers of its own, in fragments too": RAW
    + """
become_nobody(); raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for source in (here, "198.18.7.77"):
    for fragment in (0, 0x2000, 2):
        body = segment(0x12)
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, fragment, 64, 6, 0)
        try:
            raw.sendto(header + socket.inet_aton(source) + socket.inet_aton(there) + body, (there, 0))
        except OSError:
            pass
""",
}
TRIED = [
    pytest.param(version, how, id=f"{how}-v{version}")
    for version, escapes in ((4, ESCAPES | IPV4_ONLY), (6, ESCAPES))
    for how in escapes
]


@pytest.fixture(scope="module", params=["bare", "namespace", "host"])
def host(request: pytest.FixtureRequest) -> Iterator[Confined]:
    with confined(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def stranger(host: Confined) -> Iterator[Witness]:
    with Witness(host.stage.stranger) as made:
        yield made


@pytest.mark.parametrize(("version", "how"), TRIED)
def test_no_byte_for_a_stranger_leaves(host: Confined, stranger: Witness, version: Version, how: str) -> None:
    """However a program of a strict workload says it."""
    words = f"said-{how.replace(' ', '-')}-{version}".encode()
    code = (ESCAPES | IPV4_ONLY)[how]
    with host.stage.capture() as wire:
        host.run(code, there=host.stage.stranger.address(version), port=PORT, words=words)
    assert wire.contains(words) is not host.covered
    if host.covered:
        assert not stranger.heard(words)


# curl(1), EXIT CODES.
CURL_TIMEOUT = 28


@pytest.mark.parametrize("version", [4, 6])
def test_curl_bound_to_a_device_works_under_cover_or_is_refused_at_once(host: Confined, version: Version) -> None:
    """`curl --interface` to a covered peer, with HTTP/0.9 for an answer, since the witness has no headers."""
    peer = host.stage.a.address(version)
    there = f"http://[{peer}]:{PORT}/" if version == 6 else f"http://{peer}:{PORT}/"
    options = ["--silent", "--http0.9", "--max-time", "20", "--max-filesize", "1M", "--header", "Said: by-interface"]
    with Witness(host.stage.a) as witness, host.stage.capture() as wire:
        command = [program("curl"), *options, "--interface", "if!eth0", there]
        curl = host.stage.b.spawn([*host.enter, *command], name="curl")
        eventually(lambda: witness.heard(b"by-interface") or not curl.alive, "curl is heard or refused")
        curl.stop()
    assert curl.status != CURL_TIMEOUT
    assert wire.contains(b"by-interface") is not host.covered
    if host.shape != "host":
        assert witness.heard(b"by-interface")
