"""Datagrams to a receiver and its answers, and ICMP as real kernels send it. On the loopback, of this namespace or of a
fresh one."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, TypeVar

import pytest

from jfe_cni.kernel.namespace import in_fresh_namespace
from jfe_cni.overflowd.delivery.answers import Answer, of_icmp
from jfe_cni.overflowd.delivery.outcomes import Told, Way
from jfe_cni.overflowd.delivery.sizes import UDP_TRIES, datagram, most
from jfe_cni.overflowd.delivery.udp import UdpWay
from jfe_cni.overflowd.notices import keys, messages, optout
from jfe_cni.overflowd.notices.signing import LARGEST_SIGNED, sign
from tests.overflowd.receivers import Reply, silent, taking, udp_receiver
from tests.overflowd.test_notices import NOTICE

T = TypeVar("T")
LOCAL = ip_address("127.0.0.1")
PAYLOAD = sign(NOTICE, keys.new_key()).encode()
DIGEST = messages.digest(PAYLOAD)
COOKIE = "c" * 22
CHALLENGE = messages.encode(messages.Challenge(COOKIE))
# As long as a loopback takes many times over; tests that wait for nothing wait for so long.
WAITS = (0.2, 0.2)
# Where an answer comes, it is waited for.
PATIENT = (20.0, 20.0)


def in_namespace(work: Callable[[], Coroutine[Any, Any, T]], *commands: str) -> T:
    """In a fresh one, whose loopback is up, once the commands have been run in it."""

    def prepared() -> T:
        for each in ("ip link set lo up", *commands):
            subprocess.run(["sh", "-ec", each], check=True, capture_output=True)
        return asyncio.run(work())

    return in_fresh_namespace(prepared)


async def told(reply: Reply, waits: tuple[float, float] = PATIENT) -> tuple[Answer, list[bytes]]:
    async with udp_receiver(reply) as receiver:
        answer = await UdpWay(receiver.port, waits).tell(LOCAL, PAYLOAD)
        return answer, receiver.got


async def test_a_notice_that_is_taken_is_one_datagram_which_is_the_notice_itself() -> None:
    answer, got = await told(taking)
    assert got == [PAYLOAD]
    assert answer == Answer(Told.TAKEN, datagram(len(PAYLOAD), LOCAL))


async def test_a_challenge_is_answered_once_by_the_notice_and_its_cookie() -> None:
    def reply(raw: bytes) -> list[bytes]:
        return [CHALLENGE, CHALLENGE, CHALLENGE] if raw == PAYLOAD else taking(raw)

    answer, got = await told(reply)
    assert answer.told is Told.TAKEN
    assert got == [PAYLOAD, messages.encode(messages.Sent(PAYLOAD, COOKIE))]


async def test_who_challenges_for_ever_gets_one_echo_and_the_notice_not_again() -> None:
    answer, got = await told(lambda _: [CHALLENGE], WAITS)
    assert answer.told is Told.NO_ANSWER
    assert got == [PAYLOAD, messages.encode(messages.Sent(PAYLOAD, COOKIE))]


async def test_to_silence_a_notice_is_sent_twice_and_no_more() -> None:
    answer, got = await told(silent, WAITS)
    assert got == [PAYLOAD] * UDP_TRIES == [PAYLOAD] * 2
    assert answer == Answer(Told.NO_ANSWER, 2 * datagram(len(PAYLOAD), LOCAL))


async def test_a_signed_wish_to_be_left_alone_is_heard() -> None:
    key = keys.new_key()
    signed = optout.sign(DIGEST, key, prefix_length=24).encode()
    answer, _ = await told(lambda _: [messages.encode(messages.OptOut(DIGEST, signed))])
    assert answer.told is Told.OPTED_OUT
    assert answer.opt_out is not None
    assert answer.opt_out.asked == optout.OptOutAsked(key.thumbprint(), None, 24)
    assert answer.opt_out.signed == signed


OTHER = messages.digest(b"another")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"overflowd1 ",
        b"x" * 60_000,
        PAYLOAD,
        messages.encode(messages.Taken(OTHER)),
        messages.encode(messages.OptOut(OTHER, optout.sign(OTHER, keys.new_key()).encode())),
        messages.encode(messages.OptOut(DIGEST, optout.sign(OTHER, keys.new_key()).encode())),
        messages.encode(messages.OptOut(DIGEST, b"e30.e30.AA")),
    ],
)
async def test_what_answers_another_notice_or_none_is_not_believed(answer: bytes) -> None:
    found, _ = await told(lambda _: [answer] * 3, WAITS)
    assert found.told is Told.NO_ANSWER


async def test_who_answers_without_end_is_not_listened_to_without_end() -> None:
    found, got = await told(lambda _: [b"noise"] * 100, (30.0, 0.2))
    assert found.told is Told.NO_ANSWER
    assert got == [PAYLOAD]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_an_answer_from_another_port_or_address_is_not_believed(host: str) -> None:
    async with udp_receiver(silent) as asked, udp_receiver(silent, host) as other:

        async def forge() -> None:
            await asked.came.wait()
            other.send(messages.encode(messages.Taken(DIGEST)), asked.senders[0])

        forging = asyncio.create_task(forge())
        answer = await UdpWay(asked.port, WAITS).tell(LOCAL, PAYLOAD)
        await forging
    assert answer.told is Told.NO_ANSWER


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_to_a_port_that_nobody_listens_on_it_is_not_sent_again(address: str) -> None:
    async with udp_receiver(silent, address) as receiver:
        port = receiver.port
    answer = await UdpWay(port, WAITS).tell(ip_address(address), PAYLOAD)
    assert answer == Answer(Told.PORT_UNREACHABLE, datagram(len(PAYLOAD), ip_address(address)))


REJECTS = (
    "nft add table inet t; nft 'add chain inet t c { type filter hook input priority 0; }'; nft add rule inet t c "
)


@pytest.mark.parametrize(
    ("address", "reject", "heard"),
    [
        ("127.0.0.1", "icmp admin-prohibited", Told.PROHIBITED),
        ("127.0.0.1", "icmp host-prohibited", Told.PROHIBITED),
        ("127.0.0.1", "icmp host-unreachable", Told.HOST_UNREACHABLE),
        ("127.0.0.1", "icmp net-unreachable", Told.HOST_UNREACHABLE),
        ("127.0.0.1", "icmp port-unreachable", Told.PORT_UNREACHABLE),
        ("::1", "icmpv6 admin-prohibited", Told.PROHIBITED),
        ("::1", "icmpv6 no-route", Told.HOST_UNREACHABLE),
        ("::1", "icmpv6 port-unreachable", Told.PORT_UNREACHABLE),
    ],
)
def test_what_the_network_says_is_told_apart(address: str, reject: str, heard: Told) -> None:
    async def work() -> Answer:
        return await UdpWay(65_535, WAITS).tell(ip_address(address), PAYLOAD)

    answer = in_namespace(work, f"{REJECTS} udp dport 65535 reject with {reject.replace(' ', ' type ')}")
    assert answer == Answer(heard, datagram(len(PAYLOAD), ip_address(address)))


def test_icmp_that_asks_for_less_at_once_is_no_refusal() -> None:
    assert of_icmp(3, 4, 4) is None
    assert of_icmp(2, 0, 6) is None


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::9"])
def test_where_there_is_no_route_nothing_is_sent(address: str) -> None:
    async def work() -> Answer:
        return await UdpWay(65_535, (30.0, 30.0)).tell(ip_address(address), PAYLOAD)

    assert in_namespace(work) == Answer(Told.NO_ROUTE, 0)


async def test_what_no_receiver_takes_is_not_sent() -> None:
    async with udp_receiver(taking) as receiver:
        way = UdpWay(receiver.port, PATIENT)
        assert await way.tell(LOCAL, bytes(LARGEST_SIGNED + 1)) == Answer(Told.TOO_LARGE, 0)
        assert (await way.tell(LOCAL, PAYLOAD)).told is Told.TAKEN
        assert receiver.got == [PAYLOAD]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("size", [600, LARGEST_SIGNED])
def test_no_more_octets_leave_than_are_reckoned_with(address: str, size: int) -> None:
    """Counted by the kernel, through a link of 1,280: of the tries, the echo, and every fragment's header."""
    payload = b"a." + b"x" * (size - 4) + b".c"

    def reply(raw: bytes) -> list[bytes]:
        return [CHALLENGE] if raw == payload else []

    async def work() -> tuple[Answer, int, list[bytes]]:
        async with udp_receiver(reply, address) as receiver:
            before = sent()
            answer = await UdpWay(receiver.port, WAITS).tell(ip_address(address), payload)
            return answer, sent() - before, receiver.got

    def sent() -> int:
        said = subprocess.run(["ip", "-j", "-s", "link"], check=True, capture_output=True).stdout
        counted = json.loads(said)[0]["stats64"]["tx"]
        # A frame of the loopback has an Ethernet header.
        return int(counted["bytes"]) - 14 * int(counted["packets"])

    answer, octets, got = in_namespace(work, "ip link set lo mtu 1280")
    assert len(got) == 2
    # What came back went through the same link.
    octets -= datagram(len(CHALLENGE), ip_address(address))
    assert 2 * size < octets <= answer.octets <= most(Way.UDP, ip_address(address), size, size, asks_key=False)
