"""A workload with a namespace of its own: what its rules let through, with plain listeners in the upgrader's place."""

from __future__ import annotations

import json

import pytest

from jfe_cni.kernel.cover import Cover
from jfe_cni.kernel.forms import Forms
from jfe_cni.kernel.nft import Nft
from jfe_cni.rules.model import Mode
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
    NoForms,
    StandIn,
    Upgrader,
    first_line,
    ready,
    until,
)

SECRET = b"never-to-be-seen-on-a-wire"
BOTH = pytest.mark.parametrize("version", ["ipv4", "ipv6"])


def address(host: Host, version: str) -> str:
    return str(getattr(host, version))


@pytest.fixture(params=["by-nft", "by-a-form"])
def cover(request: pytest.FixtureRequest, nft: Nft) -> Cover:
    """In both ways in which rules come into a namespace."""
    return Cover(nft, NoForms() if request.param == "by-nft" else Forms())


@pytest.fixture
async def listeners(pod: Host, upgrader: Upgrader, cover: Cover) -> StandIn:
    """The pod is under cover."""
    started = upgrader.start(pod)
    with pod.open() as namespace:
        await cover.install_namespace(upgrader.intent(started), namespace)
    return started


@BOTH
async def test_what_an_application_sends_is_taken_and_its_peer_sees_its_address(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80, inverted=True)
    answer = pod.ask(address(peer, version), 80, SECRET)
    assert answer == address(pod, version).encode() + b" " + SECRET
    assert SECRET not in wire.payload()


@BOTH
async def test_a_server_sees_its_clients_address_and_port_is_the_one_dialled(
    pod: Host, peer: Host, listeners: StandIn, version: str
) -> None:
    pod.echo(address(pod, version), 90)
    answer = peer.ask(address(pod, version), 90, SECRET.translate(INVERTED))
    assert isinstance(answer, bytes)
    assert answer.translate(INVERTED) == address(peer, version).encode() + b" " + SECRET


@BOTH
async def test_a_port_on_which_nobody_listens_is_refused(
    pod: Host, peer: Host, listeners: StandIn, version: str
) -> None:
    assert peer.ask(address(pod, version), 99, b"?") == REFUSED


async def test_a_service_of_the_loopback_alone_is_as_unreachable_as_before(
    pod: Host, peer: Host, listeners: StandIn
) -> None:
    pod.echo("127.0.0.1", 91)
    pod.echo("::1", 91)
    assert peer.ask(pod.ipv4, 91, b"?") == REFUSED
    assert peer.ask(pod.ipv6, 91, b"?") == REFUSED
    assert pod.ask("127.0.0.1", 91, b"?") == b"127.0.0.1 ?"


@BOTH
async def test_own_addresses_are_left_alone(pod: Host, listeners: StandIn, version: str) -> None:
    pod.echo(address(pod, version), 90)
    assert pod.ask(address(pod, version), 90, b"?") == address(pod, version).encode() + b" ?"


async def test_a_local_connection_carries_no_mark(pod: Host, listeners: StandIn) -> None:
    """An accepted socket would inherit it (tcp_fwmark_accept), and an application may ask for it."""
    out = pod.run(
        """
        listener = socket.create_server((address, 90))
        caller = socket.create_connection((address, 90))
        accepted, _ = listener.accept()
        told(accepted.getsockopt(socket.SOL_SOCKET, 36))  # SO_MARK
        """,
        address=pod.ipv4,
    )
    assert out == "0"


@BOTH
async def test_data_of_a_connection_that_is_closed_at_once_never_leaves_as_it_was(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80, inverted=True)
    pod.run(
        """
        for linger in (False, True):
            sender = open_socket(address); sender.connect((address, port)); sender.setblocking(False)
            if linger:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                while True:
                    sender.send(secret * 2000)
            except BlockingIOError:
                sender.close()
        """,
        address=address(peer, version),
        port=80,
        secret=SECRET,
    )
    assert SECRET not in wire.payload()


