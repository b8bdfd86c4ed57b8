"""The web page, as a browser has it: live, and nobody's to write but ours."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx

from jfe_cni.overflowd.delivery.http import CONTENT_TYPE, PATH
from jfe_cni.overflowd.notices.notice import Class
from jfe_cni.overflowd.receiver.aggregation import Floods, Timeline
from jfe_cni.overflowd.receiver.kept import Change
from jfe_cni.overflowd.receiver.page.markup import Markup, element, together
from jfe_cni.overflowd.receiver.page.page import Shown, page
from jfe_cni.overflowd.receiver.service import Receiver
from tests.overflowd import attack
from tests.overflowd.browser import browser
from tests.overflowd.receiving import DEADLINE, Authority, Publisher, laboratory, started, until
from tests.overflowd.test_notices import NOTICE
from tests.overflowd.web_server import nginx

HOSTILE = (
    "<script>window.hurt=1</script>",
    "</table><img src=x onerror=window.hurt=1>",
    "\"'><svg onload=window.hurt=1>",
    "javascript:window.hurt=1",
    "&lt;b&gt; {{7*7}} ${7*7} ]]> --> </title>",
)
REPORTER = replace(NOTICE.reporter, organisation=" ".join(HOSTILE), contact=HOSTILE[0])
WRITTEN: dict[str, Any] = {"reporter": REPORTER, "evidence": HOSTILE, "classified": Class.SPOOFED_SOURCE}


class Elements(HTMLParser):
    """Which there are, what attributes, and the text."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


async def tell(receiver: Receiver, signed: bytes) -> None:
    async with httpx.AsyncClient(base_url=receiver.http, trust_env=False, timeout=DEADLINE) as http:
        (await http.post(PATH, content=signed, headers={"content-type": CONTENT_TYPE})).raise_for_status()


def test_what_reporters_write_is_text_and_nothing_else() -> None:
    def shown(floods: Floods, change: Change) -> Elements:
        return Elements(page(Shown(NOTICE.made, list(floods), [change], Timeline().until(NOTICE.made))))

    hostile, harmless = Floods(), Floods()
    for floods, notice, domain in (
        (hostile, replace(NOTICE, **WRITTEN), HOSTILE[0]),
        (
            harmless,
            replace(NOTICE, **{**WRITTEN, "reporter": NOTICE.reporter, "evidence": tuple("vwxyz")}),
            "a.example",
        ),
    ):
        floods.take(NOTICE.made, domain, notice)
    found = shown(hostile, Change(HOSTILE[1], (HOSTILE[2],), 0))
    plain = shown(harmless, Change("b.example", ("key",), 0))
    assert found.found == plain.found
    assert found.attributes == plain.attributes
    for each in HOSTILE:
        assert each in found.text


def test_the_flood_that_most_networks_tell_of_is_first_however_large_another_is_said_to_be() -> None:
    floods = Floods()
    for domain in ("a.example", "b.example"):
        floods.take(NOTICE.made, domain, replace(NOTICE, odds=1e-2))
    invented = replace(NOTICE, odds=1e-9, flow=replace(NOTICE.flow, destination=ip_address("203.0.113.66")))
    for name in ("evil.example", "a.evil.example", "b.evil.example"):
        floods.take(NOTICE.made, name, invented)
    text = Elements(page(Shown(NOTICE.made, list(floods), [], Timeline().until(NOTICE.made)))).text
    assert text.index("203.0.113.9") < text.index("203.0.113.66")


def test_the_page_says_where_notices_of_anything_are_taken() -> None:
    def text(anything: bool) -> str:
        return Elements(page(Shown(NOTICE.made, [], [], Timeline().until(NOTICE.made), anything))).text

    assert "need not be yours" in text(True)
    assert "need not be yours" not in text(False)


def test_markup_escapes_all_but_what_it_made() -> None:
    assert element("p", "<&>", Markup("<b>"), 5, class_='"', aria_label="'", id=None) == (
        '<p class="&quot;" aria-label="&#x27;">&lt;&amp;&gt;<b>5</p>'
    )
    assert together("<", element("b", "<")) == "&lt;<b>&lt;</b>"


async def test_the_page_comes_with_a_policy_that_lets_nobody_else_in(receiver: Receiver) -> None:
    async with httpx.AsyncClient(base_url=receiver.page, trust_env=False) as http:
        for path in ("/", "/content", "/static/overflowd.js", "/api/floods", "/nothing"):
            headers = (await http.get(path)).headers
            assert headers["content-security-policy"].startswith("default-src 'self';")
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
        document = Elements((await http.get("/")).text)
        assert "style" not in document.attributes
        assert (await http.get("/static/../page.py")).status_code == 404
        assert (await http.get("/static/%2e%2e/page.py")).status_code == 404


