"""Keys are fetched from who publishes them, and from nowhere that somebody would like us to ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from aiohttp import web

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.notices.keys import PUBLISHED
from jfe_cni.overflowd.receiver import pins
from jfe_cni.overflowd.receiver.key_fetching import (
    IN_ALL,
    LARGEST,
    NEGATIVE,
    OF_A_DOMAIN,
    Fetched,
    KeyFetcher,
    Pay,
    Resolve,
    Unfetched,
    few,
    resolve,
    trusted_roots,
)
from tests.overflowd.receiving import (
    DEADLINE,
    DOMAIN,
    LOOPBACK,
    Authority,
    Publisher,
    at_loopback,
    publishing,
)

ROOT = Path(__file__).parents[2]
LABORATORY = Policy(told=(ip_network("127.0.0.1/32"),))


class Time:
    def __init__(self) -> None:
        self.now = time.time_ns() // 1_000

    def __call__(self) -> int:
        return self.now


def fetcher(
    trusted: Authority, policy: Policy = LABORATORY, resolving: Resolve = at_loopback, clock: Time | None = None
) -> KeyFetcher:
    return KeyFetcher(policy, clock or Time(), trusted_roots(str(trusted.roots)), resolving)


def has(credit: int) -> Pay:
    """Who has sent as many bytes."""
    return lambda least: credit if credit >= least else Unfetched.TOO_LARGE


def of(publisher: Publisher, domain: str = DOMAIN) -> pins.Publisher:
    return pins.Publisher(domain, publisher.port)


async def test_what_a_domain_publishes_is_fetched(trusted: Authority, publisher: Publisher) -> None:
    fetched = await fetcher(trusted).fetch(of(publisher), has(LARGEST))
    assert not isinstance(fetched.keys, Unfetched)
    assert list(fetched.keys) == [publisher.ring.signing.thumbprint()]
    # With the header of its answer.
    assert 300 < fetched.count < 800
    assert fetched.left == LARGEST - fetched.count


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "127.0.0.2", "::1", "fe80::1", "64:ff9b::808:808"])
async def test_a_name_of_a_private_address_is_asked_nothing_even_if_another_is_public(
    trusted: Authority, publisher: Publisher, address: str
) -> None:
    async def both(_domain: str) -> Sequence[Address]:
        return [LOOPBACK, ip_address(address)]

    fetched = await fetcher(trusted, resolving=both).fetch(of(publisher), has(LARGEST))
    assert fetched == Fetched(Unfetched.FORBIDDEN_ADDRESS, 0, left=LARGEST)
    assert publisher.asked == 0


async def test_without_a_laboratory_loopback_is_asked_nothing(trusted: Authority, publisher: Publisher) -> None:
    fetched = await fetcher(trusted, Policy()).fetch(of(publisher), has(LARGEST))
    assert fetched.keys is Unfetched.FORBIDDEN_ADDRESS
    assert publisher.asked == 0


async def test_a_name_that_points_elsewhere_once_it_was_looked_at_leads_nowhere_else(trusted: Authority) -> None:
    """DNS rebinding: the second answer is an address inside, where a server has that name's very certificate."""
    answers = [LOOPBACK, ip_address("127.0.0.2")]
    asked = []

    async def rebinding(domain: str) -> Sequence[Address]:
        asked.append(domain)
        return [answers[min(len(asked), 2) - 1]]

    async with publishing(trusted) as right, publishing(trusted, address="127.0.0.2", port=right.port) as inside:
        fetched = await fetcher(trusted, resolving=rebinding).fetch(of(right), has(LARGEST))
        assert not isinstance(fetched.keys, Unfetched)
        assert (right.asked, inside.asked, len(asked)) == (1, 0, 1)


