"""Abuse desks: whom a registry names, by RDAP from a real server, and the mail that a real server of SMTP gets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import email
import email.policy
import json
import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import xarf as official
from aiohttp import web
from aiosmtpd.smtp import SMTP
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.delivery import Delivery
from jfe_cni.overflowd.delivery.mail import letter
from jfe_cni.overflowd.delivery.outcomes import State
from jfe_cni.overflowd.delivery.rdap import (
    FAILURE_KEPT_SECONDS,
    KEPT_SECONDS,
    Bootstrap,
    Rdap,
    abuse_contact,
    read_bootstrap,
)
from jfe_cni.overflowd.notices.notice import Class, Notice
from jfe_cni.overflowd.notices.xarf import report
from tests.overflowd.couriers import delivering, ended, settings
from tests.overflowd.receiving import Authority
from tests.overflowd.test_courier import OWN, free_port, to
from tests.overflowd.test_delivery_http import Server, answering, server
from tests.overflowd.test_notices import NOTICE

ADDRESS = ip_address("203.0.113.9")


def entity(*roles: str, mail: str = "abuse@network.example", **more: object) -> dict[str, object]:
    """As RFC 9083, section 5.1, has it."""
    card = ["vcard", [["version", {}, "text", "4.0"], ["fn", {}, "text", "Abuse"], ["email", {}, "text", mail]]]
    return {"objectClassName": "entity", "roles": list(roles), "vcardArray": card, **more}


def network(*entities: object) -> dict[str, object]:
    """As RFC 9083, section 5.4, has it."""
    return {
        "rdapConformance": ["rdap_level_0"],
        "objectClassName": "ip network",
        "handle": "NET",
        "startAddress": "203.0.113.0",
        "endAddress": "203.0.113.255",
        "entities": list(entities),
    }


@pytest.mark.parametrize(
    ("document", "contact"),
    [
        (network(entity("abuse")), "abuse@network.example"),
        (network(entity("technical", mail="noc@network.example"), entity("abuse")), "abuse@network.example"),
        # As ARIN and RIPE nest it: the desk is one of its holder's entities.
        (network(entity("registrant", mail="x@y.example", entities=[entity("abuse")])), "abuse@network.example"),
        (network(entity("technical", "administrative")), None),
        (network(entity("abuse", mail="none")), None),
        (network(entity("abuse", mail="a@b.example\r\nBcc: c@d.example")), None),
        (network(entity("abuse", mail="a@b.example, c@d.example")), None),
        (network(entity("abuse", mail='"a b"@c.example')), None),
        (network(), None),
        ({}, None),
        ([], None),
        (network(3, None, {"roles": "abuse"}, {"roles": ["abuse"], "vcardArray": ["vcard", [["email"]]]}), None),
    ],
)
def test_the_contact_is_the_mail_address_of_the_entity_for_abuse(document: object, contact: str | None) -> None:
    assert abuse_contact(document) == contact


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["entities", "roles", "vcardArray", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(json_values)
def test_whatever_a_registry_says_there_is_a_contact_or_none(document: object) -> None:
    assert abuse_contact({"entities": [document]}) is None


def bootstrap_file(folder: Path, *services: tuple[list[str], list[str]]) -> Path:
    path = folder / "ipv4.json"
    path.write_text(json.dumps({"version": "1.0", "services": services}))
    return path


def test_the_most_specific_service_is_asked_and_by_https_where_it_can_be(tmp_path: Path) -> None:
    path = bootstrap_file(
        tmp_path,
        (["203.0.0.0/8", "2001:db8::/32"], ["http://wide.example/rdap", "https://wide.example/rdap"]),
        (["203.0.113.0/24"], ["http://narrow.example/"]),
    )
    found = read_bootstrap([path])
    assert found.service(ADDRESS) == "http://narrow.example/"
    assert found.service(ip_address("203.1.1.1")) == "https://wide.example/rdap/"
    assert found.service(ip_address("2001:db8::1")) == "https://wide.example/rdap/"
    assert found.service(ip_address("8.8.8.8")) is None


@pytest.mark.parametrize("content", ["", "{}", '{"services": 3}', '{"services": [[["everything"], ["https://x/"]]]}'])
def test_what_is_no_bootstrap_file_is_said_to_be(content: str, tmp_path: Path) -> None:
    path = tmp_path / "ipv4.json"
    path.write_text(content)
    with pytest.raises(RequestError, match="no bootstrap file"):
        read_bootstrap([path])


@contextlib.asynccontextmanager
async def asking(registry: Server, path: Path, passed: list[float]) -> AsyncIterator[Rdap]:
    found = read_bootstrap([bootstrap_file(path, (["0.0.0.0/0"], [f"http://127.0.0.1:{registry.port}/rdap"]))])
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield Rdap(session, found, lambda: passed[0])


async def test_a_registry_is_asked_once_a_day_for_all_of_a_network(tmp_path: Path) -> None:
    passed, body = [0.0], json.dumps(network(entity("abuse"))).encode()
    async with server(answering(200, body)) as registry, asking(registry, tmp_path, passed) as rdap:
        assert await rdap.contact(ADDRESS) == "abuse@network.example"
        assert await rdap.contact(ip_address("203.0.113.77")) == "abuse@network.example"
        assert [each[:2] for each in registry.got] == [("GET", "/rdap/ip/203.0.113.9")]
        passed[0] += KEPT_SECONDS
        await rdap.contact(ADDRESS)
        await rdap.contact(ip_address("8.8.8.8"))
        assert len(registry.got) == 3


async def asked_again_after(status: int, body: bytes, seconds: float, folder: Path) -> bool:
    """Whether a registry that has named nobody is asked again then, and not a second before."""
    passed = [0.0]
    async with server(answering(status, body)) as registry, asking(registry, folder, passed) as rdap:
        for at in (0.0, seconds - 1):
            passed[0] = at
            assert await rdap.contact(ADDRESS) is None
            assert len(registry.got) == 1
        passed[0] = seconds
        assert await rdap.contact(ADDRESS) is None
        return len(registry.got) == 2


@pytest.mark.parametrize(("status", "body"), [(404, b"{}"), (200, b"{}")])
async def test_a_registry_that_names_nobody_is_not_asked_again_for_a_day(
    status: int, body: bytes, tmp_path: Path
) -> None:
    assert await asked_again_after(status, body, KEPT_SECONDS, tmp_path)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"), (200, b"[" * 100_000), (200, b" " * 1_000_000), (200, b"\xff"), (429, b""), (500, b""),
        (503, b"{}"),
    ],
)  # fmt: skip
async def test_a_registry_that_says_nothing_of_it_is_asked_again_in_minutes(
    status: int, body: bytes, tmp_path: Path
) -> None:
    assert await asked_again_after(status, body, FAILURE_KEPT_SECONDS, tmp_path)


async def test_a_registry_may_name_another_but_not_without_end(tmp_path: Path) -> None:
    body = json.dumps(network(entity("abuse"))).encode()
    async with server(answering(200, body)) as right:
        away = answering(301, Location=f"http://127.0.0.1:{right.port}/ip/203.0.113.9")
        async with server(away) as first, asking(first, tmp_path, [0.0]) as rdap:
            assert await rdap.contact(ADDRESS) == "abuse@network.example"

    async def itself(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=301, headers={"Location": str(request.url)})

    async with server(itself) as endless, asking(endless, tmp_path, [0.0]) as rdap:
        assert await rdap.contact(ADDRESS) is None
        assert len(endless.got) <= 3


async def test_a_registry_that_compresses_where_it_may_is_understood(tmp_path: Path) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        response = web.json_response(network(entity("abuse")))
        response.enable_compression()
        return response

    async with server(handler) as registry, asking(registry, tmp_path, [0.0]) as rdap:
        assert await rdap.contact(ADDRESS) == "abuse@network.example"


async def test_where_nobody_is_known_to_ask_there_is_no_contact() -> None:
    async with aiohttp.ClientSession() as session:
        assert await Rdap(session, Bootstrap(())).contact(ADDRESS) is None


def test_a_letter_can_be_read_by_a_person_and_by_a_machine() -> None:
    said = report(NOTICE, b"e30.e30.AA")
    assert isinstance(said, dict)
    read = email.message_from_bytes(letter(NOTICE, said, "noc@carrier.example", "abuse@network.example").as_bytes(),
                                    policy=email.policy.default)  # fmt: skip
    assert isinstance(read, EmailMessage)
    assert read["Auto-Submitted"] == "auto-generated"
    assert "198.51.100.1" in read["Subject"]
    text = read.get_body(("plain",))
    assert text is not None
    for word in ("198.51.100.1, port 53", "203.0.113.9, port 4321", "41 sources in 60 s", "one in 1000", "A Carrier"):
        assert word in text.get_content()
    [attached] = read.iter_attachments()
    assert attached.get_content_type() == "application/json"
    assert official.parse(json.loads(attached.get_content())).errors == []


class Desk:
    """A mail server that keeps what it gets."""

    def __init__(self, answer: str = "250 OK") -> None:
        self.got: list[Any] = []
        self._answer = answer

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        self.got.append(envelope)
        return self._answer


@contextlib.asynccontextmanager
async def mail_server(desk: Desk, secured: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Yields the port. `secured`: it takes no letter before STARTTLS."""
    loop = asyncio.get_running_loop()

    def one() -> SMTP:
        return SMTP(desk, hostname="desk.example", tls_context=secured, require_starttls=secured is not None, loop=loop)

    listening = await loop.create_server(one, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await listening.wait_closed()


@contextlib.asynccontextmanager
async def mailing(
    state_url: str,
    folder: Path,
    desk: Desk,
    named: str = "127.0.0.1",
    secured: ssl.SSLContext | None = None,
    **changed: object,
) -> AsyncIterator[tuple[Delivery, Server]]:
    """A delivery by mail where nobody answers by UDP. `named`: the mail server."""
    body = json.dumps(network(entity("abuse"))).encode()
    async with mail_server(desk, secured) as port, server(answering(200, body)) as registry:
        services = (["127.0.0.0/8"], [f"http://127.0.0.1:{registry.port}/"])
        mail = {
            "ways": ("udp", "mail"),
            "udp_port": free_port(),
            "smtp": f"{named}:{port}",
            "smtp_security": "none",
            "mail_from": "overflowd@carrier.example",
            "rdap": (str(bootstrap_file(folder, services)),),
        }
        async with delivering(settings(state_url, folder, **{**mail, **changed})) as (delivery, _):
            yield delivery, registry


def classified(*addresses: str, as_: Class = Class.FAN_IN) -> list[Notice]:
    return [dataclasses.replace(each, classified=as_) for each in to(*addresses)]


async def test_who_does_not_listen_is_told_by_its_abuse_desk(state_url: str, tmp_path: Path) -> None:
    desk = Desk()
    async with mailing(state_url, tmp_path, desk) as (delivery, registry):
        await delivery.outbox.put(classified("127.0.0.1"))
        assert await ended(state_url, 2) == {OWN: 1, (State.SENT, None, "mail"): 1}
    [envelope] = desk.got
    assert envelope.rcpt_tos == ["abuse@network.example"]
    assert envelope.mail_from == "overflowd@carrier.example"
    assert b"Abuse report: fan-in" in envelope.content
    assert [each[1] for each in registry.got] == ["/ip/127.0.0.1"]


async def test_a_desk_is_written_to_no_more_often_than_its_budget_allows(state_url: str, tmp_path: Path) -> None:
    desk = Desk()
    async with mailing(state_url, tmp_path, desk, contact_budget="2/1d") as (delivery, _):
        await delivery.outbox.put(classified("127.1.0.1", "127.2.0.1", "127.3.0.1"))
        found = await ended(state_url, 6)
    assert found[(State.SENT, None, "mail")] == 2 == len(desk.got)
    assert found[(State.FAILED, "not-now", "mail")] == 1


async def test_nobody_is_accused_for_traffic_alone(sqlite_url: str, tmp_path: Path) -> None:
    desk = Desk()
    async with mailing(sqlite_url, tmp_path, desk) as (delivery, registry):
        await delivery.outbox.put(classified("127.0.0.1", as_=Class.TRAFFIC))
        assert (await ended(sqlite_url, 2))[(State.FAILED, "port-unreachable", "udp")] == 1, "what was heard last"
        assert registry.got == [], "nor is a registry asked"
    assert desk.got == []


async def test_where_mail_is_the_only_way_it_is_said_why_there_is_no_report(sqlite_url: str, tmp_path: Path) -> None:
    desk = Desk()
    async with mailing(sqlite_url, tmp_path, desk, ways=("mail",)) as (delivery, registry):
        [portless] = classified("127.0.0.1")
        portless = dataclasses.replace(portless, flow=dataclasses.replace(portless.flow, source_port=0))
        await delivery.outbox.put([*classified("127.0.0.1", as_=Class.TRAFFIC), portless])
        found = await ended(sqlite_url, 4)
        assert found[(State.WITHHELD, "no-abuse", None)] == found[(State.WITHHELD, "no-port", None)] == 1
        assert registry.got == []
    assert desk.got == []


async def test_a_server_that_refuses_is_not_asked_again(sqlite_url: str, tmp_path: Path) -> None:
    desk = Desk("550 no")
    async with mailing(sqlite_url, tmp_path, desk) as (delivery, _):
        await delivery.outbox.put(classified("127.0.0.1"))
        assert (await ended(sqlite_url, 2))[(State.FAILED, "refused", "mail")] == 1
    assert len(desk.got) == 1


async def test_a_mail_server_that_says_nothing_holds_up_no_other_way(sqlite_url: str, tmp_path: Path) -> None:
    said = asyncio.Event()
    came: list[object] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        with contextlib.closing(writer):
            await said.wait()

    mute = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        smtp = f"127.0.0.1:{mute.sockets[0].getsockname()[1]}"
        changed: dict[str, Any] = {"contact_budget": "99/1d", "concurrency": 8, "smtp": smtp, "delivery_timeout": 0.1}
        async with mailing(sqlite_url, tmp_path, Desk(), **changed) as (delivery, _):
            await delivery.outbox.put(classified(*[f"127.{number}.0.1" for number in range(1, 21)]))
            # One letter is under way; the other nineteen have ended, though no server has said anything.
            found = await ended(sqlite_url, 39)
            assert found[(State.FAILED, "not-now", "mail")] == 19
            assert len(came) == 1
            said.set()
    finally:
        said.set()
        mute.close()


async def test_without_tls_nothing_is_mailed_where_tls_is_asked_for(sqlite_url: str, tmp_path: Path) -> None:
    desk = Desk()
    async with mailing(sqlite_url, tmp_path, desk, smtp_security="starttls") as (delivery, _):
        await delivery.outbox.put(classified("127.0.0.1"))
        assert (await ended(sqlite_url, 2))[(State.FAILED, "refused", "mail")] == 1
    assert desk.got == []


@pytest.mark.parametrize(
    ("certified", "became", "letters"),
    [("localhost", (State.SENT, None, "mail"), 1), ("another.example", (State.FAILED, "no-answer", "mail"), 0)],
)
async def test_a_letter_is_for_the_server_that_was_named_alone(
    sqlite_url: str,
    tmp_path: Path,
    trusted: Authority,
    monkeypatch: pytest.MonkeyPatch,
    certified: str,
    became: tuple[State, str | None, str],
    letters: int,
) -> None:
    """By STARTTLS, with a certificate of its name by an authority that this host trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.roots))
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(*trusted.issue(certified))
    desk = Desk()
    changed = {"smtp_security": "starttls"}
    async with mailing(sqlite_url, tmp_path, desk, "localhost", secured, **changed) as (delivery, _):
        await delivery.outbox.put(classified("127.0.0.1"))
        assert await ended(sqlite_url, 2) == {OWN: 1, became: 1}
    assert len(desk.got) == letters
