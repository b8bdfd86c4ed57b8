"""What becomes of a notice that came: bytes, and what is known, in; a decision out. Pure.

what came ── unsealed ── whose? ── key known ──────────────── signature ── about us? ── news? ── TAKEN
                           └────── not known ── proven address ── KEY NEEDED
                                            └── else ──────────── CHALLENGED
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from joserfc import jws
from joserfc.errors import JoseError

from jfe_cni.overflowd.datagrams import Address, Microseconds
from jfe_cni.overflowd.notices import notice as notices
from jfe_cni.overflowd.notices.messages import Sent
from jfe_cni.overflowd.notices.notice import End, Notice, Unfit
from jfe_cni.overflowd.notices.sealing import NotOpened, is_sealed, unseal
from jfe_cni.overflowd.notices.signing import Refused, key_named, verified
from jfe_cni.overflowd.receiver.challenges import Challenges
from jfe_cni.overflowd.receiver.freshness import Freshness, Stale
from jfe_cni.overflowd.receiver.pins import HTTPS, Keys, Publisher, publisher


class Untaken(StrEnum):
    """Why something is not taken that may be a notice in good order."""

    NO_MESSAGE = "no-message"
    TOO_MANY = "too-many"
    """From that network, or in all."""

    NO_DOMAIN = "no-domain"
    """Its reporter's keys are said to be where no domain publishes them."""

    ABOUT_OTHERS = "about-others"
    KEY_CHANGED = "key-changed"
    NO_KEY = "no-key"
    """It could not be fetched, or not yet."""


Reason = Refused | Unfit | NotOpened | Stale | Untaken


@dataclass(frozen=True)
class Origin:
    """`proven`: that it can read what is sent there, as a TCP connection proves it."""

    address: Address
    port: int
    proven: bool = False


@dataclass(frozen=True)
class Taken:
    """`signed`: as its reporter signed it. `key`: by thumbprint."""

    notice: Notice
    signed: bytes
    publisher: Publisher
    key: str


@dataclass(frozen=True)
class KeyNeeded:
    """Of an address that is proven."""

    publisher: Publisher
    key: str


@dataclass(frozen=True)
class Challenged:
    cookie: str


@dataclass(frozen=True)
class NotTaken:
    reason: Reason


Decision = Taken | KeyNeeded | Challenged | NotTaken


@dataclass(frozen=True)
class Scope:
    """`own`: what a notice must be about, at the end that it is for; none: anything. `ports`: of publishers."""

    own: Sequence[IPv4Network | IPv6Network] = ()
    ports: frozenset[int] = frozenset({HTTPS})

    def has(self, notice: Notice) -> bool:
        told = notice.flow.source if notice.to is End.SOURCE else notice.flow.destination
        return not self.own or any(told.version == each.version and told in each for each in self.own)


class Intake:
    """`pinned`: the keys that are believed, by domain; `freshness`: of each such key, by domain and thumbprint. Both
    are looked at as they are at the time. `opening`: our own keys, for what is sealed, by thumbprint."""

    def __init__(
        self,
        pinned: Mapping[str, Keys],
        freshness: Mapping[tuple[str, str], Freshness],
        challenges: Challenges,
        scope: Scope,
        opening: Keys,
    ) -> None:
        self._pinned = pinned
        self._freshness = freshness
        self._challenges = challenges
        self._scope = scope
        self._opening = opening

    def decide(self, sent: Sent, origin: Origin, now: Microseconds, monotonic: Microseconds) -> Decision:
        """What is taken is remembered: said again, it is a replay. `monotonic`: of a clock that is never set."""
        signed = unseal(sent.signed, self._opening) if is_sealed(sent.signed) else sent.signed
        if isinstance(signed, NotOpened):
            return NotTaken(signed)
        name, said = key_named(signed), _unverified(signed)
        if isinstance(name, Refused):
            return NotTaken(name)
        if not isinstance(said, Notice):
            return NotTaken(said)
        of = publisher(said.reporter.keys, self._scope.ports)
        if of is None:
            return NotTaken(Untaken.NO_DOMAIN)
        if name not in self._pinned.get(of.domain, {}):
            return self._unknown(sent, origin, of, name, monotonic)
        return self._known(signed, of, name, now)

    def _unknown(self, sent: Sent, origin: Origin, of: Publisher, key: str, now: Microseconds) -> Decision:
        echoed = sent.cookie is not None and self._challenges.echoed(sent.cookie, origin.address, origin.port, key, now)
        if origin.proven or echoed:
            return KeyNeeded(of, key)
        return Challenged(self._challenges.cookie(origin.address, origin.port, key, now))

    def _known(self, signed: bytes, of: Publisher, key: str, now: Microseconds) -> Decision:
        notice = verified(signed, self._pinned[of.domain])
        if not isinstance(notice, Notice):
            return NotTaken(notice)
        if not self._scope.has(notice):
            return NotTaken(Untaken.ABOUT_OTHERS)
        stale = self._freshness[of.domain, key].take(notice, now)
        return NotTaken(stale) if stale is not None else Taken(notice, signed, of, key)


def _unverified(signed: bytes) -> Notice | Refused | Unfit:
    """What it says, of which nothing is proven."""
    try:
        payload = jws.extract_compact(signed).payload
    except (JoseError, ValueError, RecursionError):
        return Refused.NO_JWS
    return notices.decode(payload)