async def test_a_redirect_is_not_followed(trusted: Authority, publisher: Publisher) -> None:
    async def elsewhere(_request: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPFound("/secret")

    publisher.answer = elsewhere
    assert (await fetcher(trusted).fetch(of(publisher), has(LARGEST))).keys is Unfetched.REDIRECTED
    assert (publisher.asked, publisher.others) == (1, [])


async def test_a_certificate_of_another_domain_or_of_an_unknown_authority_is_nothing(
    trusted: Authority, publisher: Publisher, tmp_path: Path
) -> None:
    assert (await fetcher(trusted).fetch(of(publisher, "other.example"), has(LARGEST))).keys is Unfetched.UNREACHABLE
    hosts = KeyFetcher(LABORATORY, Time(), ssl.create_default_context(), at_loopback)
    assert (await hosts.fetch(of(publisher), has(LARGEST))).keys is Unfetched.UNREACHABLE
    assert publisher.asked == 0


class Endless(threading.Thread):
    """A server of TLS that sends and sends: `head` once, then `more`. `sent`: bytes; what was sent was read, but for
    what small buffers hold."""

    def __init__(self, trusted: Authority, head: bytes, more: bytes) -> None:
        super().__init__(daemon=True)
        self._head, self._more = head, more
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*trusted.issue(DOMAIN))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        self._listening.settimeout(DEADLINE)
        self.port: int = self._listening.getsockname()[1]
        self.sent = 0

    def run(self) -> None:
        with self._listening, contextlib.suppress(OSError):
            raw, _ = self._listening.accept()
            raw.settimeout(DEADLINE)
            with self._context.wrap_socket(raw, server_side=True) as connection:
                connection.recv(4_096)
                connection.sendall(self._head)
                while True:
                    connection.sendall(self._more)
                    self.sent += len(self._more)


CHUNK = b"400\r\n" + bytes(1_024) + b"\r\n"


@pytest.mark.parametrize(
    ("head", "more", "why", "least"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", CHUNK, Unfetched.TOO_LARGE, 1_000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n{\r\n", Unfetched.TOO_LARGE, 1_000),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 900000000\r\n\r\n", bytes(1_024), Unfetched.TOO_LARGE, 1),
        (b"HTTP/1.1 200 OK\r\n", b"name: " + b"v" * 1_000 + b"\r\n", Unfetched.TOO_LARGE, 1_000),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", Unfetched.TOO_LARGE, 1_000),
        (b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n", CHUNK, Unfetched.REFUSED, 1),
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 900000000\r\n\r\n", CHUNK, Unfetched.REDIRECTED, 1),
    ],
)
async def test_no_more_is_read_than_may_be_and_all_of_it_is_counted(
    trusted: Authority, head: bytes, more: bytes, why: Unfetched, least: int
) -> None:
    """Content, header, what comes before the answer, and what is no answer to be had."""
    server = Endless(trusted, head, more)
    server.start()
    fetched = await fetcher(trusted).fetch(pins.Publisher(DOMAIN, server.port), has(1_000))
    assert fetched.keys is why
    assert least <= fetched.count <= 1_000
    assert fetched.left == 1_000 - fetched.count
    await asyncio.to_thread(server.join, DEADLINE)
    assert not server.is_alive()
    # What the buffers of both ends hold.
    assert server.sent < 100_000


