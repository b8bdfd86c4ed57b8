"""Interfaces of routers, as exporters number them (IF-MIB's ifIndex). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import numpy as np
import numpy.typing as npt

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.datagrams import Address

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.uint32]

_WRITTEN = re.compile(r"(\d{1,10})(?:@([0-9a-fA-F.:]+))?")


@dataclass(frozen=True)
class Interface:
    """`exporter`: its address, or that of the sFlow agent; None, that number of each."""

    number: int
    exporter: Address | None = None


def interface_of(text: str) -> Interface:
    """`7`, or `7@192.0.2.1` of one exporter. Raises RequestError."""
    written = _WRITTEN.fullmatch(text)
    try:
        if written is None or not 0 < int(written[1]) < 1 << 32:
            raise ValueError
        return Interface(int(written[1]), None if written[2] is None else ip_address(written[2]))
    except ValueError as error:
        raise RequestError(f"{text!r} is no interface", "write its number, or NUMBER@EXPORTER") from error


class Interfaces:
    """Asked for the interfaces of one exporter at a time, which may have several addresses, many at once."""

    def __init__(self, interfaces: Iterable[Interface] = ()) -> None:
        self._numbers: dict[Address | None, Numbers] = {}
        named = tuple(interfaces)
        everywhere = {each.number for each in named if each.exporter is None}
        for exporter in {None, *(each.exporter for each in named)}:
            numbers = everywhere | {each.number for each in named if each.exporter == exporter}
            self._numbers[exporter] = np.array(sorted(numbers), "u4")
        self._some = bool(named)

    def __bool__(self) -> bool:
        return self._some

    def contain(self, numbers: Numbers, *exporters: Address | None) -> Mask:
        named = [self._numbers[each] for each in exporters if each in self._numbers]
        found: Mask = np.isin(numbers, np.concatenate(named or [self._numbers[None]]))
        return found
