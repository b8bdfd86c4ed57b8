"""The page for a person under attack: what comes, since when, how much, who has seen it, whether it is forged. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.notice import End
from jfe_cni.overflowd.receiver.aggregation import QUIET, Flood, Side, Spoofed
from jfe_cni.overflowd.receiver.kept import Change
from jfe_cni.overflowd.receiver.page.markup import Markup, element, together
from jfe_cni.overflowd.receiver.page.timeline import Minutes, timeline
from jfe_cni.overflowd.receiver.views import largest, time

MOST_SHOWN = 100
_MOST_PEERS = 5
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 58: "ICMPv6", 132: "SCTP"}
"""IANA, "Assigned Internet Protocol Numbers"."""

_SPOOFED = {
    Spoofed.NOT_KNOWN: "not known",
    Spoofed.SUSPECTED: "suspected by one network",
    Spoofed.CERTAIN: "certain: two networks find it so, each from its own side",
}


@dataclass(frozen=True)
class Shown:
    now: Microseconds
    floods: Sequence[Flood]
    changes: Sequence[Change]
    minutes: Minutes
    anything: bool = False
    """Notices are taken whatever they are about."""


def page(shown: Shown) -> str:
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", "overflowd: what floods you"),
        element("link", rel="icon", href="data:,"),
        element("link", rel="stylesheet", href="/static/overflowd.css"),
        element("script", src="/static/overflowd.js", defer=""),
    )
    body = element(
        "body",
        element("header", element("h1", "What floods you"), element("p", "as the networks that carry it tell")),
        element("main", content(shown), id="content"),
        element(
            "footer",
            element("p", "Live where JavaScript runs; else reload. ", element("span", id="live", role="status")),
            element("p", "As JSON: ", *_links("/api/floods", "/api/notices", "/events")),
        ),
    )
    return "<!doctype html>\n" + element("html", head, body, lang="en")


def content(shown: Shown) -> Markup:
    """What the script asks for anew, and lays over what is there: each part has its place, with something in it or
    not."""
    # By how many tell of it first: the size is what one of them alone says, and easily invented.
    worst = sorted(
        shown.floods, key=lambda each: (_is_over(each, shown.now), -len(each.networks), -each.whole.estimate)
    )
    to_you = [each for each in worst if each.name.told is End.DESTINATION][:MOST_SHOWN]
    from_you = [each for each in worst if each.name.told is End.SOURCE][:MOST_SHOWN]
    return together(
        element("p", f"As of {time(shown.now)}."),
        *_anything(shown.anything),
        _changes(shown.changes),
        element("section", element("h2", "Notices a minute"), timeline(shown.minutes)),
        _section("To you", "Nobody tells of a flood to you.", to_you, shown.now),
        _section("In your name", "Nobody tells of traffic from your addresses.", from_you, shown.now),
    )


def _anything(anything: bool) -> list[Markup]:
    said = "Notices of any address are taken: these need not be yours. --own NETWORKS takes those of yours alone."
    return [element("p", said, class_="warning")] if anything else []


def _changes(changes: Sequence[Change]) -> Markup:
    if not changes:
        return element("section", hidden="")
    items = [
        element(
            "li",
            element("strong", each.domain),
            f" publishes none of the keys that it had, since {time(each.since)}: ",
            *(element("code", key, " ") for key in each.keys),
        )
        for each in changes
    ]
    said = "Nothing is taken by these keys. If the change is right: --repin DOMAIN."
    return element(
        "section", element("h2", "Changed keys"), element("ul", *items), element("p", said), class_="warning"
    )


def _section(title: str, none: str, floods: Sequence[Flood], now: Microseconds) -> Markup:
    if not floods:
        return element("section", element("h2", title), element("p", none))
    source = floods[0].name.told is End.SOURCE
    heads = (
        "Your address",
        "What",
        "Since",
        "Last",
        "Packets, about",
        "Sent to" if source else "From",
        "Told by",
        "Forged by somebody?" if source else "Forged source?",
    )
    rows = [_row(each, now) for each in floods]
    return element(
        "section",
        element("h2", title),
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", *(element("th", each, scope="col") for each in heads))),
                element("tbody", *rows),
                aria_label=title,
            ),
            class_="wide",
            role="region",
            aria_label=title,
            tabindex=0,
        ),
    )


def _row(flood: Flood, now: Microseconds) -> Markup:
    over = _is_over(flood, now)
    return element(
        "tr",
        element("th", flood.name.target, scope="row"),
        element("td", _service(flood), *_each_under(f"{each.value} × {n}" for each, n in flood.classes.most_common())),
        element("td", *_moment(flood.since)),
        element("td", *_moment(flood.last), *_each_under(["over"] if over else [])),
        element("td", f"{flood.whole.estimate:,}", *_each_under([f"{flood.whole.notices:,} notices"]), class_="number"),
        element("td", *_peers(flood), class_="peers"),
        element("td", *_reporters(flood)),
        element("td", _SPOOFED[flood.spoofed], *_spoofing(flood), class_=f"spoofed {flood.spoofed.value}"),
        class_="over" if over else None,
    )


def _is_over(flood: Flood, now: Microseconds) -> bool:
    return now > flood.last + QUIET


def _moment(at: Microseconds) -> list[Markup]:
    told = time(at)
    return [element("time", told[11:19], datetime=told), *_each_under([f"{told[:10]} UTC"])]


def _service(flood: Flood) -> str:
    name = flood.name
    protocol = _PROTOCOLS.get(name.protocol, f"protocol {name.protocol}")
    return protocol if name.side is Side.NONE else f"{protocol} {name.side.value} port {name.port}"


def _peers(flood: Flood) -> list[Markup]:
    shown = largest(flood.sources.items(), _MOST_PEERS)
    left = len(flood.sources) - len(shown)
    more = [f"and {left:,} more networks"] if left else []
    if flood.others:
        more.append(f"and {flood.others:,} notices of further ones")
    return _each_under([*(f"{network} × {seen.notices:,}" for network, seen in shown), *more])


def _reporters(flood: Flood) -> list[Markup]:
    names = sorted(flood.organisations.items())
    left = [f"and {len(names) - _MOST_PEERS} more"] if len(names) > _MOST_PEERS else []
    return _each_under([*(f"{domain} ({name})" if name else domain for domain, name in names[:_MOST_PEERS]), *left])


def _spoofing(flood: Flood) -> list[Markup]:
    forged = sorted({domain for seen in flood.addresses.values() for domain in seen.forged})
    if not forged:
        return []
    said = [f"{domain}: {each}" for domain, each in flood.evidence if domain in forged]
    certain = [f"{flood.certainly_spoofed:,} sources of {len(flood.addresses):,}"] if flood.certainly_spoofed else []
    # Who says nothing of why is named all the same.
    return _each_under([*certain, *(said or forged)[:_MOST_PEERS]])


def _each_under(lines: Iterable[str]) -> list[Markup]:
    return [element("div", each) for each in lines]


def _links(*paths: str) -> list[Markup]:
    return [together(element("a", each, href=each), " ") for each in paths]
