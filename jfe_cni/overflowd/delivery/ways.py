"""All ways to an address, each asked alike: tell this, say what was heard. Sealed where there is a key for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, assert_never

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.answers import Answer
from jfe_cni.overflowd.delivery.budgets import Budgets
from jfe_cni.overflowd.delivery.http import HttpWay
from jfe_cni.overflowd.delivery.mail import MailWay
from jfe_cni.overflowd.delivery.outcomes import Told, Way
from jfe_cni.overflowd.delivery.receiver_keys import ReceiverKeys
from jfe_cni.overflowd.delivery.sizes import most
from jfe_cni.overflowd.delivery.udp import UdpWay
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.overflowd.notices.sealing import largest_sealed, seal

Sealing = Literal["never", "http", "always"]
"""Where a receiver's key is looked for: nowhere; where a notice goes by HTTP or HTTPS; before UDP as well."""


class Ways:
    """`order`: in which they are tried. `mail`: None, where it is not switched on."""

    def __init__(
        self,
        order: Sequence[Way],
        udp: UdpWay,
        http: HttpWay,
        mail: MailWay | None,
        keys: ReceiverKeys,
        budgets: Budgets,
        sealing: Sealing,
    ) -> None:
        self.order = tuple(order)
        self._udp = udp
        self._http = http
        self._mail = mail
        self._keys = keys
        self._budgets = budgets
        self._sealing = sealing

    def cost(self, address: Address, signed: bytes) -> Mapping[Way, int]:
        """Octets of each way, at most."""
        size = len(signed)
        sealed = size if self._sealing == "never" else largest_sealed(size)
        return {
            way: most(
                way,
                address,
                sealed if self._sealing == "always" else size,
                sealed,
                asks_key=self._asks_key(way) and not self._keys.is_known(address),
            )
            for way in self.order
        }

    async def tell(self, way: Way, address: Address, notice: Notice, signed: bytes) -> Answer:
        """Raises JfeError: the budgets can't be asked; nothing was sent."""
        match way:
            case Way.UDP:
                return await self._udp.tell(address, await self._payload(way, address, notice, signed))
            case Way.HTTPS | Way.HTTP:
                return await self._http.tell(way, address, await self._payload(way, address, notice, signed))
            case Way.MAIL:
                return Answer(Told.NO_CONTACT) if self._mail is None else await self._mail.tell(address, notice, signed)
            case other:
                assert_never(other)

    def _asks_key(self, way: Way) -> bool:
        if way is Way.UDP:
            return self._sealing == "always"
        return way is not Way.MAIL and self._sealing != "never"

    async def _payload(self, way: Way, address: Address, notice: Notice, signed: bytes) -> bytes:
        if not self._asks_key(way):
            return signed
        by = Way.HTTPS if way is Way.UDP else way
        if not self._keys.is_known(address) and await self._budgets.admit(f"{identity(notice)} key", address):
            return signed
        key = await self._keys.of(address, lambda: self._http.published(by, address))
        return signed if key is None else seal(signed, key)


def identity(notice: Notice) -> str:
    """Of this copy alone."""
    return f"{notice.nonce} {notice.to}"
