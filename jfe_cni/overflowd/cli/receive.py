"""`overflowd receive`: takes notices in, and shows them."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from typing import Any

import click

from jfe_cni.overflowd.cli.wrong_usage import unfit_settings
from jfe_cni.overflowd.receiver.settings import SETTINGS, ReceiverSettings
from jfe_cni.settings_flags import options_of, settings_given

_FILES = 4_096


@click.command()
@options_of(SETTINGS)
def receive(**flags: Any) -> None:
    """Take notices in until SIGTERM: by UDP, HTTP and HTTPS. A web page shows who floods whom."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    _open_many()
    with unfit_settings():
        settings = settings_given(SETTINGS, flags)
    asyncio.run(_receive(settings))


def _open_many() -> None:
    """Three servers have 1,024 connections at most each, and the usual soft limit is 1,024 of all (systemd.exec(5))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _receive(settings: ReceiverSettings) -> None:
    from jfe_cni.overflowd.receiver.service import receiving

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with receiving(settings) as receiver:
        for line in receiver.lines():
            click.echo(line)
        await stop.wait()
