"""From sockets to the outbox: read, decode, choose, put; then read again. One thread of its own, and no queue.

What comes meanwhile waits in the kernel, whose drops are counted; so nothing is read that is not decoded at once, and
what was chosen of it is durable before more is read. Who kills the process at any moment loses what was in the sockets,
and what was read last: about `MOST` datagrams, a few hundredths of a second of them. Templates are not kept over
restarts: exporters send them again, within minutes, and data wait for them so long.
"""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jfe_cni.overflowd.collector.counts import Counts
from jfe_cni.overflowd.collector.exporters import Exporters
from jfe_cni.overflowd.collector.udp import UdpSocket
from jfe_cni.overflowd.datagrams import Address, Datagram
from jfe_cni.overflowd.decoders import Decoder
from jfe_cni.overflowd.notices.notice import Notice
from jfe_cni.overflowd.selection.duplicates import Observer
from jfe_cni.overflowd.selection.odds import packets_behind
from jfe_cni.overflowd.selection.selector import Selector

MOST = 4_096
"""Datagrams that are read before they are decoded: about 6 MB, and what a batch costs is spread over all of them."""

SHARE = 2 * MOST
"""Notices of one exporter's flows, of all that is read at one time: many times what is sent in that time. Whoever
exports flows of very many packets, or forges them, would take memory, time and the outbox from the others."""

# Of few that come, more are gathered for so long (seconds): a batch costs as much as a hundred datagrams in it. A
# hundred times shorter than it takes to fill a buffer at a gigabit.
FEW, PAUSE = 64, 0.005


class Stop:
    """Wakes the collecting thread, from any other, for the last time."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.is_set = False

    def fileno(self) -> int:
        return self._read

    def set(self) -> None:
        self.is_set = True
        os.write(self._write, b"\0")

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


@dataclass
class Collecting:
    """`put`: returns when the notices are durable; blocks until then. `drain`: seconds that what waits in the sockets
    is read for, after `stop`."""

    sockets: Sequence[UdpSocket]
    exporters: Exporters
    decoder: Decoder
    selector: Selector
    counts: Counts
    put: Callable[[Sequence[Notice]], None]
    drain: float = 5.0

    def run(self, stop: Stop) -> None:
        """Until `stop`, and until the sockets are empty then. Raises what `put` raises."""
        poll = select.poll()
        for number in (stop.fileno(), *(each.fileno() for each in self.sockets)):
            poll.register(number, select.POLLIN)
        while not stop.is_set:
            poll.poll()
            if self.once() < FEW and not stop.is_set:
                time.sleep(PAUSE)
        until = time.monotonic() + self.drain
        while self.once() and time.monotonic() < until:
            pass

    def once(self) -> int:
        """Takes what waits, up to `MOST`. How many datagrams that were."""
        datagrams = self._read()
        heard = self.exporters.heard(datagrams)
        if not heard:
            return len(datagrams)
        # One moment for all: they came within a fraction of a second.
        at = heard[-1].at
        notices: list[Notice] = []
        made = Counter[Address]()
        for batch in self.decoder.batches(heard):
            self.counts.flows[batch.format] += len(batch.flows)
            self.counts.unsampled[batch.format] += int(np.count_nonzero(batch.flows["sampling"] == 0))
            self.counts.packets += float(packets_behind(batch.flows["packets"], batch.flows["sampling"]).sum())
            observer = Observer(batch.agent, batch.domain, batch.exporter)
            chosen = self.selector.notices(batch.flows, at, observer, SHARE - made[batch.exporter])
            made[batch.exporter] += len(chosen)
            notices += chosen
            if len(notices) >= SHARE:
                self._put(notices)
                notices = []
        if notices:
            self._put(notices)
        return len(datagrams)

    def _put(self, notices: Sequence[Notice]) -> None:
        self.put(notices)
        self.counts.notices.update(notice.classified for notice in notices)

    def _read(self) -> list[Datagram]:
        """Of each socket in turns, so that none waits for another's flood to end."""
        found: list[Datagram] = []
        waiting = list(self.sockets)
        while waiting and len(found) < MOST:
            for each in tuple(waiting):
                together = each.receive()
                if not together:
                    waiting.remove(each)
                    continue
                found += together
                self.counts.datagrams[each.port] += len(together)
                self.counts.octets[each.port] += sum(len(datagram.payload) for datagram in together)
        return found
