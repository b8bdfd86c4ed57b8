"""`overflowd run`: collects, chooses, signs, sends; or, without --send, says what it would send."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import click
from prometheus_client import CollectorRegistry, generate_latest

from jfe_cni.overflowd.cli.printed import Printed
from jfe_cni.overflowd.cli.published import Published
from jfe_cni.overflowd.cli.wrong_usage import unfit_settings
from jfe_cni.overflowd.collector import health
from jfe_cni.overflowd.collector.delivering import Delivering, delivering
from jfe_cni.overflowd.collector.listening import listen_address
from jfe_cni.overflowd.collector.service import Collector, opened
from jfe_cni.overflowd.delivery.foreseen import Foreseen
from jfe_cni.overflowd.settings import SETTINGS, Settings
from jfe_cni.settings_flags import options_of, settings_given
from jfe_cni.structured_log import configure, fields

LOGGER = "jfe_cni.overflowd"


@click.command()
@options_of(SETTINGS)
def run(**flags: Any) -> None:
    """Collect NetFlow, IPFIX and sFlow, and tell both ends of about one packet in a million, until SIGTERM.

    Without --send nothing is sent: each notice is printed, a line of JSON, unsigned, with what would become of its copy
    to each end, as far as the settings tell. With it, notices are kept in the state until they are sent or accounted
    for, over restarts. SIGHUP takes a rotated key into use.
    """
    with unfit_settings():
        asyncio.run(_run(settings_given(SETTINGS, flags)))


async def _run(settings: Settings) -> None:
    log = configure(LOGGER, settings.log_format)
    loop, stop, rotated = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    # Before anything is opened: what opens waits for others, and SIGHUP would end it (signal(7)).
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, rotated)):
        loop.add_signal_handler(number, event.set)
    async with _outbox(settings, stop, rotated) as outbox:
        with opened(settings, outbox) as collector:
            async with _health(settings, outbox, collector, stop) as port:
                about = {"ports": collector.ports, "room": collector.room, "listen": port, "send": settings.send}
                log.info("collecting", extra=fields(**about))
                await collector.run(stop)
    counts = collector.counts
    about = {"datagrams": counts.datagrams.total(), "notices": counts.notices.total(), "lost": counts.lost}
    log.info("stopped", extra=fields(**about))


@contextlib.asynccontextmanager
async def _outbox(
    settings: Settings, stop: asyncio.Event, rotated: asyncio.Event
) -> AsyncIterator[Delivering | Printed]:
    """Where delivery ends by itself, all ends."""
    if not settings.send:
        # -1, none, where whoever started this has closed it: then the first notice is refused.
        yield Printed(-1 if sys.stdout is None else sys.stdout.fileno(), Foreseen(settings).line)
        return
    async with delivering(settings, settings.key_file, stop, rotated) as made:
        yield made


@contextlib.asynccontextmanager
async def _health(
    settings: Settings, outbox: Delivering | Printed, collector: Collector, stop: asyncio.Event
) -> AsyncIterator[int | None]:
    """Yields the port, where there is one."""
    if not settings.listen:
        yield None
        return

    def unready() -> str | None:
        if stop.is_set():
            return "stopping"
        return None if collector.refused is None else collector.refused.message

    registry = CollectorRegistry()
    registry.register(collector.counts)

    def metrics() -> bytes:
        return generate_latest(registry) + (generate_latest(outbox.registry) if isinstance(outbox, Delivering) else b"")

    app = health.application(metrics, unready, Published(settings.key_file, needed=settings.send))
    async with health.serving(app, listen_address(settings.listen)) as port:
        yield port
