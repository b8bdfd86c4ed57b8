"""From the columns of a template, in the words of information elements, to flows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.decoders.flows import EGRESS, FLOW, MAPPED_LOW, NO_DIRECTION, WORDS, Flows, Moments
from jfe_cni.overflowd.decoders.templates import Columns

# Numbers of IANA's registry; of several that say the same, the first that a template has.
SOURCE_IPV4, SOURCE_IPV6, DESTINATION_IPV4, DESTINATION_IPV6 = 8, 27, 12, 28
SOURCE_PORT, DESTINATION_PORT = (7, 180, 182), (11, 181, 183)
# Type and code in one; or each in an element of its own.
ICMP, ICMP_PARTS = (32, 139), ((176, 177), (178, 179))
PROTOCOL, TCP_FLAGS, DIRECTION, INPUT, OUTPUT = (4,), (6,), 61, (10,), (14,)
# Deltas, totals, what an initiator sent, and what was sent on.
PACKETS, OCTETS = (2, 86, 298, 24), (1, 85, 231, 23)
# What came back: of the responder; and RFC 5103's, which are the same elements of this enterprise.
PACKETS_BACK, OCTETS_BACK = (299,), (232,)
REVERSE = 29305
# Seconds, milliseconds and microseconds since the epoch; microseconds before the export.
FIRST, LAST = {150: 1_000_000, 152: 1_000}, {151: 1_000_000, 153: 1_000}
# Of NTP: microseconds and nanoseconds.
FIRST_NTP, LAST_NTP = (154, 156), (155, 157)
FIRST_BEFORE, LAST_BEFORE = 158, 159
FIRST_UPTIME, LAST_UPTIME, INITIALISED = 22, 21, 160

Times = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint64]
# Seconds from NTP's era to the epoch (RFC 5905, section 6).
_NTP_ERA = 2_208_988_800
_WRAP = 2**32 * 1_000


def flows_of(columns: Columns, moments: Moments, sampling: npt.NDArray[np.uint32]) -> Flows:
    """`sampling`: of each record."""
    flows = np.zeros(columns.count, FLOW)
    words = flows.view(WORDS)
    _addresses(columns, words, "source", SOURCE_IPV4, SOURCE_IPV6)
    _addresses(columns, words, "destination", DESTINATION_IPV4, DESTINATION_IPV6)
    for name, numbers in (
        ("source_port", SOURCE_PORT),
        ("destination_port", DESTINATION_PORT),
        ("protocol", PROTOCOL),
        ("tcp_flags", TCP_FLAGS),
        ("packets", PACKETS),
        ("octets", OCTETS),
        ("input", INPUT),
        ("output", OUTPUT),
    ):
        found = _first(columns, numbers)
        if found is not None:
            flows[name] = found
    _count_at_least_one(flows)
    _icmp(columns, flows)
    direction = _whole(columns, DIRECTION)
    flows["direction"] = NO_DIRECTION if direction is None else np.where(direction <= EGRESS, direction, NO_DIRECTION)
    flows["first"] = _times(columns, moments, FIRST, FIRST_NTP, FIRST_BEFORE, FIRST_UPTIME)
    flows["last"] = _times(columns, moments, LAST, LAST_NTP, LAST_BEFORE, LAST_UPTIME)
    flows["sampling"] = sampling
    return flows


def way_back(columns: Columns, flows: Flows) -> Flows | None:
    """Of records that tell of both ways what went the other way, of those where something did; None where they tell of
    one. `flows`: as `flows_of` has them, in the records' order. When it began on its way back is seldom told, and not
    used."""
    packets, octets = _back(columns, PACKETS, PACKETS_BACK), _back(columns, OCTETS, OCTETS_BACK)
    if packets is None and octets is None:
        return None
    back = flows.copy()
    for one, other in (("source", "destination"), ("source_port", "destination_port"), ("input", "output")):
        back[one], back[other] = flows[other], flows[one]
    back["packets"] = 0 if packets is None else packets
    back["octets"] = 0 if octets is None else octets
    flags = _back(columns, TCP_FLAGS, ())
    back["tcp_flags"] = 0 if flags is None else flags
    back["direction"] = NO_DIRECTION
    _count_at_least_one(back)
    return back[back["packets"] > 0]


def _back(columns: Columns, numbers: Iterable[int], own: Iterable[int]) -> Numbers | None:
    for number in numbers:
        found = unsigned(columns, number, REVERSE)
        if found is not None:
            return found
    return next((found for each in own if (found := unsigned(columns, each)) is not None), None)


def _count_at_least_one(flows: Flows) -> None:
    """Some tell of octets alone, as Cisco's ASA does; there was a packet then."""
    flows["packets"][(flows["packets"] == 0) & (flows["octets"] > 0)] = 1


