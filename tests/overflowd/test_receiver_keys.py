"""Keys are fetched from who publishes them, and from nowhere that somebody would like us to ask."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from aiohttp import web

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.destinations import Policy
from jfe_cni.overflowd.notices.keys import PUBLISHED
from jfe_cni.overflowd.receiver import pins
from jfe_cni.overflowd.receiver.key_fetching import (
    LARGEST,
    NEGATIVE,
    OF_A_DOMAIN,
    Fetched,
    KeyFetcher,
    Resolve,
    Unfetched,
    resolve,
    trusted_roots,
)
from tests.overflowd.receiving import DOMAIN, LOOPBACK, Authority, Publisher, at_loopback, authority, publishing

LABORATORY = Policy(told=(ip_network("127.0.0.1/32"),))


class Time:
    def __init__(self) -> None:
        self.now = time.time_ns() // 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return authority(tmp_path)


@pytest.fixture
async def publisher(trusted: Authority) -> AsyncIterator[Publisher]:
    async with publishing(trusted) as found:
        yield found


def fetcher(
    trusted: Authority, policy: Policy = LABORATORY, resolving: Resolve = at_loopback, clock: Time | None = None
) -> KeyFetcher:
    return KeyFetcher(policy, clock or Time(), trusted_roots(str(trusted.roots)), resolving)


def of(publisher: Publisher, domain: str = DOMAIN) -> pins.Publisher:
    return pins.Publisher(domain, publisher.port)


async def test_what_a_domain_publishes_is_fetched(trusted: Authority, publisher: Publisher) -> None:
    fetched = await fetcher(trusted).fetch(of(publisher), LARGEST)
    assert not isinstance(fetched.keys, Unfetched)
    assert list(fetched.keys) == [publisher.ring.signing.thumbprint()]
    assert 0 < fetched.count < 400


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "127.0.0.2", "::1", "fe80::1", "64:ff9b::808:808"])
async def test_a_name_of_a_private_address_is_asked_nothing_even_if_another_is_public(
    trusted: Authority, publisher: Publisher, address: str
) -> None:
    async def both(_domain: str) -> Sequence[Address]:
        return [LOOPBACK, ip_address(address)]

    assert await fetcher(trusted, resolving=both).fetch(of(publisher), LARGEST) == Fetched(
        Unfetched.FORBIDDEN_ADDRESS, 0
    )
    assert publisher.asked == 0


async def test_without_a_laboratory_loopback_is_asked_nothing(trusted: Authority, publisher: Publisher) -> None:
    fetched = await fetcher(trusted, Policy()).fetch(of(publisher), LARGEST)
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
        fetched = await fetcher(trusted, resolving=rebinding).fetch(of(right), LARGEST)
        assert not isinstance(fetched.keys, Unfetched)
        assert (right.asked, inside.asked, len(asked)) == (1, 0, 1)


async def test_a_redirect_is_not_followed(trusted: Authority, publisher: Publisher) -> None:
    async def elsewhere(_request: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPFound("/secret")

    publisher.answer = elsewhere
    assert (await fetcher(trusted).fetch(of(publisher), LARGEST)).keys is Unfetched.REDIRECTED
    assert (publisher.asked, publisher.others) == (1, [])


async def test_a_certificate_of_another_domain_or_of_an_unknown_authority_is_nothing(
    trusted: Authority, publisher: Publisher, tmp_path: Path
) -> None:
    assert (await fetcher(trusted).fetch(of(publisher, "other.example"), LARGEST)).keys is Unfetched.UNREACHABLE
    hosts = KeyFetcher(LABORATORY, Time(), ssl.create_default_context(), at_loopback)
    assert (await hosts.fetch(of(publisher), LARGEST)).keys is Unfetched.UNREACHABLE
    assert publisher.asked == 0


async def test_no_more_is_read_than_may_be(trusted: Authority, publisher: Publisher) -> None:
    sent = 0

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(bytes(65_536))
            sent += 65_536

    publisher.answer = endless
    assert await fetcher(trusted).fetch(of(publisher), 1_000) == Fetched(Unfetched.TOO_LARGE, 1_000)
    # What the kernel's buffers of both ends hold, and no more: the connection is gone.
    assert sent < 64 * 1024 * 1024

    publisher.answer = None
    assert await fetcher(trusted).fetch(of(publisher), 50) == Fetched(Unfetched.TOO_LARGE, 0), "as its length says"


async def test_who_sends_little_is_no_reason_not_to_ask_for_another(trusted: Authority, publisher: Publisher) -> None:
    asking = fetcher(trusted)
    assert (await asking.fetch(of(publisher), 50)).keys is Unfetched.TOO_LARGE
    assert not isinstance((await asking.fetch(of(publisher), LARGEST)).keys, Unfetched)


async def test_a_domain_that_had_no_keys_is_left_alone_for_a_while(trusted: Authority, publisher: Publisher) -> None:
    async def none(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"keys": []})

    publisher.answer, clock = none, Time()
    asking = fetcher(trusted, clock=clock)
    assert (await asking.fetch(of(publisher), LARGEST)).keys is Unfetched.NO_KEYS
    publisher.answer = None
    assert (await asking.fetch(of(publisher), LARGEST)).keys is Unfetched.ASKED_BEFORE
    assert publisher.asked == 1
    clock.now += NEGATIVE
    assert not isinstance((await asking.fetch(of(publisher), LARGEST)).keys, Unfetched)


async def test_a_domain_is_asked_so_often_and_no_more(trusted: Authority, publisher: Publisher) -> None:
    asking = fetcher(trusted)
    found = [(await asking.fetch(of(publisher), LARGEST)).keys for _ in range(OF_A_DOMAIN.count + 3)]
    assert [each is Unfetched.TOO_OFTEN for each in found] == [False] * OF_A_DOMAIN.count + [True] * 3
    assert publisher.asked == OF_A_DOMAIN.count


async def test_all_who_wait_for_one_domain_wait_for_one_answer(trusted: Authority, publisher: Publisher) -> None:
    asking = fetcher(trusted)
    together = await asyncio.gather(*(asking.fetch(of(publisher), LARGEST) for _ in range(20)))
    assert publisher.asked == 1
    assert not any(isinstance(each.keys, Unfetched) for each in together)
    assert sum(each.count > 0 for each in together) == 1, "paid for by one of them"


async def test_a_server_that_says_no_or_nothing_has_no_keys(trusted: Authority, publisher: Publisher) -> None:
    async def refusal(_request: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPForbidden

    publisher.answer = refusal
    assert (await fetcher(trusted).fetch(of(publisher), LARGEST)).keys is Unfetched.REFUSED
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    gone = pins.Publisher(DOMAIN, port)
    assert (await fetcher(trusted).fetch(gone, LARGEST)).keys is Unfetched.UNREACHABLE


async def test_the_hosts_resolver_is_asked() -> None:
    assert LOOPBACK in await resolve("localhost")
    with pytest.raises(OSError, match=r".+"):
        await resolve("no-such-host.invalid")


async def test_a_name_that_is_not_there_has_no_keys(trusted: Authority, publisher: Publisher) -> None:
    assert (await fetcher(trusted, resolving=resolve).fetch(of(publisher, "none.invalid"), LARGEST)).keys is (
        Unfetched.NO_ADDRESS
    )


def test_the_well_known_place_is_what_is_asked_for() -> None:
    assert pins.Publisher("carrier.example").url == f"https://carrier.example:443{PUBLISHED}"
