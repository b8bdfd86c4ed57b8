"""`jfe cni install`: the plugin into the runtime's folders, and into the chain of the pods' network."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from jfe_cni.agent import binaries, log
from jfe_cni.cli.options import bin_dir_option, config_dir_option, json_option, socket_option
from jfe_cni.cli.show import patience, print_json
from jfe_cni.cni import placement
from jfe_cni.cni.folder_lock import FolderLock
from jfe_cni.cni.installer import DEFAULT_DEADLINE_SECONDS, DEFAULT_PROBE_SECONDS, Installer, Joined, Order
from jfe_cni.cni.watch import Watch
from jfe_cni.cni.way import Choice, Way
from jfe_cni.cni.witness import Witness

PLUGIN = "jfe-cni-plugin"
SAID = {
    Way.INLINE: "is joined by an entry in its list",
    Way.DROP_IN: "is joined by its drop-in folder",
    Way.BOTH: "is joined by both",
}


@click.command()
@bin_dir_option
@config_dir_option
@socket_option
@click.option(
    "--deadline",
    type=click.IntRange(1, 3600),
    default=DEFAULT_DEADLINE_SECONDS,
    show_default=True,
    help="Seconds that one call of the plugin may take.",
)
@click.option(
    "--chain",
    "choice",
    type=click.Choice(["auto", "inline", "drop-in"]),
    default="auto",
    show_default=True,
    help="By the network's drop-in folder, by an entry in its list, or by whichever the runtime honours.",
)
@click.option(
    "--probe-seconds",
    type=click.FloatRange(0, 3600),
    default=DEFAULT_PROBE_SECONDS,
    show_default=True,
    help="How long the runtime may take to call by the drop-in.",
)
@click.option("--watch", is_flag=True, help="Stay until SIGTERM, and mend what others change.")
@click.option(
    "--plugin", type=click.Path(path_type=Path, dir_okay=False), help=f"Another {PLUGIN} than the installed one."
)
@json_option
def install(
    *,
    bin_dir: tuple[Path, ...],
    config_dir: Path,
    socket: Path,
    deadline: int,
    choice: Choice,
    probe_seconds: float,
    watch: bool,
    plugin: Path | None,
    as_json: bool,
) -> None:
    """Join the chain of the pods' network, the first that is configured.

    Where none is configured yet, nothing is written that could be taken for one: it is an error, or with --watch joined
    as soon as it comes. With --watch, the log goes to standard error, with --json as JSON.
    """
    order = Order(
        plugin=binaries.find(PLUGIN, plugin),
        socket=socket.absolute(),
        bin_dirs=tuple(folder.absolute() for folder in bin_dir),
        config_dir=config_dir.absolute(),
        deadline_seconds=deadline,
        choice=choice,
    )
    installer = Installer(order, Witness(order.socket))
    if watch:
        asyncio.run(_watch(order, installer, as_json))
        return
    joined = asyncio.run(_install(order, installer, probe_seconds))
    if as_json:
        print_json(_as_json(joined))
    else:
        click.echo(f"the network {joined.network} {SAID[joined.way]} ({joined.file})")


async def _install(order: Order, installer: Installer, probe_seconds: float) -> Joined:
    with FolderLock(order.config_dir):
        placement.sweep(order.config_dir, *order.bin_dirs)
        async with patience("joining, and waiting for a call of the runtime"):
            return await installer.install(probe_seconds)


async def _watch(order: Order, installer: Installer, as_json: bool) -> None:
    logger = log.configure("json" if as_json else "text")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await Watch(order, installer, logger).run(stop)


def _as_json(joined: Joined) -> dict[str, object]:
    return {
        "network": joined.network,
        "file": str(joined.file),
        "chain": joined.way.value,
        "written": [str(path) for path in joined.written],
    }
