"""A notice: one flow, how it was seen, what it is taken for, and who says so. Versioned; `decode` is its schema.

Both ends are told the same of the flow, which both have seen themselves, or should have. What only the reporter knows
(its routers, their interfaces, who else sends or suffers) is in no notice.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.notices import strict_json

VERSION = 1
LARGEST = 8_192
"""Bytes of a notice as JSON: more is refused unread."""

_NONCE_BYTES = 16
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_RFC_3339 = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})")
"""Section 5.6, of seconds with no more digits than anybody counts."""

_LONGEST_TEXT = 256
_MOST_EVIDENCE = 16
# In 2255: what every reader of JSON has exactly (RFC 8259, section 6), and every calendar.
_LATEST: Microseconds = 1 << 53


class End(StrEnum):
    """Which end of the flow is told."""

    SOURCE = "source"
    DESTINATION = "destination"


class Direction(StrEnum):
    """Of the flow, at the interface where it was seen (IANA's flowDirection, 61)."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Class(StrEnum):
    """What the flow is taken for, the least first."""

    TRAFFIC = "traffic"
    """Nothing but that it was carried: what every notice says at least."""

    FAN_IN = "fan-in"
    """Of very many sources to one destination."""

    SPOOFED_SOURCE = "spoofed-source"
    """The source's own network is not where it came from: its owner is told that somebody forges it."""

    REPORTED = "reported"
    """Named by the reporter's own rule."""


class Unfit(StrEnum):
    """Why what came is no notice."""

    TOO_LARGE = "too-large"
    NO_JSON = "no-json"
    UNKNOWN_VERSION = "unknown-version"
    MISSHAPEN = "misshapen"


@dataclass(frozen=True)
class TracedFlow:
    """`first`, `last`: microseconds since the epoch, 0 where they are not known. `sampling`: one packet in so many was
    looked at, 0 where it is not told; `packets` and `octets` are of those. `direction`: None, it is not told."""

    source: Address
    destination: Address
    source_port: int
    destination_port: int
    protocol: int
    tcp_flags: int
    packets: int
    octets: int
    first: Microseconds
    last: Microseconds
    sampling: int
    direction: Direction | None = None


@dataclass(frozen=True)
class Reporter:
    """`keys`: where its keys are published, an https URL. `autonomous_system`: 0 where it has none."""

    contact: str
    organisation: str
    autonomous_system: int
    keys: str


@dataclass(frozen=True)
class Notice:
    """`nonce`: of this one alone, for both of its copies. `odds`: that each packet had of being told of."""

    to: End
    flow: TracedFlow
    odds: float
    classified: Class
    evidence: tuple[str, ...]
    reporter: Reporter
    made: Microseconds
    nonce: str


def new_nonce() -> str:
    return secrets.token_urlsafe(_NONCE_BYTES)


def encode(notice: Notice) -> bytes:
    """Canonical: the same notice is the same bytes."""
    flow, reporter = asdict(notice.flow), notice.reporter
    for name in ("source", "destination"):
        flow[name] = str(flow[name])
    for name in ("first", "last"):
        # What an exporter's clock never was is not known.
        flow[name] = _time(flow[name]) if 0 < flow[name] < _LATEST else None
    flow["sampling"] = flow["sampling"] or None
    document = {
        "version": VERSION,
        "nonce": notice.nonce,
        "made": _time(notice.made),
        "to": notice.to.value,
        "flow": flow,
        "odds": notice.odds,
        "class": notice.classified.value,
        "evidence": list(notice.evidence),
        "reporter": {
            "contact": reporter.contact,
            "organisation": reporter.organisation,
            "as": reporter.autonomous_system or None,
            "keys": reporter.keys,
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def decode(raw: bytes) -> Notice | Unfit:
    """Of bytes that anybody may have sent. Members that are not known are left out: a later release may say more."""
    if len(raw) > LARGEST:
        return Unfit.TOO_LARGE
    try:
        document = strict_json.read(raw)
    except strict_json.Ambiguous:
        return Unfit.MISSHAPEN
    except (ValueError, RecursionError):
        return Unfit.NO_JSON
    if not isinstance(document, dict) or type(document.get("version")) is not int:
        return Unfit.MISSHAPEN
    if document["version"] != VERSION:
        return Unfit.UNKNOWN_VERSION
    try:
        return _read(document)
    except (KeyError, TypeError, ValueError, OverflowError):
        return Unfit.MISSHAPEN


def _read(document: Mapping[str, Any]) -> Notice:
    """Raises KeyError, TypeError, ValueError, OverflowError."""
    flow, reporter = document["flow"], document["reporter"]
    evidence = document["evidence"]
    if not isinstance(evidence, list) or len(evidence) > _MOST_EVIDENCE:
        raise ValueError("evidence")
    odds = document["odds"]
    # A bool is an int, and no number.
    if type(odds) not in {int, float} or not 0 < odds <= 1:
        raise ValueError("odds")
    return Notice(
        to=End(document["to"]),
        flow=_read_flow(flow),
        odds=float(odds),
        classified=Class(document["class"]),
        evidence=tuple(_text(each) for each in evidence),
        reporter=Reporter(
            _text(reporter["contact"]),
            _text(reporter["organisation"]),
            _number_or_none(reporter["as"], 32),
            _text(reporter["keys"]),
        ),
        made=_microseconds(document["made"]),
        nonce=_nonce(document["nonce"]),
    )


def _read_flow(flow: Mapping[str, Any]) -> TracedFlow:
    source, destination = _address(flow["source"]), _address(flow["destination"])
    if source.version != destination.version:
        raise ValueError("addresses of two kinds")
    bits = {"source_port": 16, "destination_port": 16, "protocol": 8, "tcp_flags": 16, "packets": 64, "octets": 64}
    numbers = {name: _number(flow[name], most) for name, most in bits.items()}
    times = {name: 0 if flow[name] is None else _microseconds(flow[name]) for name in ("first", "last")}
    # Of releases before it there is none.
    told = flow.get("direction")
    direction = None if told is None else Direction(told)
    sampling = _number_or_none(flow["sampling"], 32)
    return TracedFlow(source, destination, **numbers, **times, sampling=sampling, direction=direction)


def _address(value: object) -> Address:
    text = _text(value)
    # A zone (RFC 4007, section 11) is any text, and its host's own affair.
    if "%" in text:
        raise ValueError("an address with a zone")
    return ip_address(text)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
        raise ValueError("text")
    return value


def _nonce(value: object) -> str:
    if not isinstance(value, str) or not _NONCE.fullmatch(value):
        raise ValueError("nonce")
    return value


def _number(value: object, bits: int) -> int:
    # A bool is an int, and no number.
    if type(value) is not int or not 0 <= value < 1 << bits:
        raise ValueError("number")
    return value


def _number_or_none(value: object, bits: int) -> int:
    """None is written where it is 0."""
    return 0 if value is None else _number(value, bits)


def _time(at: Microseconds) -> str:
    """RFC 3339, in UTC."""
    # In whole numbers: a float has no microseconds left in the year 2255.
    return (_EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _microseconds(value: object) -> Microseconds:
    text = _text(value)
    # Python reads more of ISO 8601 than that: weeks, no zone, no colons.
    if not _RFC_3339.fullmatch(text):
        raise ValueError("no time of RFC 3339")
    at = datetime.fromisoformat(text)
    since = at - _EPOCH
    found = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if not 0 <= found < _LATEST:
        raise ValueError("a time of no notice")
    return found


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def copies(notice: Notice, ends: Sequence[End] = (End.SOURCE, End.DESTINATION)) -> tuple[tuple[Address, Notice], ...]:
    """To whom, and what. A source that is known to be forged is told as its owner, whom the flow never came from."""
    told = {End.SOURCE: notice.flow.source, End.DESTINATION: notice.flow.destination}
    return tuple((told[end], Notice(**{**vars(notice), "to": end})) for end in ends)