@BOTH
@pytest.mark.parametrize(
    "before",
    [
        f"asker.setsockopt(socket.SOL_SOCKET, 36, {MARK.bit})",  # SO_MARK, the bit of the rules
        "asker.setsockopt(socket.SOL_SOCKET, 36, 1)",
        "asker.setsockopt(*((0, 19) if ':' not in address else (41, 75)), 1)",  # IP(V6)_TRANSPARENT
        "os.setgid(65534); os.setuid(65534)",
        "os.fork() and os._exit(os.wait()[1] >> 8); os.setsid()",
    ],
    ids=["our-mark", "another-mark", "transparent", "other-uid", "setsid-child"],
)
async def test_no_socket_option_nor_user_makes_an_exemption(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str, before: str
) -> None:
    peer.echo(address(peer, version), 80)
    answer = pod.ask(address(peer, version), 80, SECRET, before=before)
    assert isinstance(answer, str) or SECRET.translate(INVERTED) not in answer
    assert SECRET not in wire.payload()


@BOTH
@pytest.mark.parametrize("option", ["pass", f"raw.setsockopt(1, 36, {MARK.bit})", "raw.setsockopt(1, 25, b'eth0')"])
async def test_raw_sockets_send_no_tcp_whatever_its_flags(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str, option: str
) -> None:
    pod.run(
        """
        kind = family(there)
        def segment(flags):
            pseudo = socket.inet_pton(kind, here) + socket.inet_pton(kind, there)
            length = 20 + len(secret)
            pseudo += struct.pack("!BBH", 0, 6, length) if kind == socket.AF_INET else struct.pack("!I3xB", length, 6)
            def header(checksum):
                return struct.pack("!HHIIBBHHH", 5555, 80, 1000, 2000, 0x50, flags, 1000, checksum, 0)
            whole = pseudo + header(0) + secret
            whole += bytes(len(whole) % 2)
            total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
            total = (total >> 16) + (total & 0xffff); total += total >> 16
            return header(~total & 0xffff) + secret
        raw = socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_TCP)
        exec(option)
        for flags in range(64):
            try:
                raw.sendto(segment(flags), (there, 0))
            except OSError:
                pass
        """,
        here=address(pod, version),
        there=address(peer, version),
        secret=SECRET,
        option=option,
    )
    assert SECRET not in wire.payload()


async def test_raw_packets_with_a_header_of_their_own_are_no_exception_nor_are_fragments(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture
) -> None:
    pod.run(
        """
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        for source in (here, "10.99.0.77"):
            for fragment in (0, 0x2000, 2):
                body = struct.pack("!HHIIBBHHH", 5555, 80, 1, 1, 0x50, 0x12, 1000, 0, 0) + secret * 2
                header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, fragment, 64, 6, 0)
                try:
                    raw.sendto(header + socket.inet_aton(source) + socket.inet_aton(there) + body, (there, 0))
                except OSError:
                    pass
        """,
        here=pod.ipv4,
        there=peer.ipv4,
        secret=SECRET,
    )
    assert SECRET not in wire.payload()


@BOTH
async def test_an_application_bound_to_a_device_works(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80, inverted=True)
    before = "asker.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')"
    answer = pod.ask(address(peer, version), 80, SECRET, before=before)
    assert answer == address(pod, version).encode() + b" " + SECRET
    assert SECRET not in wire.payload()


async def test_a_server_bound_to_a_device_works(pod: Host, peer: Host, listeners: StandIn) -> None:
    ready(
        pod.python(
            """
            listener = socket.socket(); listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
            listener.bind(("", 90)); listener.listen(); told("ready")
            connection, peer = listener.accept()
            connection.sendall((peer[0].encode() + b" " + connection.recv(100)))
            time.sleep(PATIENCE)
            """
        )
    )
    answer = peer.ask(pod.ipv4, 90, SECRET.translate(INVERTED))
    assert isinstance(answer, bytes)
    assert answer.translate(INVERTED) == peer.ipv4.encode() + b" " + SECRET


