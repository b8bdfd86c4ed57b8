"""NetFlow v9 (RFC 3954) and IPFIX (RFC 7011): messages of sets, which are templates, options' templates, or data.
Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from jfe_cni.overflowd.decoders.elements import element, iana, v9_scope
from jfe_cni.overflowd.decoders.templates import Field, Template
from jfe_cni.overflowd.dropped import Dropped

_V9 = struct.Struct(">HHIIII")
_IPFIX = struct.Struct(">HHIII")
# RFC 7011, section 3.4.3.
LEAST_DATA_SET = 256
_V9_TEMPLATES, _V9_OPTIONS, _IPFIX_TEMPLATES, _IPFIX_OPTIONS = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Message:
    """`exported`, `started`: microseconds since the epoch; `started` is 0 in IPFIX, which has no `uptime`
    (milliseconds). `cut_off`: the message says that it is longer, or shorter than what came."""

    version: int
    exported: int
    started: int
    domain: int
    sets: bytes
    cut_off: bool
    uptime: int = 0


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """`number`: of one template, or 2 or 3 for all of a kind (RFC 7011, section 8.1)."""

    number: int


@dataclass(frozen=True, slots=True)
class Data:
    number: int
    records: bytes


class Malformed(Exception):
    """A set or template that says more of itself than there is; what follows it in the message can't be found."""


def parse(payload: bytes) -> Message | None:
    """None: it is cut off in its header, or says that it is."""
    version = int.from_bytes(payload[:2])
    if version == 9:
        if len(payload) < _V9.size:
            return None
        _, _, uptime, seconds, _, domain = _V9.unpack_from(payload)
        exported = seconds * 1_000_000
        return Message(9, exported, exported - uptime * 1_000, domain, payload[_V9.size :], False, uptime)
    if len(payload) < _IPFIX.size:
        return None
    _, length, seconds, _, domain = _IPFIX.unpack_from(payload)
    if length < _IPFIX.size:
        return None
    return Message(10, seconds * 1_000_000, 0, domain, payload[_IPFIX.size : length], length != len(payload))


def sets_of(message: Message) -> Iterator[Template | Withdrawn | Data | Dropped]:
    """In their order, and why one is not read. Raises Malformed, after all that came before."""
    sets, at = message.sets, 0
    while len(sets) - at >= 4:
        number, length = struct.unpack_from(">HH", sets, at)
        if length < 4 or at + length > len(sets):
            raise Malformed
        body = sets[at + 4 : at + length]
        at += length
        if number >= LEAST_DATA_SET:
            yield Data(number, body)
        elif message.version == 9 and number == _V9_TEMPLATES:
            yield from _v9_templates(body)
        elif message.version == 9 and number == _V9_OPTIONS:
            yield from _v9_options(body)
        elif message.version == 10 and number in (_IPFIX_TEMPLATES, _IPFIX_OPTIONS):
            yield from _ipfix_templates(body, options=number == _IPFIX_OPTIONS)
        else:
            yield Dropped.UNKNOWN_FORMAT
    if any(sets[at:]):
        yield Dropped.CUT_OFF


def _v9_templates(body: bytes) -> Iterator[Template]:
    at = 0
    while len(body) - at >= 4:
        number, count = struct.unpack_from(">HH", body, at)
        at += 4
        if number < LEAST_DATA_SET:
            # Padding.
            return
        if len(body) < at + count * 4:
            raise Malformed
        yield Template(number, tuple(_v9_field(body, at + 4 * each) for each in range(count)))
        at += count * 4


def _v9_options(body: bytes) -> Iterator[Template]:
    at = 0
    while len(body) - at >= 6:
        number, scope, options = struct.unpack_from(">HHH", body, at)
        at += 6
        if number < LEAST_DATA_SET:
            return
        if scope % 4 or options % 4 or len(body) < at + scope + options:
            raise Malformed
        scopes = [struct.unpack_from(">HH", body, at + 4 * each) for each in range(scope // 4)]
        fields = [_v9_field(body, at + scope + 4 * each) for each in range(options // 4)]
        described = (*(Field(v9_scope(kind), length) for kind, length in scopes), *fields)
        # One that has no scope is about the whole exporter, and none of flows.
        yield Template(number, described, max(1, len(scopes)))
        at += scope + options


def _v9_field(body: bytes, at: int) -> Field:
    kind, length = struct.unpack_from(">HH", body, at)
    return Field(iana(kind), length)


def _ipfix_templates(body: bytes, *, options: bool) -> Iterator[Template | Withdrawn]:
    at = 0
    while len(body) - at >= 4:
        number, count = struct.unpack_from(">HH", body, at)
        at += 4
        if count == 0:
            if number == 0:
                return
            yield Withdrawn(number)
            continue
        if number < LEAST_DATA_SET:
            return
        scopes = 0
        if options:
            scopes = int.from_bytes(body[at : at + 2])
            at += 2
            if not 1 <= scopes <= count:
                raise Malformed
        fields = []
        for _ in range(count):
            if len(body) < at + 4:
                raise Malformed
            kind, length = struct.unpack_from(">HH", body, at)
            at += 4
            enterprise = 0
            if kind & 0x8000:
                if len(body) < at + 4:
                    raise Malformed
                enterprise = int.from_bytes(body[at : at + 4])
                at += 4
            fields.append(Field(element(kind & 0x7FFF, enterprise), length))
        yield Template(number, tuple(fields), scopes)
