"""Records as lines of JSON: what a flow comes to, and all that its exporter said of it, by the elements' names."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

import numpy as np

from jfe_cni.overflowd.datagrams import address_of
from jfe_cni.overflowd.decoders import Batch
from jfe_cni.overflowd.decoders.flows import Flows
from jfe_cni.overflowd.decoders.templates import Column, Columns, Field

_SECONDS = 1e6


def lines(batch: Batch) -> Iterator[str]:
    head = {"format": batch.format.value, "exporter": str(batch.exporter), "domain": batch.domain}
    if batch.agent != batch.exporter:
        head["agent"] = str(batch.agent)
    elements = [{}] * len(batch.flows) if batch.columns is None else _elements(batch.columns)
    for flow, said in zip(_flows(batch.flows), elements, strict=True):
        yield json.dumps(head | flow | ({"elements": said} if said else {}), allow_nan=False)


def _flows(flows: Flows) -> Iterator[dict[str, object]]:
    for row in flows:
        yield {
            "source": str(address_of(row["source"].tobytes())),
            "destination": str(address_of(row["destination"].tobytes())),
            "source_port": int(row["source_port"]),
            "destination_port": int(row["destination_port"]),
            "protocol": int(row["protocol"]),
            "tcp_flags": int(row["tcp_flags"]),
            "packets": int(row["packets"]),
            "octets": int(row["octets"]),
            "first": _time(int(row["first"])),
            "last": _time(int(row["last"])),
            "sampling": int(row["sampling"]) or None,
            "input": int(row["input"]),
            "output": int(row["output"]),
        }


def _time(at: int) -> float | None:
    """Seconds since the epoch."""
    return at / _SECONDS if at else None


def _elements(columns: Columns) -> Iterator[dict[str, object]]:
    """An element that a template has several times is a list of its values."""
    names = [each.element.name for each in columns.template.fields]
    readers = [_reader(each) for each in columns.template.fields]
    for number in range(columns.count):
        said: dict[str, object] = {}
        for name, read, column in zip(names, readers, columns.columns, strict=True):
            value = read(_bytes(column, number))
            if name not in said:
                said[name] = value
            elif isinstance(said[name], list):
                said[name] = [*said[name], value]  # type: ignore[misc]
            else:
                said[name] = [said[name], value]
        yield said


def _bytes(column: Column, number: int) -> bytes:
    # As they came. What numpy gives as one value is in this machine's order.
    return column[number] if isinstance(column, list) else column[number : number + 1].tobytes()


def _float(raw: bytes) -> float | str:
    if len(raw) not in (4, 8):
        return raw.hex()
    value = float(np.frombuffer(raw, f">f{len(raw)}")[0])
    # JSON has no other numbers (RFC 8259, section 6).
    return value if math.isfinite(value) else str(value)


def _reader(described: Field) -> Callable[[bytes], object]:
    kind, length = described.element.kind, described.length
    if kind.startswith(("unsigned", "dateTime")):
        return int.from_bytes
    if kind.startswith("signed"):
        return lambda raw: int.from_bytes(raw, signed=True)
    if kind.startswith("float"):
        return _float
    if kind == "boolean":
        # RFC 7011, section 6.1.5.
        return lambda raw: {1: True, 2: False}.get(int.from_bytes(raw))
    if kind == "string":
        return lambda raw: raw.rstrip(b"\0").decode("utf-8", errors="replace")
    if kind == "macAddress" and length == 6:
        return lambda raw: raw.hex(":")
    if kind == "ipv4Address" and length == 4:
        return lambda raw: str(IPv4Address(raw))
    if kind == "ipv6Address" and length == 16:
        return lambda raw: str(IPv6Address(raw))
    return bytes.hex