async def test_what_says_that_it_is_too_large_costs_its_header(trusted: Authority, publisher: Publisher) -> None:
    async def large(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({**publisher.ring.published(0), "more": "x" * 8_000})

    publisher.answer, asking = large, fetcher(trusted)
    assert (await asking.fetch(of(publisher), has(4_000))).keys is Unfetched.TOO_LARGE
    for credit in (4_000, 8_000):
        assert (await asking.fetch(of(publisher), has(credit))) == Fetched(Unfetched.TOO_LARGE), "it would be in vain"
    assert publisher.asked == 1
    assert not isinstance((await asking.fetch(of(publisher), has(9_500))).keys, Unfetched)


async def test_of_what_does_not_say_how_large_it_is_a_few_tries_are_made(
    trusted: Authority, publisher: Publisher
) -> None:
    """No more than was sent is read for any of them."""

    async def chunked(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(json.dumps({**publisher.ring.published(0), "more": "x" * 5_000}).encode())
        return answer

    publisher.answer, asking, credit = chunked, fetcher(trusted), 0
    sent = 0
    while sent < 20:
        sent, credit = sent + 1, credit + 1_000
        fetched = await asking.fetch(of(publisher), has(credit))
        if fetched.keys is not Unfetched.TOO_LARGE:
            break
        credit -= fetched.count
        assert credit >= 0
    assert not isinstance(fetched.keys, Unfetched)
    assert (publisher.asked, sent) == (4, 15), "with 1, 2, 4 and 8 thousand"


async def test_whoever_waits_for_one_that_had_sent_too_little_asks_with_its_own(
    trusted: Authority, publisher: Publisher
) -> None:
    asking = fetcher(trusted)
    sent = (50, 51, LARGEST, LARGEST)
    poor, poorer, *rich = await asyncio.gather(*(asking.fetch(of(publisher), has(each)) for each in sent))
    assert (poor.keys, poorer.keys) == (Unfetched.TOO_LARGE, Unfetched.TOO_LARGE)
    assert not any(isinstance(each.keys, Unfetched) for each in rich)
    assert publisher.asked == 2


async def test_nobody_pays_for_what_is_not_fetched(trusted: Authority, publisher: Publisher) -> None:
    paid = 0

    def pay(_least: int) -> int:
        nonlocal paid
        paid += 1
        return LARGEST

    asking = fetcher(trusted)
    await asyncio.gather(*(asking.fetch(of(publisher), pay) for _ in range(20)))
    assert (paid, publisher.asked) == (1, 1), "the others wait for it"
    gone = pins.Publisher("gone.example", publisher.port)
    assert [(await asking.fetch(gone, pay)).keys for _ in range(5)] == [
        Unfetched.UNREACHABLE,
        *[Unfetched.ASKED_BEFORE] * 4,
    ]
    assert paid == 2
    for _ in range(OF_A_DOMAIN.count + 5):
        await asking.fetch(of(publisher), pay)
    assert (paid, publisher.asked) == (1 + OF_A_DOMAIN.count, OF_A_DOMAIN.count)


async def test_who_may_have_nothing_fetched_takes_nothing_from_others(trusted: Authority, publisher: Publisher) -> None:
    asking = fetcher(trusted)
    for _ in range(max(OF_A_DOMAIN.count, IN_ALL.count) + 1):
        assert (await asking.fetch(of(publisher), lambda _: Unfetched.TOO_MANY)).keys is Unfetched.TOO_MANY
    assert not isinstance((await asking.fetch(of(publisher), has(LARGEST))).keys, Unfetched)


async def test_of_a_name_with_many_addresses_two_of_each_kind_are_tried(trusted: Authority) -> None:
    addresses = [ip_address(f"127.0.0.{n}") for n in range(1, 255)]
    sixes = [ip_address(f"2001:db8::{n}") for n in range(1, 255)]
    assert few(addresses) == addresses[:2]
    assert few([*addresses, *sixes]) == [addresses[0], sixes[0], addresses[1], sixes[1]]
    assert few([*sixes, *addresses]) == [sixes[0], addresses[0], sixes[1], addresses[1]]
    told = Policy(told=(ip_network("127.0.0.0/8"),))
    for place, reached in ((1, True), (2, False)):
        async with publishing(trusted, address=str(addresses[place])) as publisher:

            async def many(_domain: str) -> Sequence[Address]:
                return addresses

            fetched = await fetcher(trusted, told, many).fetch(of(publisher), has(LARGEST))
            assert (publisher.asked, isinstance(fetched.keys, Unfetched)) == (int(reached), not reached)


SILENT_DNS = """
import asyncio, socket, ssl, threading
from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.receiver.key_fetching import LARGEST, KeyFetcher
from jfe_cni.overflowd.receiver.pins import Publisher

dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind(("127.0.0.1", 53))

async def ask():
    fetcher = KeyFetcher(Policy(), lambda: 0, ssl.create_default_context())
    some = [fetcher.fetch(Publisher(f"name-{n}.example"), lambda _: LARGEST) for n in range(16)]
    print(*sorted({each.keys for each in await asyncio.gather(*some)}))
    print((await fetcher.fetch(Publisher("one-more.example"), lambda _: LARGEST)).keys)
    await fetcher.close()

asyncio.run(ask())
print(sum(each.name == "overflowd-resolves" for each in threading.enumerate()))
"""


def test_a_dns_server_that_does_not_answer_holds_up_what_it_was_asked_and_not_the_end(tmp_path: Path) -> None:
    """In a network of its own: each place is taken until its thread is back, and at the end none is waited for."""
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    script = 'ip link set lo up && mount --bind "$0" /etc/resolv.conf && exec "$@"'
    words = ["unshare", "--net", "--mount", "sh", "-c", script, str(resolver), sys.executable, "-c", SILENT_DNS]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout.split(), ended.returncode) == (["unreachable", "too-often", "16"], 0), ended.stderr


# Answers that there is no such name, and prints which it was asked for.
NO_NAMES = """
import asyncio, socket, threading
from jfe_cni.overflowd.receiver.key_fetching import resolve

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
asked = set()

def answer():
    while True:
        question, sender = server.recvfrom(512)
        labels, place = [], 12
        while question[place]:
            labels.append(question[place + 1 : place + 1 + question[place]].decode())
            place += 1 + question[place]
        asked.add(".".join(labels))
        server.sendto(question[:2] + bytes.fromhex("8583000100000000") + bytes(2) + question[12 : place + 5], sender)

threading.Thread(target=answer, daemon=True).start()
try:
    asyncio.run(resolve("carrier.example"))
except OSError:
    print(*sorted(asked))
"""


def test_a_domain_is_asked_for_by_its_own_name_and_not_below_the_hosts(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\nsearch cluster.local\noptions ndots:5\n")
    script = 'ip link set lo up && mount --bind "$0" /etc/resolv.conf && exec "$@"'
    words = ["unshare", "--net", "--mount", "sh", "-c", script, str(resolver), sys.executable, "-c", NO_NAMES]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout.split(), ended.returncode) == (["carrier.example"], 0), ended.stderr


async def test_who_sends_little_is_no_reason_not_to_ask_for_another(trusted: Authority, publisher: Publisher) -> None:
    asking = fetcher(trusted)
    assert (await asking.fetch(of(publisher), has(50))).keys is Unfetched.TOO_LARGE
    assert not isinstance((await asking.fetch(of(publisher), has(LARGEST))).keys, Unfetched)


async def test_a_domain_that_had_no_keys_is_left_alone_for_a_while(trusted: Authority, publisher: Publisher) -> None:
    async def none(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"keys": []})

    publisher.answer, clock = none, Time()
    asking = fetcher(trusted, clock=clock)
    assert (await asking.fetch(of(publisher), has(LARGEST))).keys is Unfetched.NO_KEYS
    publisher.answer = None
    assert (await asking.fetch(of(publisher), has(LARGEST))).keys is Unfetched.ASKED_BEFORE
    assert publisher.asked == 1
    clock.now += NEGATIVE
    assert not isinstance((await asking.fetch(of(publisher), has(LARGEST))).keys, Unfetched)


