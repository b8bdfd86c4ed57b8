"""All ways to an address, each asked alike: tell this, say what was heard. Sealed where there is a key for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.answers import Answer
from jfe_cni.overflowd.delivery.budgets import Budgets
from jfe_cni.overflowd.delivery.http import HttpWay
from jfe_cni.overflowd.delivery.mail import MailWay
from jfe_cni.overflowd.delivery.outcomes import Told, Way
from jfe_cni.overflowd.delivery.receiver_keys import ReceiverKeys
from jfe_cni.overflowd.delivery.sizes import KEY_TRIES, Sealing, asks_key, costs, most
from jfe_cni.overflowd.delivery.udp import UdpWay
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.overflowd.notices.sealing import seal


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
        known = self._keys.is_known(address)
        asks = {way: self._asks_key(way, address) and not known for way in self.order}
        return costs(self.order, address, len(signed), self._sealing, asks.__getitem__)

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
        return asks_key(way, self._sealing) and not (way is Way.UDP and self._keys.is_silent(address))

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
