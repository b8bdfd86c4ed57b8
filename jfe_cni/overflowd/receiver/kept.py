"""What the receiver keeps, as values."""

from __future__ import annotations

from dataclasses import dataclass

from joserfc.jwk import OKPKey

from jfe_cni.overflowd.datagrams import Microseconds
from jfe_cni.overflowd.notices.notice import Notice


@dataclass(frozen=True)
class Kept:
    """`number`: grows with each, not by one. `domain`: its reporter's. `taken`: when."""

    number: int
    taken: Microseconds
    domain: str
    key: str
    notice: Notice


@dataclass(frozen=True)
class Pin:
    """`forgotten`: see `Freshness`. `used`: about. `looked`: when it was seen last what its domain publishes."""

    key: OKPKey
    pinned: Microseconds
    forgotten: Microseconds
    used: Microseconds = 0
    looked: Microseconds = 0


@dataclass(frozen=True)
class Change:
    """`keys`: by thumbprint, that `domain` publishes and that are not believed."""

    domain: str
    keys: tuple[str, ...]
    since: Microseconds


@dataclass(frozen=True)
class Announcement:
    """What webhooks are told of: a flood, by its name, or a change. `since`, `last`: of its notices, as they were
    read."""

    name: str
    since: Microseconds
    last: Microseconds
