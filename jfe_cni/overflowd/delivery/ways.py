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
from jfe_cni.overflowd.delivery.sizes import KEY_TRIES, most
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
                asks_key=self._asks_key(way, address) and not self._keys.is_known(address),
            )
            for way in self.order
        }

    async def tell(self, way: Way, address: Address, notice: Notice, signed: bytes) -> Answer:
        """Raises JfeError: the budgets can't be asked; nothing was sent."""
        match way:
            case Way.UDP:
                payload: bytes | Told = signed
                if self._asks_key(way, address):
                    payload = await self._payload(Way.HTTPS, address, notice, signed)
                return await self._udp.tell(address, signed if isinstance(payload, Told) else payload)
            case Way.HTTPS | Way.HTTP:
                payload = signed
                if self._asks_key(way, address):
                    payload = await self._payload(way, address, notice, signed)
                if isinstance(payload, Told):
                    # It is not told in clear what it may want sealed, nor is it connected to once more in vain.
                    return Answer(payload, KEY_TRIES * most(way, address, 0, 0, asks_key=False))
                return await self._http.tell(way, address, payload)
            case Way.MAIL:
                return Answer(Told.NO_CONTACT) if self._mail is None else await self._mail.tell(address, notice, signed)
            case other:
                assert_never(other)

    def _asks_key(self, way: Way, address: Address) -> bool:
        if way is Way.UDP:
            return self._sealing == "always" and not self._keys.is_silent(address)
        return way is not Way.MAIL and self._sealing != "never"

    async def _payload(self, by: Way, address: Address, notice: Notice, signed: bytes) -> bytes | Told:
        """Sealed, where there is a key. `by`: which way it is asked for. `Told`: it has not answered."""
        if not self._keys.is_known(address) and await self._budgets.admit(f"{identity(notice)} key", address):
            return signed
        key = await self._keys.of(address, lambda: self._http.published(by, address))
        if isinstance(key, Told):
            return key
        return signed if key is None else seal(signed, key)


def identity(notice: Notice) -> str:
    """Of this copy alone."""
    return f"{notice.nonce} {notice.to}"