async def test_by_a_strangers_name_it_is_not_shown(
    receiver: Receiver, tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    """A page of another's, in a browser on this host, whose name was made to lead here."""

    async def asked(url: str, name: str) -> int:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            return (await http.get("/api/notices", headers={"host": name})).status_code

    names = (
        "evil.example",
        "evil.example:8761",
        "127.0.0.1.evil.example",
        "",
        "127.0.0.1:8761",
        "[::1]:1",
        "localhost",
    )
    assert [await asked(receiver.page, name) for name in names] == [421] * 4 + [200] * 3
    elsewhere = laboratory(
        tmp_path, trusted, publisher, page_names=("Ours.Example",), store=f"sqlite:///{tmp_path}/another.db"
    )
    async with started(elsewhere) as named:
        assert await asked(named.page, "ours.example:8761") == 200
        assert await asked(named.page, "evil.example") == 421


async def test_a_browser_shows_a_flood_when_it_is_told_of_and_runs_nothing_that_was_written(
    receiver: Receiver, publisher: Publisher
) -> None:
    async with browser() as shown:
        await shown.open(receiver.page)
        assert "Nobody tells of a flood to you." in await shown.evaluate("document.body.innerText")
        await until(lambda: shown.evaluate("document.getElementById('live').textContent === 'Live.'"))
        keys = publisher.notice().reporter.keys
        await tell(receiver, publisher.signed(**{**WRITTEN, "reporter": replace(REPORTER, keys=keys)}))
        await until(lambda: shown.evaluate("document.querySelectorAll('tbody tr').length === 1"))
        text = await shown.evaluate("document.querySelector('tbody').textContent")
        assert "203.0.113.9" in text
        assert all(each in text for each in HOSTILE)
        assert await shown.evaluate("typeof window.hurt") == "undefined"
        assert await shown.evaluate("document.querySelectorAll('.bar.spoofed-source').length") == 1
        assert await shown.evaluate("document.querySelectorAll('#content img, #content script').length") == 0
        assert shown.said == [], "neither an error nor a breach of the policy"
        # As a screen reader has it.
        named = await shown.evaluate("[...document.querySelectorAll('th')].every(each => each.scope)")
        assert named
        assert await shown.evaluate("document.querySelector('svg').getAttribute('aria-label')") == (
            "1 notices in the last 120 minutes, at most 1 in one minute."
        )


async def test_whoever_reads_it_stays_there_while_more_comes(receiver: Receiver, publisher: Publisher) -> None:
    async def comes(number: int) -> None:
        flow = replace(NOTICE.flow, destination=ip_address(f"203.0.113.{number}"))
        await tell(receiver, publisher.signed(flow=flow, classified=Class.REPORTED))

    async with browser() as shown:
        await shown.size(400, 300)
        await shown.open(receiver.page)

        async def has(rows: int) -> None:
            await until(lambda: shown.evaluate(f"document.querySelectorAll('tbody tr').length === {rows}"))

        async def says(words: str) -> None:
            await until(lambda: shown.evaluate(f"document.getElementById('live').textContent === '{words}'"))

        await says("Live.")
        await comes(1)
        await has(1)
        place = "[scrollY, table.scrollLeft, document.activeElement === table, String(getSelection())]"
        await shown.evaluate("window.table = document.querySelector('.wide'); table.focus(); table.scrollLeft = 150")
        await shown.evaluate("window.scrollTo(0, 250)")
        await comes(2)
        await has(2)
        assert await shown.evaluate(place) == [250, 150, True, ""]

        await shown.evaluate("getSelection().selectAllChildren(document.querySelector('tbody th'))")
        before = await shown.evaluate(place)
        assert before[3].startswith("203.0.113.")
        await comes(3)
        await says("Not renewed while something is selected.")
        assert await shown.evaluate(place) == before
        await shown.evaluate("getSelection().removeAllRanges()")
        await has(3)
        await says("Live.")
        # What is over leaves nothing behind: as it would be, had it been asked for now.
        of = "each.replace(/As of [^<]*/, '')"
        here = "document.getElementById('content').innerHTML"
        same = f"fetch('/content').then(got => got.text()).then(each => {of} === (each => {of})({here}))"
        assert await shown.evaluate(same)
        assert shown.said == []


async def test_the_page_is_live_again_after_its_web_server_had_nobody_to_ask(
    tmp_path: Path, trusted: Authority, publisher: Publisher
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        behind = f"127.0.0.1:{free.getsockname()[1]}"
    settings = laboratory(tmp_path, trusted, publisher, page=behind)
    location = f"location / {{ proxy_pass http://{behind}; proxy_buffering off; }}"
    async with nginx(tmp_path, location) as port, browser() as shown:
        live = "document.getElementById('live').textContent === 'Live.'"
        async with started(settings):
            await shown.open(f"http://127.0.0.1:{port}/")
            await until(lambda: shown.evaluate(live))
        # It was answered 502, which is the end of what asks again by itself.
        await until(lambda: shown.evaluate("events.readyState === EventSource.CLOSED"))
        assert any("502" in each for each in shown.said)
        async with started(settings) as receiver:
            await until(lambda: shown.evaluate(live))
            await tell(receiver, publisher.signed())
            await until(lambda: shown.evaluate("document.querySelectorAll('tbody tr').length === 1"))


async def test_without_javascript_it_is_a_table(receiver: Receiver, publisher: Publisher) -> None:
    await tell(receiver, publisher.signed())

    async def told() -> bool:
        async with httpx.AsyncClient(base_url=receiver.page, trust_env=False) as http:
            return "<tbody>" in (await http.get("/")).text

    await until(told)
    async with browser() as shown:
        await shown.without_javascript()
        await shown.open(receiver.page)
        rows = "[...document.querySelectorAll('tbody tr')].map(each => each.innerText)"
        (row,) = await shown.evaluate(rows)
        assert "203.0.113.9" in row
        assert "UDP from port 53" in row


async def test_the_picture_in_the_docs_can_be_made(tmp_path: Path) -> None:
    png = await attack.picture(tmp_path)
    assert png.startswith(b"\x89PNG")
    # Its header (PNG, third edition, 11.2.2).
    assert struct.unpack(">II", png[16:24]) == (attack.WIDTH, attack.HEIGHT)
    made = (Path(__file__).parents[2] / "docs/overflowd-receiver.png").read_bytes()
    assert made[16:24] == png[16:24], "python -m tests.overflowd.attack docs/overflowd-receiver.png"
