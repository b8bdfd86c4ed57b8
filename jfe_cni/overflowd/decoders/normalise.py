"""From the columns of a template, in the words of information elements, to flows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from jfe_cni.overflowd.decoders.flows import FLOW, MAPPED, NO_DIRECTION, Flows, Moments
from jfe_cni.overflowd.decoders.templates import Columns

# Numbers of IANA's registry; of several that say the same, the first that a template has.
SOURCE_IPV4, SOURCE_IPV6, DESTINATION_IPV4, DESTINATION_IPV6 = 8, 27, 12, 28
SOURCE_PORT, DESTINATION_PORT, ICMP_IPV4, ICMP_IPV6 = (7, 180, 182), (11, 181, 183), 32, 139
PROTOCOL, TCP_FLAGS, DIRECTION, INPUT, OUTPUT = (4,), (6,), (61,), (10,), (14,)
# Deltas, totals, what an initiator sent (RFC 5103's predecessors of biflows), and what was sent on.
PACKETS, OCTETS = (2, 86, 298, 24), (1, 85, 231, 23)
# Seconds, milliseconds, microseconds and nanoseconds since the epoch; microseconds before the export.
FIRST, LAST = {150: 1_000_000, 152: 1_000, 336: 1_000}, {151: 1_000_000, 153: 1_000}
FIRST_NTP, LAST_NTP = (154, 156), (155, 157)
FIRST_BEFORE, LAST_BEFORE = 158, 159
FIRST_UPTIME, LAST_UPTIME, INITIALISED = 22, 21, 160

Times = npt.NDArray[np.int64]
# Seconds from NTP's era to the epoch (RFC 5905, section 6).
_NTP_ERA = 2_208_988_800


def flows_of(columns: Columns, moments: Moments, sampling: npt.NDArray[np.uint32]) -> Flows:
    """`sampling`: of each record."""
    flows = np.zeros(columns.count, FLOW)
    _addresses(columns, flows["source"], SOURCE_IPV4, SOURCE_IPV6)
    _addresses(columns, flows["destination"], DESTINATION_IPV4, DESTINATION_IPV6)
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
    flows["direction"] = NO_DIRECTION
    direction = _first(columns, DIRECTION)
    if direction is not None:
        flows["direction"] = np.where(direction <= 1, direction, NO_DIRECTION)
    for icmp in (ICMP_IPV4, ICMP_IPV6):
        found = unsigned(columns, icmp)
        if found is not None:
            flows["destination_port"] |= found.astype("u2")
    flows["first"] = _times(columns, moments, FIRST, FIRST_NTP, FIRST_BEFORE, FIRST_UPTIME)
    flows["last"] = _times(columns, moments, LAST, LAST_NTP, LAST_BEFORE, LAST_UPTIME)
    flows["sampling"] = sampling
    return flows


def unsigned(columns: Columns, number: int) -> npt.NDArray[np.uint64] | None:
    """An element of IANA's as whole numbers, whatever length it was sent in; None where the template lacks it."""
    at = columns.template.index.get((0, number))
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


def _first(columns: Columns, numbers: Iterable[int]) -> npt.NDArray[np.uint64] | None:
    for number in numbers:
        found = unsigned(columns, number)
        if found is not None:
            return found
    return None


def _addresses(columns: Columns, into: npt.NDArray[np.uint8], ipv4: int, ipv6: int) -> None:
    """A template may have both: the one that is not all zero is the record's."""
    narrow, wide = _bytes(columns, ipv4, 4), _bytes(columns, ipv6, 16)
    if wide is None:
        if narrow is not None:
            into[:, :12] = MAPPED
            into[:, 12:] = narrow
        return
    into[:] = wide
    if narrow is not None:
        absent = ~wide.any(axis=1)
        into[absent, :12] = MAPPED
        into[absent, 12:] = narrow[absent]


def _bytes(columns: Columns, number: int, length: int) -> npt.NDArray[np.uint8] | None:
    at = columns.template.index.get((0, number))
    if at is None:
        return None
    column = columns.columns[at]
    if isinstance(column, list) or column.ndim != 2 or column.shape[1] != length:
        return None
    return column.astype("u1", copy=False)


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
        before_export: Times = moments.of_records(moments.exported) - found.astype("i8")
        return before_export
    found = unsigned(columns, uptime)
    if found is None:
        return np.zeros(columns.count, "i8")
    initialised = unsigned(columns, INITIALISED)
    if initialised is not None:
        since: Times = (initialised.astype("i8") + found.astype("i8")) * 1_000
        return since
    started = moments.of_records(moments.started)
    return np.where(started == 0, 0, _after_wrap(started, found.astype("i8") * 1_000, moments))


def _after_wrap(started: npt.NDArray[np.int64], up: npt.NDArray[np.int64], moments: Moments) -> npt.NDArray[np.int64]:
    """`sysUpTime` counts milliseconds in 32 bits, and starts again after 49.7 days: a flow that would be of next month
    was before that."""
    at = started + up
    wrap = np.int64(2**32 * 1_000)
    return np.where(at > moments.of_records(moments.exported) + wrap // 2, at - wrap, at)


def _from_ntp(found: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """RFC 7011, sections 6.1.9 and 6.1.10: seconds of NTP's era and a fraction, 32 bits each."""
    seconds = (found >> np.uint64(32)).astype("i8") - _NTP_ERA
    fraction = ((found & np.uint64(0xFFFFFFFF)) * np.uint64(1_000_000)) >> np.uint64(32)
    at: Times = seconds * 1_000_000 + fraction.astype("i8")
    return at