def _icmp(columns: Columns, flows: Flows) -> None:
    """Type and code in the place of the destination's port, as NetFlow has them."""
    for number in ICMP:
        found = unsigned(columns, number)
        if found is not None:
            flows["destination_port"] |= found.astype("u2")
    for of_type, of_code in ICMP_PARTS:
        kind, code = unsigned(columns, of_type), unsigned(columns, of_code)
        if kind is not None:
            both = (kind << np.uint64(8)) | (np.uint64(0) if code is None else code)
            flows["destination_port"] |= both.astype("u2")


def unsigned(columns: Columns, number: int, enterprise: int = 0) -> Numbers | None:
    """An element as whole numbers, whatever length it was sent in; None where the template lacks it."""
    at = columns.template.index.get((enterprise, number))
    if at is None:
        return None
    column = columns.columns[at]
    if isinstance(column, list):
        return np.array([int.from_bytes(each[-8:]) for each in column], "u8")
    if column.ndim == 1:
        return column.astype("u8")
    narrow = column[:, -8:].astype("u1")
    wide = np.zeros((len(narrow), 8), "u1")
    wide[:, 8 - narrow.shape[1] :] = narrow
    return wide.view(">u8")[:, 0].astype("u8")


def floating(columns: Columns, number: int) -> npt.NDArray[np.float64] | None:
    """An element of IANA's that is float64 or float32; None where the template lacks it, or has another length."""
    at = columns.template.index.get((0, number))
    if at is None:
        return None
    column = columns.columns[at]
    return column.astype("f8") if isinstance(column, np.ndarray) and column.dtype.kind == "f" else None


def _whole(columns: Columns, number: int) -> npt.NDArray[Any] | None:
    """As `unsigned`, but in the width that it was sent in, where numpy has that: copied once less."""
    at = columns.template.index.get((0, number))
    if at is None:
        return None
    column = columns.columns[at]
    if isinstance(column, np.ndarray) and column.ndim == 1 and column.dtype.kind == "u":
        return column
    return unsigned(columns, number)


def _first(columns: Columns, numbers: Iterable[int]) -> npt.NDArray[Any] | None:
    for number in numbers:
        found = _whole(columns, number)
        if found is not None:
            return found
    return None


def _addresses(columns: Columns, words: npt.NDArray[np.void], end: str, ipv4: int, ipv6: int) -> None:
    """A template may have both: the one that is not all zero is the record's."""
    narrow, wide = _column(columns, ipv4, 1), _column(columns, ipv6, 2)
    high, low = words[f"{end}_high"], words[f"{end}_low"]
    if wide is not None:
        halves = np.ascontiguousarray(wide).view(">u8")
        high[:], low[:] = halves[:, 0], halves[:, 1]
    if narrow is not None:
        mapped = narrow.astype("u8") | MAPPED_LOW
        if wide is None:
            # In the order of `low` before: both at once take four times as long.
            low[:] = mapped.astype(">u8")
        else:
            np.copyto(low, mapped, where=(high == 0) & (low == 0))


def _column(columns: Columns, number: int, dimensions: int) -> npt.NDArray[Any] | None:
    """Of addresses that are as long as they should be: a word each, or octets."""
    at = columns.template.index.get((0, number))
    if at is None:
        return None
    column = columns.columns[at]
    if not isinstance(column, np.ndarray) or column.ndim != dimensions:
        return None
    return column if dimensions == 1 or column.shape[1] == 16 else None


def _times(
    columns: Columns, moments: Moments, scaled: Mapping[int, int], ntp: Iterable[int], before: int, uptime: int
) -> npt.NDArray[np.int64]:
    for number, scale in scaled.items():
        found = unsigned(columns, number)
        if found is not None:
            return (found * np.uint64(scale)).astype("i8")
    for number in ntp:
        found = unsigned(columns, number)
        if found is not None:
            return _from_ntp(found)
    found = unsigned(columns, before)
    if found is not None:
        before_export: Times = moments.exported_of_records - found.astype("i8")
        return before_export
    up = _whole(columns, uptime)
    if up is None:
        return np.zeros(columns.count, "i8")
    since: Times = up.astype("i8") * 1_000
    initialised = unsigned(columns, INITIALISED)
    if initialised is not None:
        since += initialised.astype("i8") * 1_000
        return since
    started = moments.started_of_records
    at: Times = started + since
    # `sysUpTime` counts milliseconds in 32 bits, and starts again after 49.7 days: a flow that would be of next month
    # was before that.
    at[at > moments.exported_of_records + _WRAP // 2] -= _WRAP
    at[started == 0] = 0
    return at


def _from_ntp(found: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """RFC 7011, sections 6.1.9 and 6.1.10: seconds of NTP's era and a fraction, 32 bits each."""
    seconds = (found >> np.uint64(32)).astype("i8") - _NTP_ERA
    # 0 is no time (RFC 5905, section 6).
    fraction = ((found & np.uint64(0xFFFFFFFF)) * np.uint64(1_000_000)) >> np.uint64(32)
    at: Times = np.where(found == 0, 0, seconds * 1_000_000 + fraction.astype("i8"))
    return at
