"""What reporter and receiver say to each other in datagrams, to and from 65535/udp. Pure.

A notice is its JWS (or JWE) in compact form and nothing else, so that one datagram is enough. All else begins with
`overflowd1`, which no base64url with dots does:

    reporter → receiver   JWS
    receiver → reporter   overflowd1 challenge COOKIE       a key that it does not know yet: is this your address?
    reporter → receiver   overflowd1 echo COOKIE JWS        yes
    receiver → reporter   overflowd1 taken DIGEST           it has it: nothing more is to be tried
    receiver → reporter   overflowd1 opt-out DIGEST JWS     it has it, and wants no more of them (`optouts.py`)

No answer is larger than what it answers. DIGEST is of the very bytes of the notice, and nobody's who has not seen them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from jfe_cni.overflowd.notices.signing import LARGEST_SIGNED

_MARK = b"overflowd1 "
_COOKIE = re.compile(rb"[A-Za-z0-9_-]{22,64}")
_DIGEST = re.compile(rb"[A-Za-z0-9_-]{22}")
# Half of SHA-256: a second notice of the same digest is found in 2^64 tries, and gains nothing.
_DIGEST_BYTES = 16
LARGEST_MESSAGE = LARGEST_SIGNED + 128


@dataclass(frozen=True)
class Sent:
    """A notice, and the cookie that it echoes."""

    signed: bytes
    cookie: str | None = None


@dataclass(frozen=True)
class Challenge:
    cookie: str


@dataclass(frozen=True)
class Taken:
    digest: str


@dataclass(frozen=True)
class OptOut:
    """`signed`: by the receiver's own key."""

    digest: str
    signed: bytes


Message = Sent | Challenge | Taken | OptOut


def digest(signed: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(signed).digest()[:_DIGEST_BYTES]).rstrip(b"=").decode()


def encode(message: Message) -> bytes:
    match message:
        case Sent(signed, None):
            return signed
        case Sent(signed, str(cookie)):
            return _MARK + b"echo " + cookie.encode() + b" " + signed
        case Challenge(cookie):
            return _MARK + b"challenge " + cookie.encode()
        case Taken(of):
            return _MARK + b"taken " + of.encode()
        case OptOut(of, signed):
            return _MARK + b"opt-out " + of.encode() + b" " + signed
    raise AssertionError(message)


def decode(raw: bytes) -> Message | None:
    """None: it is none of these. Of bytes that anybody may have sent; a notice in it is not looked into."""
    if len(raw) > LARGEST_MESSAGE:
        return None
    if not raw.startswith(_MARK):
        return Sent(raw) if raw.count(b".") in (2, 4) and b" " not in raw else None
    match raw[len(_MARK) :].split(b" "):
        case [b"echo", cookie, signed] if _COOKIE.fullmatch(cookie) and signed:
            return Sent(signed, cookie.decode())
        case [b"challenge", cookie] if _COOKIE.fullmatch(cookie):
            return Challenge(cookie.decode())
        case [b"taken", of] if _DIGEST.fullmatch(of):
            return Taken(of.decode())
        case [b"opt-out", of, signed] if _DIGEST.fullmatch(of) and signed:
            return OptOut(of.decode(), signed)
        case _:
            return None
