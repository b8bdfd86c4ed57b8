"""Notices a minute by class, as a picture (SVG) and as words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.notice import Class
from jfe_cni.overflowd.receiver.page.markup import Markup, element, together
from jfe_cni.overflowd.receiver.views import time

_BAR, _HEIGHT, _FOOT, _LEFT = 6, 120, 18, 44
Minutes = Sequence[tuple[Microseconds, Counter[Class]]]


def timeline(minutes: Minutes) -> Markup:
    most = max((counts.total() for _, counts in minutes), default=0)
    width = _LEFT + _BAR * len(minutes)
    total = sum(counts.total() for _, counts in minutes)
    told = f"{total} notices in the last {len(minutes)} minutes, at most {most} in one minute."
    bars = [bar for place, each in enumerate(minutes) for bar in _bars(place, *each, max(most, 1))]
    picture = element(
        "svg",
        element("title", told),
        element("text", most, x=_LEFT - 6, y=12, text_anchor="end"),
        element("text", 0, x=_LEFT - 6, y=_HEIGHT, text_anchor="end"),
        element("line", x1=_LEFT, y1=_HEIGHT, x2=width, y2=_HEIGHT, class_="axis"),
        *bars,
        *_hours(minutes),
        viewBox=f"0 0 {width} {_HEIGHT + _FOOT}",
        role="img",
        aria_label=told,
        class_="timeline",
    )
    return element("figure", picture, element("figcaption", told, " ", _legend()))


def _bars(place: int, at: Microseconds, counts: Counter[Class], most: int) -> list[Markup]:
    """The least at the bottom; each class with its name, for colours are not for everybody."""
    bars, top = [], _HEIGHT
    for classified in Class:
        count = counts[classified]
        if count:
            height = max(round(count * (_HEIGHT - 4) / most), 1)
            top -= height
            shown = element("title", f"{time(at)}: {count} {classified.value}")
            x = _LEFT + place * _BAR
            bars.append(
                element("rect", shown, x=x, y=top, width=_BAR - 1, height=height, class_=f"bar {classified.value}")
            )
    return bars


def _hours(minutes: Minutes) -> list[Markup]:
    return [
        element("text", time(at)[11:16], x=_LEFT + place * _BAR, y=_HEIGHT + 14)
        for place, (at, _) in enumerate(minutes)
        if at // 60_000_000 % 30 == 0 and place + 5 < len(minutes)
    ]


def _legend() -> Markup:
    return together(*(element("span", each.value, class_=f"key {each.value}") for each in Class))