async def test_a_domain_is_asked_so_often_and_no_more(trusted: Authority, publisher: Publisher) -> None:
    asking = fetcher(trusted)
    found = [(await asking.fetch(of(publisher), has(LARGEST))).keys for _ in range(OF_A_DOMAIN.count + 3)]
    assert [each is Unfetched.TOO_OFTEN for each in found] == [False] * OF_A_DOMAIN.count + [True] * 3
    assert publisher.asked == OF_A_DOMAIN.count


async def test_all_who_wait_for_one_domain_wait_for_one_answer(trusted: Authority, publisher: Publisher) -> None:
    asking = fetcher(trusted)
    together = await asyncio.gather(*(asking.fetch(of(publisher), has(LARGEST)) for _ in range(20)))
    assert publisher.asked == 1
    assert not any(isinstance(each.keys, Unfetched) for each in together)
    assert sum(each.count > 0 for each in together) == 1, "paid for by one of them"


async def test_a_server_that_says_no_or_nothing_has_no_keys(trusted: Authority, publisher: Publisher) -> None:
    async def refusal(_request: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPForbidden

    publisher.answer = refusal
    assert (await fetcher(trusted).fetch(of(publisher), has(LARGEST))).keys is Unfetched.REFUSED
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    gone = pins.Publisher(DOMAIN, port)
    assert (await fetcher(trusted).fetch(gone, has(LARGEST))).keys is Unfetched.UNREACHABLE


def test_the_hosts_own_names_are_known(tmp_path: Path) -> None:
    names = tmp_path / "hosts"
    names.write_text("127.0.0.9 carrier.example.\n")
    asked = "import asyncio\nfrom jfe_cni.overflowd.receiver.key_fetching import resolve\n"
    asked += "print(*asyncio.run(resolve('carrier.example')))"
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, str(names), sys.executable, "-c", asked]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout.split(), ended.returncode) == (["127.0.0.9"], 0), ended.stderr


async def test_who_has_no_such_name_says_so() -> None:
    with pytest.raises(OSError, match=r".+"):
        await resolve("no-such-host.invalid")


async def test_a_name_that_is_not_there_has_no_keys(trusted: Authority, publisher: Publisher) -> None:
    assert (await fetcher(trusted, resolving=resolve).fetch(of(publisher, "none.invalid"), has(LARGEST))).keys is (
        Unfetched.NO_ADDRESS
    )


def test_the_well_known_place_is_what_is_asked_for() -> None:
    assert pins.Publisher("carrier.example").url == f"https://carrier.example:443{PUBLISHED}"
