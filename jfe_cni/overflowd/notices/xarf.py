"""A notice as XARF v4 has it, for abuse desks: category connection, type ddos (github.com/xarf/xarf-spec,
schemas/v4/types/connection-ddos.json and xarf-core.json, version 4.2.0). Pure.

XARF says who did wrong. Where nobody is said to have, there is no report: `Untold`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.notice import Class, Notice

VERSION = "4.2.0"

# IANA, "Protocol Numbers", as far as the schema has names for them.
_PROTOCOLS = {1: "icmp", 58: "icmp", 6: "tcp", 17: "udp", 132: "sctp"}
_CONTACT = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,63}")
_LONGEST_ORGANISATION = 200
_LONGEST_DESCRIPTION = 1_000

_SAID = {
    Class.FAN_IN: "Very many sources send to one destination, and this is one of them.",
    Class.SPOOFED_SOURCE: "The source address is forged: packets in its name come from elsewhere. Its owner is told so "
    "that it knows, and is not said to have sent them.",
    Class.REPORTED: "The flow is one that a rule of the reporter names.",
}


class Untold(StrEnum):
    """Why there is no report."""

    NO_ABUSE = "no-abuse"
    """It says no more than that traffic was carried."""

    UNNAMED_PROTOCOL = "unnamed-protocol"
    NO_PORT = "no-port"
    """The schema asks for the source's port, of ICMP as well, which has none."""

    NO_CONTACT = "no-contact"
    """The reporter's contact is no mail address, which XARF asks for."""


def untold(notice: Notice) -> Untold | None:
    """None: there is a report."""
    protocol = _PROTOCOLS.get(notice.flow.protocol)
    if notice.classified not in _SAID:
        return Untold.NO_ABUSE
    if protocol is None:
        return Untold.UNNAMED_PROTOCOL
    if not _CONTACT.fullmatch(notice.reporter.contact):
        return Untold.NO_CONTACT
    return Untold.NO_PORT if protocol == "icmp" or not notice.flow.source_port else None


def report(notice: Notice, signed: bytes) -> dict[str, Any] | Untold:
    """`signed`: the notice as it was signed, which is the evidence. For JSON."""
    if (why := untold(notice)) is not None:
        return why
    domain = notice.reporter.contact.rpartition("@")[2]
    flow, many = notice.flow, max(notice.flow.sampling, 1)
    first = flow.first or flow.last or notice.made
    organisation = {
        "org": (notice.reporter.organisation or domain)[:_LONGEST_ORGANISATION],
        "contact": notice.reporter.contact,
        "domain": domain.lower(),
    }
    said = {
        "xarf_version": VERSION,
        "report_id": _identifier(notice),
        "timestamp": _time(first),
        "reporter": organisation,
        "sender": organisation,
        "source_identifier": str(flow.source),
        "category": "connection",
        "type": "ddos",
        "evidence_source": "flow_analysis",
        "evidence": [_evidence(signed)],
        "tags": [f"overflowd:{notice.classified.value}"],
        "description": describe(notice)[:_LONGEST_DESCRIPTION],
        "destination_ip": str(flow.destination),
        "source_port": flow.source_port,
        "protocol": _PROTOCOLS[flow.protocol],
        "first_seen": _time(first),
        "total_packets": flow.packets * many,
        "total_bytes": flow.octets * many,
    }
    if notice.classified is Class.SPOOFED_SOURCE:
        # Of its being the source's doing.
        said["confidence"] = 0.0
    if flow.destination_port:
        said["destination_port"] = flow.destination_port
    if flow.last:
        said["last_seen"] = _time(flow.last)
    if flow.first and flow.last - flow.first >= 1_000_000:
        said["duration_seconds"] = (flow.last - flow.first) // 1_000_000
    return said


def describe(notice: Notice) -> str:
    """What a person reads."""
    said = _SAID.get(notice.classified, "The flow was carried.")
    return " ".join([said, *(f"{each}." for each in notice.evidence)])


def _evidence(signed: bytes) -> dict[str, object]:
    return {
        "content_type": "application/jose",
        "description": "The notice as the reporter signed it (JWS, RFC 7515)",
        "payload": base64.b64encode(signed).decode(),
        "hash": f"sha256:{hashlib.sha256(signed).hexdigest()}",
        "size": len(signed),
    }


def _identifier(notice: Notice) -> str:
    """The same notice is the same report, however often it is made."""
    name = hashlib.sha256(f"{notice.nonce} {notice.to.value}".encode()).digest()[:16]
    return str(uuid.UUID(bytes=name, version=4))


def _time(at: Microseconds) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
