"""Templates, each compiled to a numpy type once, and what is kept of them for each exporter.

A template of fixed length reads any number of its records at one stroke. Where a field has a length of its own in each
record, records are walked, and each field's bytes are gathered to a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.decoders.elements import Element

# RFC 7011, section 7: the length that says that each record has its own.
VARIABLE = 65_535
MOST_FIELDS = 1_024
LIFETIME: Microseconds = 5_400_000_000
"""Of a template or a sampler that is not told again: three times as long as exporters take at most, as they are set
(RFC 7011, section 8.4, asks for no less)."""
# sourceIPv4Address, destinationIPv4Address, sourceIPv6Address, destinationIPv6Address.
_ADDRESSES = (8, 12, 27, 28)

_WALKED = 8

Column = npt.NDArray[np.generic] | list[bytes]


@dataclass(frozen=True, slots=True)
class Field:
    element: Element
    length: int


@dataclass(frozen=True)
class Template:
    """`scopes`: how many of the fields, from the first on, say what the others are about (options); 0 for flows."""

    number: int
    fields: tuple[Field, ...]
    scopes: int = 0

    @cached_property
    def shortest(self) -> int:
        """Bytes of a record at least: a field whose length varies takes one byte to say 0."""
        return sum(1 if each.length == VARIABLE else each.length for each in self.fields)

    @cached_property
    def is_fixed(self) -> bool:
        return all(each.length != VARIABLE for each in self.fields)

    @cached_property
    def record(self) -> np.dtype[np.void]:
        """Of a template of fixed length: `f0`, `f1` …, as they lie in the record."""
        formats = [_format(each) for each in self.fields]
        offsets = np.cumsum([0, *(each.length for each in self.fields)])[:-1]
        # numpy reads no field of no bytes.
        there = [number for number, each in enumerate(self.fields) if each.length]
        return np.dtype(
            {
                "names": [f"f{number}" for number in there],
                "formats": [formats[number] for number in there],
                "offsets": [int(offsets[number]) for number in there],
                "itemsize": self.shortest,
            }
        )

    @cached_property
    def index(self) -> dict[tuple[int, int], int]:
        """Where an element is, by (enterprise, number); of several that are the same the first, which is the
        outermost (RFC 7011, section 8)."""
        found: dict[tuple[int, int], int] = {}
        for number, each in enumerate(self.fields):
            found.setdefault((each.element.enterprise, each.element.number), number)
        return found

    @cached_property
    def has_addresses(self) -> bool:
        """Whether its records tell of a source or a destination: others, of counters or events, are no flows."""
        return any((0, each) in self.index for each in _ADDRESSES)

    def most_records(self, piece: bytes) -> int:
        """That it can hold; a field that is walked takes about as much as eight octets of a flow."""
        return len(piece) // (self.shortest if self.is_fixed else min(self.shortest, _WALKED))

    @property
    def is_fit(self) -> bool:
        """Whether records of it can be told from each other, and from padding, and have no more fields than octets: of
        fields of no length a few octets could hold any number."""
        few = 0 <= self.scopes <= len(self.fields) <= min(self.shortest, MOST_FIELDS)
        return few and 0 < self.shortest < VARIABLE


@dataclass
class Columns:
    """Records of one template, field by field. `counts`: how many there are in each piece. `cut_off`: pieces that end
    within a record, which is no padding."""

    template: Template
    counts: list[int]
    columns: list[Column]
    cut_off: int = 0

    @cached_property
    def count(self) -> int:
        return sum(self.counts)


def columns_of(template: Template, pieces: Sequence[bytes]) -> Columns:
    """`pieces`: each of whole records, with less than a record of padding at its end."""
    if not template.is_fixed:
        return _walked(template, pieces)
    size = template.shortest
    counts = [len(piece) // size for piece in pieces]
    ends = [count * size for count in counts]
    whole = b"".join([piece[:end] for piece, end in zip(pieces, ends, strict=True)])
    cut_off = sum(_is_cut_off(piece, end) for piece, end in zip(pieces, ends, strict=True) if end < len(piece))
    records = np.frombuffer(whole, template.record)
    empty = [b""] * len(records)
    columns: list[Column] = [
        records[f"f{number}"] if each.length else empty for number, each in enumerate(template.fields)
    ]
    return Columns(template, counts, columns, cut_off)


def _is_cut_off(piece: bytes, end: int) -> bool:
    """Padding is of zeros (RFC 7011, section 3.3.1)."""
    return any(piece[end:])


def _walked(template: Template, pieces: Sequence[bytes]) -> Columns:
    found = [_records(template, piece) for piece in pieces]
    rows = [row for of_piece, _ in found for row in of_piece]
    columns: list[Column] = []
    for number, each in enumerate(template.fields):
        values = [row[number] for row in rows]
        if each.length in (VARIABLE, 0):
            columns.append(values)
        else:
            columns.append(np.frombuffer(b"".join(values), np.dtype([("f", _format(each))]))["f"])
    cut_off = sum(_is_cut_off(piece, end) for piece, (_, end) in zip(pieces, found, strict=True))
    return Columns(template, [len(of_piece) for of_piece, _ in found], columns, cut_off)


def _records(template: Template, piece: bytes) -> tuple[list[list[bytes]], int]:
    """Up to the first that is cut off; and where they end."""
    found, at, end = [], 0, 0
    while len(piece) - at >= template.shortest:
        row = []
        for each in template.fields:
            length = each.length
            if length == VARIABLE:
                # RFC 7011, section 7: one byte, or 255 and two.
                length = int.from_bytes(piece[at : at + 1])
                at += 1
                if length == 255:
                    length = int.from_bytes(piece[at : at + 2])
                    at += 2
            row.append(piece[at : at + length])
            at += length
        if at > len(piece):
            break
        found.append(row)
        end = at
    return found, end


_WHOLE = {1: ">u1", 2: ">u2", 4: ">u4", 8: ">u8"}
_SIGNED = {1: ">i1", 2: ">i2", 4: ">i4", 8: ">i8"}
_FLOAT = {4: ">f4", 8: ">f8"}


def _format(described: Field) -> object:
    kind, length = described.element.kind, described.length
    if kind == "ipv4Address" and length == 4:
        return _WHOLE[length]
    if kind.startswith(("unsigned", "dateTime")) or kind == "boolean":
        # Elements may be sent shorter than they are (RFC 7011, section 6.2): also in three bytes.
        return _WHOLE.get(length, ("u1", (length,)))
    if kind.startswith("signed"):
        return _SIGNED.get(length, ("u1", (length,)))
    if kind.startswith("float"):
        return _FLOAT.get(length, ("u1", (length,)))
    return ("u1", (length,))


@dataclass
class Templates:
    """What one exporter has said of one observation domain, and when last, by the clock here."""

    known: dict[int, Template] = field(default_factory=dict)
    told: dict[int, Microseconds] = field(default_factory=dict)
