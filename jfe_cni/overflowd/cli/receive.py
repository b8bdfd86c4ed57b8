"""`overflowd receive`: takes notices in, and shows them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from jfe_cni.overflowd.receiver.settings import SETTINGS, ReceiverSettings
from jfe_cni.settings_list import flag_of, shown_default


def _settings_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    for each in reversed(SETTINGS.fields):
        unit = f", {each.metadata['unit']}" if each.metadata["unit"] else ""
        default = shown_default(each).strip("`").replace("–", "none")
        verb = click.option(
            flag_of(each.name),
            each.name,
            multiple=SETTINGS.is_repeated(each.name),
            help=f"{each.metadata['what']}. [{SETTINGS.environment_name(each.name)}; default: {default}{unit}]",
        )(verb)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar="OVERFLOWD_RECEIVE_CONFIG",
        show_envvar=True,
        help="TOML file of these.",
    )(verb)


@click.command()
@_settings_options
def receive(config: Path | None, **flags: Any) -> None:
    """Take notices in until SIGTERM: by UDP, HTTP and HTTPS. A web page shows who floods whom."""
    settings = SETTINGS.read(flags, os.environ, config)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_receive(settings))
    except ModuleNotFoundError as error:
        if error.name != "joserfc":
            raise
        raise click.ClickException(f"overflowd needs {error.name}: pip install 'jfe-cni[overflowd]'") from error


async def _receive(settings: ReceiverSettings) -> None:
    from jfe_cni.overflowd.receiver.service import receiving

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with receiving(settings) as receiver:
        for line in receiver.lines():
            click.echo(line)
        await stop.wait()
