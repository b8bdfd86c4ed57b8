"""A collector: sockets and a thread that collects, put together from settings; and the event loop's side of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Protocol

from jfe_cni.errors import JfeError, RequestError
from jfe_cni.overflowd.collector.collect import Collecting, Stop
from jfe_cni.overflowd.collector.counts import Counts
from jfe_cni.overflowd.collector.exporters import Exporters
from jfe_cni.overflowd.collector.listening import check_apart, listen_address
from jfe_cni.overflowd.collector.settings import ANY, CollectorSettings
from jfe_cni.overflowd.collector.udp import UdpSocket
from jfe_cni.overflowd.decoders import Decoder, Limits
from jfe_cni.overflowd.dropped import Drops
from jfe_cni.overflowd.notices.notice import Notice, Reporter
from jfe_cni.overflowd.selection.duplicates import Duplicates
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.interfaces import Interfaces, interface_of
from jfe_cni.overflowd.selection.odds import DEFAULT, Draw
from jfe_cni.overflowd.selection.prefixes import Prefixes
from jfe_cni.overflowd.selection.routes import Routes, read_routes
from jfe_cni.overflowd.selection.selector import Selector
from jfe_cni.overflowd.selection.suspicion import ODDS, Site
from jfe_cni.overflowd.tunnels import Tunnels
from jfe_cni.structured_log import fields

# Seconds between tries to put what the outbox refuses for now: what comes waits in the sockets meanwhile.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
# Of the time that there is to stop, what reading the sockets empty may take; the rest is for the outbox.
_DRAINING = 0.5

Network = IPv4Network | IPv6Network


class CutShort(Exception):
    """An outbox that was cancelled had taken all but `rest`."""

    def __init__(self, rest: Sequence[Notice]) -> None:
        super().__init__(rest)
        self.rest = rest


class Outbox(Protocol):
    async def put(self, notices: Sequence[Notice]) -> None:
        """Durable when it returns; the same again is the same. Raises JfeError: not now; CutShort, where it knows what
        it took of them until it was cancelled."""


class Collector:
    """Made by `opened`. `counts`: to be registered."""

    def __init__(self, settings: CollectorSettings, sockets: Sequence[UdpSocket], outbox: Outbox) -> None:
        drops = Drops()
        decoder = Decoder(
            Limits(settings.most_domains, settings.most_templates, settings.most_fields, settings.most_waiting),
            Tunnels(networks(settings.tunnels, "--tunnels")),
        )
        allowed = None if not settings.exporters or ANY in settings.exporters else settings.exporters
        selector = selector_of(settings)
        self.counts = Counts(sockets, (drops, decoder.drops, selector.drops))
        self.refused: JfeError | None = None
        """Why the outbox takes nothing; None, it does."""
        self._outbox = outbox
        self._stop_timeout = settings.stop_timeout
        self._log = logging.getLogger(__name__)
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        # From the stop on: for all that is put still.
        self._put_by: float | None = None
        self._putting: asyncio.Timeout | None = None
        self._collecting = Collecting(
            sockets,
            Exporters(None if allowed is None else networks(allowed, "--exporters"), drops),
            decoder,
            selector,
            self.counts,
            self._put,
            settings.stop_timeout * _DRAINING,
        )
        self.ports = [each.port for each in sockets]
        self.room = min(each.room for each in sockets)

    async def run(self, stop: asyncio.Event) -> None:
        """Collects until `stop`; what waits in the sockets then is taken still. Ends early where it is cancelled."""
        with contextlib.closing(Stop()) as wake:
            thread = asyncio.create_task(asyncio.to_thread(self._collecting.run, wake))
            waiting = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait((thread, waiting), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                self._stop_putting()
                wake.set()
                await thread

    def _put(self, notices: Sequence[Notice]) -> None:
        """From the collecting thread."""
        asyncio.run_coroutine_threadsafe(self._put_until_taken(notices), self._loop).result()

    async def _put_until_taken(self, notices: Sequence[Notice]) -> None:
        pause = _FIRST_PAUSE
        try:
            async with asyncio.timeout_at(self._put_by) as self._putting:
                while not await self._is_put(notices):
                    if self._stopping.is_set():
                        await asyncio.sleep(_FIRST_PAUSE)
                    else:
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._stopping.wait(), pause)
                        pause = min(2 * pause, _LONGEST_PAUSE)
        except TimeoutError:
            self._give_up(notices)
        except CutShort as cut_short:
            self._give_up(cut_short.rest)
        finally:
            self._putting = None

    async def _is_put(self, notices: Sequence[Notice]) -> bool:
        try:
            await self._outbox.put(notices)
        except JfeError as error:
            self.counts.put_failures += 1
            if self.refused is None:
                self._log.error("outbox refuses", extra=fields(reason=error.message, waiting=len(notices)))
            self.refused = error
            return False
        self.refused = None
        return True

    def _stop_putting(self) -> None:
        """One deadline for all that is put still."""
        self._put_by = self._loop.time() + self._stop_timeout
        self._stopping.set()
        if self._putting is not None:
            self._putting.reschedule(self._put_by)

    def _give_up(self, notices: Sequence[Notice]) -> None:
        """Accounts for each; the outbox may have it nevertheless, where the database took it and nobody heard of it."""
        self.counts.lost += len(notices)
        for notice in notices:
            flow = notice.flow
            self._log.error("notice lost", extra=fields(nonce=notice.nonce, ends=[flow.source, flow.destination]))


@contextlib.contextmanager
def opened(settings: CollectorSettings, outbox: Outbox) -> Iterator[Collector]:
    """Within an event loop. Raises RequestError: unfit settings; HostError: a port that is taken."""
    texts = (*settings.netflow, *settings.ipfix, *settings.sflow)
    addresses = [listen_address(each) for each in texts]
    if not settings.share_ports:
        check_apart(texts)
    if not addresses:
        raise RequestError("there is nothing to listen on", "name --netflow :2055, --ipfix :4739 or --sflow :6343")
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(contextlib.closing(UdpSocket(port, host, shared=settings.share_ports)))
            for host, port in addresses
        ]
        yield Collector(settings, sockets, outbox)


def selector_of(settings: CollectorSettings) -> Selector:
    """Raises RequestError."""
    seed = settings.seed or secrets.randbits(64)
    site = Site(
        own=Prefixes(networks(settings.inside, "--inside")),
        external=Interfaces(interface_of(each) for each in settings.external),
        transit=settings.transit,
        routes=Routes() if settings.routes is None else read_routes(settings.routes),
        reported=Prefixes(networks(settings.reported, "--reported")),
        many=settings.fan_in,
        odds={each: usual / DEFAULT * settings.odds for each, usual in ODDS.items()},
    )
    everywhere = settings.count_at == "everywhere"
    duplicates = Duplicates(seed, int(settings.duplicate_window * 1_000_000)) if everywhere else None
    return Selector(site, reporter_of(settings), Draw(settings.seed or None), FanIn(seed), duplicates)


def reporter_of(settings: CollectorSettings) -> Reporter:
    return Reporter(settings.contact, settings.organisation, settings.autonomous_system, settings.keys_url)


def networks(texts: Sequence[str], flag: str) -> tuple[Network, ...]:
    """Raises RequestError."""
    try:
        return tuple(ip_network(each) for each in texts)
    except ValueError as error:
        raise RequestError(f"{flag}: {error}", "write PREFIX/LENGTH, or an address") from error
