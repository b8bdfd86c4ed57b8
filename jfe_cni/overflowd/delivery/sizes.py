"""How much each way costs the path, at most, in octets of IP: all tries, headers and handshakes together. Pure.

TCP sends again what is not acknowledged, to a peer that has shown by its handshake that it is there; before that, no
more than `SYNS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.outcomes import Way
from jfe_cni.overflowd.notices.sealing import largest_sealed

Sealing = Literal["never", "http", "always"]
"""Where a receiver's key is looked for: nowhere; where a notice goes by HTTP or HTTPS; before UDP as well."""

UDP_TRIES = 2
"""A notice that may have been lost is sent once more (RFC 8085, section 3.1.1: a second apart, then twice as long)."""

_IP = {4: 20, 6: 40}
_UDP = 8
# With timestamps; the first with all its options (RFC 9293, section 3.1).
_TCP, _TCP_OPTIONS = 20, 40
_SMALLEST_MTU = {4: 576, 6: 1_280}
"""RFC 791 and 8200: as small as a path may cut a notice."""

SYNS = 4
"""Within the three seconds for a connection: at once, and after each of them (tcp_syn_linear_timeouts, ip-sysctl)."""

# Of a connection beside its data: an ACK for each segment of an answer and of TLS's own, FIN. Whoever sends more to
# be acknowledged spends more than it gets: an ACK is smaller than a segment.
_ACKS = 40

_HELLO = 2_048
"""A ClientHello with a key of ML-KEM (RFC 8446; 1,184 octets of it), and the client's Finished."""

_RECORD = 64
"""What TLS adds to each record (RFC 8446, section 5.2), and closing it."""

REQUEST_HEAD = 512
"""Request line and fields of `http.py`."""

KEY_TRIES = 2
"""Of one GET: aiohttp sends it once more to who hangs up without an answer (`ClientSession._request`), and no POST."""

ECHO = len("overflowd1 echo ") + 64 + 1
"""What an echo has beside the notice: the longest cookie (`messages.py`)."""


def datagram(payload: int, address: Address) -> int:
    """One, in as many fragments as the narrowest path makes of it."""
    header = _IP[address.version] + (8 if address.version == 6 else 0)
    fits = (_SMALLEST_MTU[address.version] - header) // 8 * 8
    fragments = max(1, -(-(payload + _UDP) // fits))
    return payload + _UDP + fragments * header


def most(way: Way, address: Address, signed: int, sealed: int, *, asks_key: bool) -> int:
    """Octets to the address. `signed`, `sealed`: bytes of the notice as it goes by UDP, and by HTTP. `asks_key`: its
    key is looked for, by HTTP, before."""
    if way is Way.UDP:
        tries = UDP_TRIES * datagram(signed, address) + datagram(signed + ECHO, address)
        return tries + (KEY_TRIES * _connection(REQUEST_HEAD, address, secure=True) if asks_key else 0)
    if way is Way.MAIL:
        # To an abuse desk, by a mail server: none of it is the address's.
        return 0
    requests = [sealed + REQUEST_HEAD, *([REQUEST_HEAD] * KEY_TRIES if asks_key else [])]
    return sum(_connection(each, address, secure=way is Way.HTTPS) for each in requests)


def asks_key(way: Way, sealing: Sealing) -> bool:
    """Whether it is looked for before that way, where it is not known."""
    if way is Way.UDP:
        return sealing == "always"
    return way is not Way.MAIL and sealing != "never"


def costs(
    ways: Sequence[Way], address: Address, size: int, sealing: Sealing, asks: Callable[[Way], bool]
) -> Mapping[Way, int]:
    """Octets of each way, at most. `size`: bytes of the signed notice. `asks`: whether the key is looked for."""
    sealed = size if sealing == "never" else largest_sealed(size)
    by_udp = sealed if sealing == "always" else size
    return {way: most(way, address, by_udp, sealed, asks_key=asks(way)) for way in ways}


def _connection(data: int, address: Address, *, secure: bool) -> int:
    header = _IP[address.version] + _TCP + _TCP_OPTIONS
    sent = data + ((_HELLO + 2 * _RECORD) if secure else 0)
    segments = -(-sent // (_SMALLEST_MTU[address.version] - header)) + 2
    return sent + (segments + SYNS + _ACKS) * header
