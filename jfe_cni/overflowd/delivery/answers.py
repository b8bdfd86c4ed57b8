"""What one way hears of one copy. Pure, but for what it is told of errors that the kernel has."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from jfe_cni.overflowd.delivery.outcomes import Told
from jfe_cni.overflowd.notices.optout import OptOutAsked


@dataclass(frozen=True)
class OptOutHeard:
    """`signed`: as it came, for whoever wants to see why."""

    asked: OptOutAsked
    signed: bytes


@dataclass(frozen=True)
class Answer:
    """`octets`: that were sent, to the address itself."""

    told: Told
    octets: int = 0
    opt_out: OptOutHeard | None = None


_OF_KERNEL = {
    errno.ECONNREFUSED: Told.PORT_UNREACHABLE,
    errno.EHOSTUNREACH: Told.HOST_UNREACHABLE,
    errno.ENETUNREACH: Told.NO_ROUTE,
    errno.EADDRNOTAVAIL: Told.NO_ROUTE,
    errno.EAFNOSUPPORT: Told.NO_ROUTE,
    errno.ENETDOWN: Told.NO_ROUTE,
    # Of a route that prohibits, or a rule of this host (ip-route(8), nft(8)).
    errno.EACCES: Told.NO_ROUTE,
    errno.EPERM: Told.NO_ROUTE,
    errno.EMSGSIZE: Told.TOO_LARGE,
}


def of_error(error: OSError) -> Told:
    """What a socket's error says of the other end (ip(7), tcp(7))."""
    return _OF_KERNEL.get(error.errno or 0, Told.NO_ANSWER)


def of_icmp(kind: int, code: int, version: int) -> Told | None:
    """What an ICMP message says of where the packet went (RFC 792; RFC 1812, section 5.2.7.1; RFC 4443, section 3).
    None: that it may be sent again, smaller."""
    if version == 6:
        if kind == 1:
            # Policy, a port without a listener; 5 and 6: a failed ingress policy, a route that rejects.
            return {1: Told.PROHIBITED, 4: Told.PORT_UNREACHABLE, 5: Told.PROHIBITED, 6: Told.PROHIBITED}.get(
                code, Told.HOST_UNREACHABLE
            )
        return Told.HOST_UNREACHABLE if kind == 3 else None
    if kind == 3:
        if code == 4:
            return None
        if code in {9, 10, 13}:
            return Told.PROHIBITED
        return Told.PORT_UNREACHABLE if code in {2, 3} else Told.HOST_UNREACHABLE
    return Told.HOST_UNREACHABLE if kind == 11 else None
