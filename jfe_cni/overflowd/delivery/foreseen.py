"""What would become of a notice, as far as the notice and the settings tell: who opted out, what is left of budgets and
who can't be reached is in the state, and a dry run has none. Pure.
"""

from __future__ import annotations

import json

from jfe_cni.overflowd.datagrams import Address
from jfe_cni.overflowd.delivery.decisions import Try, next_step, ways_for, withheld
from jfe_cni.overflowd.delivery.settings import DeliverySettings
from jfe_cni.overflowd.delivery.sizes import asks_key, costs
from jfe_cni.overflowd.notices.keys import new_key
from jfe_cni.overflowd.notices.notice import Notice, copies, encode
from jfe_cni.overflowd.notices.signing import sign


class Foreseen:
    def __init__(self, settings: DeliverySettings) -> None:
        self._policy = settings.delivery_policy()
        self._order = settings.delivery_ways()
        self._sealing = settings.sealing
        # A signature is as long by whatever key.
        self._key = new_key()

    def line(self, notice: Notice) -> bytes:
        """As it is encoded, and what `would` become of its copy to each end."""
        would = {each.to.value: self.would(address, each) for address, each in copies(notice)}
        return json.dumps({**json.loads(encode(notice)), "would": would}, separators=(",", ":")).encode()

    def would(self, address: Address, notice: Notice) -> str:
        """`send`, or `withheld: REASON`."""
        ways = ways_for(notice, self._order)
        outcome = withheld(notice, address, 0, self._policy, None, ways)
        if outcome is None:
            size = len(sign(notice, self._key))
            cost = costs(ways, address, size, self._sealing, lambda way: asks_key(way, self._sealing))
            step = next_step(notice, ways, (), cost)
            if isinstance(step, Try):
                return "send"
            outcome = step
        return f"{outcome.state}: {outcome.reason}"
