"""What a person or a pipe gives: passwords, budgets, durations."""

from __future__ import annotations

import re
import sys

import click

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.budgets import Budget, Limit, Meter, MeterKind

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def password(*, from_stdin: bool, confirmed: bool) -> str:
    """The first line of standard input, or what is asked for, unseen. Raises RequestError."""
    if not from_stdin:
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=confirmed, err=True))
    try:
        return sys.stdin.buffer.readline().rstrip(b"\r\n").decode()
    except UnicodeDecodeError as error:
        raise RequestError("the password is no UTF-8", remedy="give it as UTF-8 text") from error


def duration(text: str) -> float:
    """`10s`, `1.5h`, `30d`; in seconds. Raises RequestError."""
    matched = _DURATION.fullmatch(text.strip())
    if matched is None:
        raise RequestError(f"{text!r} is no duration", remedy="write a number and ms, s, m, h or d: 10s")
    return float(matched[1]) * _SECONDS[matched[2]]


def budget(text: str, loosening_delay: str) -> Budget:
    """`3/10s`, or several limits that hold at once: `1/1s,1000/1d`. Raises RequestError."""
    limits = []
    for word in text.split(","):
        count, _, window = word.strip().partition("/")
        if not (count.isascii() and count.isdigit()):
            raise RequestError(f"{word!r} is no limit", remedy="write how many in how long: 3/10s")
        limits.append(Limit(int(count), round(duration(window) * 1e6)))
    return Budget(tuple(limits), round(duration(loosening_delay) * 1e6))


def meter(kind: MeterKind, name: str | None) -> Meter:
    """Raises RequestError."""
    if (kind == "all") != (name is None):
        raise RequestError(
            f"{kind} {name or ''} is not counted", remedy="write all, or caller, class or secret and a name"
        )
    return Meter(kind, name or "")
