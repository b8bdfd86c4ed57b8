"""What anybody may send who has seen nothing: ICMP from a third address, about a notice that is under way."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from jfe_cni.overflowd.delivery.outcomes import State, Told
from jfe_cni.overflowd.delivery.udp import UdpWay
from jfe_cni.overflowd.notices import messages
from tests.overflowd.couriers import delivering, ended, settings
from tests.overflowd.receivers import Reply, UdpReceiver, silent, taking, udp_receiver
from tests.overflowd.test_courier import free_port, to
from tests.overflowd.test_delivery_http import answering, server
from tests.overflowd.test_delivery_udp import CHALLENGE, COOKIE, LOCAL, PATIENT, PAYLOAD, WAITS

# Host unreachable, and prohibited by a filter (RFC 792; RFC 1812, section 5.2.7.1).
FORGED = [1, 13]


def forge(code: int, sender: tuple[str, int], receiver: int) -> None:
    """An ICMP from a third address, which has seen nothing and quotes the ports alone."""
    quoted = struct.pack(">BBHHHBBH", 0x45, 0, 1_000, 1, 0, 60, socket.IPPROTO_UDP, 0)
    quoted += socket.inet_aton(sender[0]) + LOCAL.packed + struct.pack(">HHHH", sender[1], receiver, 980, 0)
    said = struct.pack(">BBHI", 3, code, 0, 0) + quoted
    total = sum(struct.unpack(f">{len(said) // 2}H", said))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.bind(("127.0.0.66", 0))
        raw.sendto(said[:2] + struct.pack(">H", checksum) + said[4:], (sender[0], 0))


@contextlib.asynccontextmanager
async def forged_against(reply: Reply, code: int, host: str = "127.0.0.1") -> AsyncIterator[UdpReceiver]:
    """A receiver of which, for whatever comes to it, a third says before it answers that it can't be reached."""

    def reply_late(raw: bytes) -> Iterable[bytes]:
        for _ in range(3):
            forge(code, receiver.senders[-1], receiver.port)
        return reply(raw)

    async with udp_receiver(reply_late, host) as receiver:
        yield receiver


@pytest.mark.parametrize("code", FORGED)
async def test_who_answers_is_heard_whatever_a_third_says_by_icmp(code: int) -> None:
    async with forged_against(taking, code) as receiver:
        assert (await UdpWay(receiver.port, PATIENT).tell(LOCAL, PAYLOAD)).told is Told.TAKEN


@pytest.mark.parametrize("code", FORGED)
async def test_who_challenges_gets_its_echo_whatever_a_third_says_by_icmp(code: int) -> None:
    def reply(raw: bytes) -> list[bytes]:
        return [CHALLENGE] if raw == PAYLOAD else taking(raw)

    async with forged_against(reply, code) as receiver:
        assert (await UdpWay(receiver.port, PATIENT).tell(LOCAL, PAYLOAD)).told is Told.TAKEN
        assert receiver.got == [PAYLOAD, messages.encode(messages.Sent(PAYLOAD, COOKIE))]


async def test_where_nobody_answers_a_forged_icmp_is_what_is_heard() -> None:
    async with forged_against(silent, 1) as receiver:
        assert (await UdpWay(receiver.port, WAITS).tell(LOCAL, PAYLOAD)).told is Told.HOST_UNREACHABLE
        assert receiver.got == [PAYLOAD]


async def test_what_a_third_says_by_icmp_silences_nobody_that_answers_by_any_way(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with forged_against(silent, 1, "0.0.0.0") as by_udp, server(answering(202)) as by_http:
        ports = {"udp_port": by_udp.port, "https_port": free_port(), "http_port": by_http.port}
        wanted = settings(sqlite_url, tmp_path, ways=("udp", "https", "http"), sealing="never", **ports)
        async with delivering(wanted) as (delivery, _):
            for count in (1, 2):
                await delivery.outbox.put(to("127.0.0.1"))
                assert (await ended(sqlite_url, 2 * count))[(State.SENT, None, "http")] == count


async def test_what_a_third_says_by_icmp_leaves_nobody_alone_where_udp_is_the_only_way(
    sqlite_url: str, tmp_path: Path
) -> None:
    async with (
        forged_against(silent, 13, "0.0.0.0") as receiver,
        delivering(settings(sqlite_url, tmp_path, udp_port=receiver.port)) as (delivery, _),
    ):
        for count in (1, 2):
            await delivery.outbox.put(to("127.0.0.1"))
            assert (await ended(sqlite_url, 2 * count))[(State.FAILED, "prohibited", "udp")] == count