@BOTH
async def test_without_the_policy_rule_nothing_leaves(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str
) -> None:
    peer.echo(address(peer, version), 80)
    for family in ("-4", "-6"):
        pod.command("ip", family, "rule", "delete", "fwmark", f"{MARK.bit:#x}/{MARK.bit:#x}")
    # A connection is never established any more; a raw packet needs none.
    assert pod.ask(address(peer, version), 80, SECRET, before="asker.settimeout(0.5)") == TIMEOUT
    pod.run(
        """
        raw = socket.socket(family(address), socket.SOCK_RAW, socket.IPPROTO_TCP)
        raw.sendto(struct.pack("!HHIIBBHHH", 5555, 80, 1, 1, 0x50, 0x18, 1000, 0, 0) + secret, (address, 0))
        """,
        address=address(peer, version),
        secret=SECRET,
    )
    assert SECRET not in wire.payload()


@BOTH
async def test_after_the_upgrader_died_nothing_leaves_and_nothing_comes_in(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str
) -> None:
    pod.echo(address(pod, version), 90)
    peer.echo(address(peer, version), 80)
    listeners.kill()
    attempt = """
        asker = open_socket(address); asker.settimeout(0.5)
        try:
            asker.connect((address, port)); asker.sendall(secret); told("connected")
        except OSError as error:
            told("failed")
        """
    assert pod.run(attempt, address=address(peer, version), port=80, secret=SECRET) == "failed"
    assert peer.run(attempt, address=address(pod, version), port=90, secret=SECRET) == "failed"
    assert SECRET not in wire.payload()


@BOTH
async def test_a_connection_that_is_opened_while_there_is_no_upgrader_reaches_the_next_one(
    pod: Host, peer: Host, upgrader: Upgrader, listeners: StandIn, version: str
) -> None:
    """Neither end is refused: the SYN is dropped, and sent again."""
    pod.echo(address(pod, version), 90)
    peer.echo(address(peer, version), 80, inverted=True)
    listeners.kill()
    ask = """
        told("ready")
        asker = open_socket(address); asker.connect((address, port)); asker.sendall(b"?"); told(len(asker.recv(100)))
        """
    asking = [
        ready(pod.python(ask, address=address(peer, version), port=80)),
        ready(peer.python(ask, address=address(pod, version), port=90)),
    ]
    until(lambda: "syn-sent" in pod.command("ss", "-Htano").lower(), "no SYN was sent")
    upgrader.start(pod, outbound=listeners.outbound, inbound=listeners.inbound)
    for process in asking:
        assert int(first_line(process)) == len(address(pod, version)) + 2


@BOTH
async def test_whoever_binds_the_dead_upgraders_ports_gets_nothing(
    pod: Host, peer: Host, listeners: StandIn, version: str
) -> None:
    pod.echo(address(pod, version), 90)
    listeners.kill()
    thief = ready(
        pod.python(
            """
            def serve(listener):
                while True:
                    told("stolen from", listener.accept()[1])
            for address, level, option in (("127.0.0.1", 0, 19), ("::1", 41, 75)):
                for port in ports:
                    listener = socket.socket(family(address))
                    listener.setsockopt(level, option, 1)  # IP(V6)_TRANSPARENT
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind((address, port)); listener.listen()
                    threading.Thread(target=serve, args=(listener,), daemon=True).start()
            told("ready")
            time.sleep(PATIENCE)
            """,
            ports=[listeners.outbound, listeners.inbound],
        )
    )
    attempt = """
        asker = open_socket(address); asker.settimeout(0.5)
        try:
            asker.connect((address, port)); told("connected")
        except OSError as error:
            told("failed")
        """
    assert pod.run(attempt, address=address(peer, version), port=80) == "failed"
    assert peer.run(attempt, address=address(pod, version), port=90) == "failed"
    thief.kill()
    assert thief.stdout is not None
    assert thief.stdout.read() == ""


