"""`jfe cni uninstall`: out of the chain first, and then a program that only answers takes the plugin's place."""

from __future__ import annotations

from pathlib import Path

import click

from jfe_cni.agent import binaries
from jfe_cni.cli.options import bin_dir_option, config_dir_option, json_option
from jfe_cni.cli.show import print_json
from jfe_cni.cni import placement, uninstaller
from jfe_cni.cni.folder_lock import FolderLock
from jfe_cni.cni.references import DEFAULT_CACHE_DIR

RETIRED = "jfe-cni-retired"


@click.command()
@bin_dir_option
@config_dir_option
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_CACHE_DIR,
    show_default=True,
    help="Where libcni keeps what it added: another than /var/lib/cni only where the runtime says so.",
)
@click.option("--purge", is_flag=True, help="Remove the program, too, once nothing names it.")
@click.option(
    "--retired", type=click.Path(path_type=Path, dir_okay=False), help=f"Another {RETIRED} than the installed one."
)
@json_option
def uninstall(
    *, bin_dir: tuple[Path, ...], config_dir: Path, cache_dir: Path, purge: bool, retired: Path | None, as_json: bool
) -> None:
    """Leave every chain, and leave a program that answers.

    The runtime goes on to ask for the release of pods that were added before: what stays under the plugin's name
    answers DEL, CHECK and VERSION. Stop a `jfe cni install --watch` first.
    """
    config_dir = config_dir.absolute()
    bin_dirs = tuple(folder.absolute() for folder in bin_dir)
    with FolderLock(config_dir):
        placement.sweep(config_dir, *bin_dirs)
        departure = uninstaller.uninstall(
            config_dir=config_dir, bin_dirs=bin_dirs, cache_dir=cache_dir, retired=binaries.find(RETIRED, retired)
        )
        removed = uninstaller.purge(config_dir=config_dir, bin_dirs=bin_dirs, cache_dir=cache_dir) if purge else ()
    if as_json:
        print_json(
            {
                "left": [str(path) for path in departure.left],
                "retired": [str(path) for path in departure.retired if path not in removed],
                "removed": [str(path) for path in removed],
            }
        )
        return
    if not (departure.left or departure.retired or removed):
        click.echo("nothing is installed that had to be changed")
    for path in departure.left:
        click.echo(f"{path} names the plugin no longer")
    for path in removed:
        click.echo(f"{path} is removed")
    for path in departure.retired:
        if path not in removed:
            click.echo(f"{path} only answers from now on")
