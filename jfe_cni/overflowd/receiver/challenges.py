"""Is it your address? A cookie that only who is there can read, made without remembering anything of anybody
(as in RFC 9000, section 8.1); and how much may be fetched for whom. Pure.
"""

from __future__ import annotations

import base64
import hmac
from collections import OrderedDict

from jfe_cni.overflowd.datagrams import Address, Microseconds

SLOT: Microseconds = 60 * 1_000_000
"""A cookie is good in the slot that it was made in and in the next one: a minute at least."""

_BYTES = 18
"""Of the code: 144 bits, 24 letters."""

MOST_ADDRESSES = 4_096


class Challenges:
    """`secret`: of this process alone; cookies do not outlive it. `now`: of a clock that is never set."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def cookie(self, address: Address, port: int, key: str, now: Microseconds) -> str:
        return self._of_slot(address, port, key, now // SLOT)

    def echoed(self, cookie: str, address: Address, port: int, key: str, now: Microseconds) -> bool:
        """Whether it was given to that very address and port, for that key."""
        slots = (now // SLOT, now // SLOT - 1)
        return any(hmac.compare_digest(cookie, self._of_slot(address, port, key, slot)) for slot in slots)

    def _of_slot(self, address: Address, port: int, key: str, slot: int) -> str:
        # Each part of a length of its own, but for the last.
        asked = address.packed.rjust(16, b"\xff") + port.to_bytes(2) + slot.to_bytes(8, signed=True) + key.encode()
        return base64.urlsafe_b64encode(hmac.digest(self._secret, asked, "sha256")[:_BYTES]).decode()


class Ledger:
    """Bytes that came from an address that is proven, and that may be fetched for it: no more than it has sent. Where
    there are more than `most` addresses, the oldest has nothing to its credit any more."""

    def __init__(self, most: int = MOST_ADDRESSES) -> None:
        self._most = most
        self._credit: OrderedDict[Address, int] = OrderedDict()

    def received(self, address: Address, count: int) -> None:
        self._credit[address] = self._credit.get(address, 0) + count
        self._credit.move_to_end(address)
        if len(self._credit) > self._most:
            self._credit.popitem(last=False)

    def credit(self, address: Address) -> int:
        return self._credit.get(address, 0)

    def draw(self, address: Address) -> int:
        """All that it has: it is not there for a second fetch meanwhile. What is left comes back by `received`."""
        return self._credit.pop(address, 0)

    def __len__(self) -> int:
        return len(self._credit)