@BOTH
async def test_a_transparent_listener_of_an_application_gets_no_bare_connection(
    pod: Host, peer: Host, listeners: StandIn, version: str
) -> None:
    # Without the upgrader: what such a listener were given, it would have been given bare.
    listeners.kill()
    server = ready(
        pod.python(
            """
            listener = open_socket(address)
            listener.setsockopt(*((0, 19) if ":" not in address else (41, 75)), 1)
            listener.bind((address, 90)); listener.listen(); told("ready")
            listener.settimeout(1)
            try:
                told("bare connection from", listener.accept()[1])
            except TimeoutError:
                told("none")
            """,
            address=address(pod, version),
        )
    )
    peer.run(
        """
        asker = open_socket(address); asker.settimeout(0.5)
        try:
            asker.connect((address, 90))
        except OSError:
            pass
        """,
        address=address(pod, version),
    )
    assert server.communicate()[0].strip() == "none"


@BOTH
async def test_syn_cookies_lead_to_no_listener_of_the_application(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str
) -> None:
    """With cookies the last ACK of a handshake finds no half-open connection, and the kernel looks for a listener."""
    pod.command("sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
    pod.echo(address(pod, version), 90)
    pod.echo("::" if version == "ipv6" else "0.0.0.0", 80)
    peer.echo(address(peer, version), 80, inverted=True)
    peer.echo(address(peer, version), 81, inverted=True)
    peer.echo(address(peer, version), 82, inverted=True)
    ready(
        pod.python(
            """
            # On the peer's own address: IP(V6)_TRANSPARENT lets it.
            listener = socket.socket(family(address))
            listener.setsockopt(*((0, 19) if ":" not in address else (41, 75)), 1)
            listener.bind((address, 82)); listener.listen(); told("ready")
            while True:
                listener.accept()[0].sendall(b"stolen")
            """,
            address=address(peer, version),
        )
    )
    for port in (80, 81, 82):  # with a listener of its own on the port that it dials, with none, with a thief's
        answer = pod.ask(address(peer, version), port, SECRET)
        assert answer == address(pod, version).encode() + b" " + SECRET
    pod.echo("::" if version == "ipv6" else "0.0.0.0", 93)
    for port in (90, 93):  # a server on one address, and one on all
        answer = peer.ask(address(pod, version), port, SECRET.translate(INVERTED))
        assert isinstance(answer, bytes)
        assert answer.translate(INVERTED) == address(peer, version).encode() + b" " + SECRET
    assert SECRET not in wire.payload()


@BOTH
async def test_a_client_that_uses_its_port_again_still_meets_the_upgrader(
    pod: Host, peer: Host, listeners: StandIn, version: str
) -> None:
    """Behind TIME_WAIT no expression on sockets matches, and the kernel would find the application's listener."""
    server = ready(pod.python(CLOSE_FIRST, address=address(pod, version), port=90))
    out = peer.run(CALL_FROM_ONE_PORT, address=address(pod, version), port=90, message=SECRET, turns=3, patience=10)
    assert out.split() == ["True"] * 3
    assert "4444" not in [first_line(server) for _ in range(3)]
    assert "TIME-WAIT" in pod.command("ss", "-Htan", "sport", "=", "90")


async def test_what_the_namespace_forwards_to_others_is_left_alone(pod: Host, peer: Host, listeners: StandIn) -> None:
    """A listener on all addresses matches in prerouting whatever the packet's destination."""
    pod.echo("0.0.0.0", 90)
    pod.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
    pod.command("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    pod.command("ip", "link", "set", "up0", "up")
    pod.command("ip", "link", "set", "up1", "up")
    pod.command("ip", "route", "add", "10.98.0.0/24", "dev", "up0")
    pod.command("nft", "add table ip seen; add chain ip seen f { type filter hook forward priority 0; }; "
                "add rule ip seen f tcp dport 90 counter")  # fmt: skip
    peer.command("ip", "route", "add", "10.98.0.0/24", "via", pod.ipv4)
    peer.run(
        """
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        for flags in (2, 16):  # SYN; ACK
            raw.sendto(struct.pack("!HHIIBBHHH", 5555, 90, 1, 1, 0x50, flags, 1000, 0, 0), ("10.98.0.5", 0))
        """
    )
    assert "counter packets 2 " in pod.command("nft", "list", "chain", "ip", "seen", "f")


async def test_the_upgraders_own_listeners_cannot_be_dialled_from_outside(
    pod: Host, peer: Host, listeners: StandIn
) -> None:
    """With route_localnet (which kube-proxy sets) the loopback's addresses are reached from the link."""
    pod.command("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
    out = peer.run(
        """
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)); packets.bind(("eth0", 0))
        packets.settimeout(1)
        def checksum(data):
            total = sum(struct.unpack(f"!{len(data) // 2}H", data))
            total = (total >> 16) + (total & 0xffff); total += total >> 16
            return struct.pack("!H", ~total & 0xffff)
        def syn(to, port):
            ends = socket.inet_aton(here) + socket.inet_aton(to)
            tcp = struct.pack("!HHIIBBHHH", 5555, port, 1, 0, 0x50, 2, 1000, 0, 0)
            tcp = tcp[:16] + checksum(ends + struct.pack("!HH", 6, 20) + tcp) + tcp[18:]
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ends
            return ip[:10] + checksum(ip) + ip[12:] + tcp
        for to, ports in ((there, [90]), ("127.0.0.1", listeners)):
            for port in ports:
                packets.send(mac + packets.getsockname()[4] + b"\\x08\\x00" + syn(to, port))
                try:
                    while (answer := packets.recv(100)[26:30]) != socket.inet_aton(to):
                        pass
                    told("answered")
                except TimeoutError:
                    told("silence")
        """,
        here=peer.ipv4,
        there=pod.ipv4,
        mac=bytes.fromhex(json.loads(pod.command("ip", "-j", "link", "show", "eth0"))[0]["address"].replace(":", "")),
        listeners=[listeners.outbound, listeners.inbound],
    )
    assert out.split() == ["answered", "silence", "silence"]


@BOTH
async def test_refused_by_the_peer_is_reset_for_the_application(
    pod: Host, peer: Host, listeners: StandIn, version: str
) -> None:
    assert pod.ask(address(peer, version), 99, b"?") == RESET


@BOTH
async def test_udp_passes_in_both_directions(
    pod: Host, peer: Host, listeners: StandIn, wire: Capture, version: str
) -> None:
    ready(
        peer.python(
            """
            server = socket.socket(family(address), socket.SOCK_DGRAM); server.bind((address, 53)); told("ready")
            word, caller = server.recvfrom(100); server.sendto(word.upper(), caller)
            """,
            address=address(peer, version),
        )
    )
    answer = pod.run(
        """
        caller = socket.socket(family(address), socket.SOCK_DGRAM); caller.settimeout(PATIENCE)
        caller.sendto(b"a datagram", (address, 53)); told(caller.recv(100).decode())
        """,
        address=address(peer, version),
    )
    assert answer == "A DATAGRAM"
    assert b"a datagram" in wire.payload()


async def test_conntrack_is_not_needed(pod: Host, peer: Host, listeners: StandIn) -> None:
    peer.echo(peer.ipv4, 80, inverted=True)
    pod.ask(peer.ipv4, 80, SECRET)
    assert pod.command("cat", "/proc/sys/net/netfilter/nf_conntrack_count").strip() == "0"


@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.PERMISSIVE])
async def test_mode_changes_nothing_for_new_connections(
    pod: Host, peer: Host, upgrader: Upgrader, cover: Cover, wire: Capture, mode: Mode
) -> None:
    started = upgrader.start(pod)
    with pod.open() as namespace:
        await cover.install_namespace(upgrader.intent(started, mode), namespace)
    peer.echo(peer.ipv4, 80, inverted=True)
    assert pod.ask(peer.ipv4, 80, SECRET) == pod.ipv4.encode() + b" " + SECRET
    assert SECRET not in wire.payload()
