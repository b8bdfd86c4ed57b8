"""`ratelock serve`: the service, and one to try it with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.cli.target import DevService, dev_file
from jfe_cni.ratelock.settings import SETTINGS, Settings
from jfe_cni.ratelock.store import Operation
from jfe_cni.settings_flags import options_of, settings_given

if TYPE_CHECKING:
    from jfe_cni.ratelock.service import Ratelock

# Longer than anybody tries it out.
DEV_TOKEN_SECONDS = 366 * 86_400.0


@click.command()
@click.option(
    "--dev", is_flag=True, help="Try it: an embedded store, plain HTTP on this host, tokens for the other verbs."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --dev: keep store and key here, not for now only.",
)
@options_of(SETTINGS)
def serve(dev: bool, folder: Path | None, **given_flags: Any) -> None:
    """Serve until SIGTERM; requests that run then are ended first."""
    if not dev:
        if folder is not None:
            raise click.UsageError("--folder goes with --dev; elsewhere, name --store and --key")
        asyncio.run(_serve(settings_given(SETTINGS, given_flags)))
        return
    with _folder(folder) as kept:
        # What a person has set otherwise, the environment included, stays.
        flags = {"store": f"sqlite:///{kept / 'store.db'}", "key": f"file:{kept / 'key'}", "log_format": "text"}
        named = {name: value for name, value in given_flags.items() if value is not None}
        asyncio.run(_serve_dev(settings_given(SETTINGS, {"config": None, **flags, **named}), kept))


async def _serve(settings: Settings) -> None:
    from jfe_cni import structured_log
    from jfe_cni.ratelock import server
    from jfe_cni.ratelock.assembly import opened

    log = structured_log.configure("ratelock", settings.log_format)

    def started(url: str) -> None:
        log.info("serving", extra=structured_log.fields(url=url))

    async with opened(settings) as assembled:
        await server.serve(assembled.service, settings, assembled.ready, started)
    log.info("stopped")


async def _serve_dev(settings: Settings, folder: Path) -> None:
    from jfe_cni import structured_log
    from jfe_cni.ratelock import server
    from jfe_cni.ratelock.assembly import opened

    structured_log.configure("ratelock", settings.log_format)
    for_verbs = dev_file(os.environ)
    async with opened(settings) as assembled:
        owner, caller = await _dev_tokens(assembled.service, folder)

        def started(url: str) -> None:
            DevService(url, owner, caller).write(folder / "dev.json")
            DevService(url, owner, caller).write(for_verbs)
            click.echo(f"serving   {url}\nowner     {owner}\ncaller    {caller}\nkept in   {for_verbs}")
            click.echo("try it    ratelock add alice; ratelock check alice")

        try:
            await server.serve(assembled.service, settings, assembled.ready, started)
        finally:
            _forget(for_verbs, owner)


async def _dev_tokens(service: Ratelock, folder: Path) -> tuple[str, str]:
    """The owner's and a caller's: those of the last time where the folder has them."""
    kept = DevService.read(folder / "dev.json")
    owner = await service.bootstrap(DEV_TOKEN_SECONDS, again=kept is None)
    if owner is None and kept is not None:
        return kept.owner, kept.caller
    granted = None if owner is None else await service.authenticate_token(owner)
    if owner is None or granted is None:
        raise RequestError(f"the store in {folder} is not of `serve --dev`", remedy="name another folder")
    operations: frozenset[Operation] = frozenset(get_args(Operation))
    return owner, await service.make_token(granted, "dev", "caller", operations, ("*",), DEV_TOKEN_SECONDS)


@contextlib.contextmanager
def _folder(named: Path | None) -> Iterator[Path]:
    if named is not None:
        named.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield named.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="ratelock-") as made:
        yield Path(made)


def _forget(path: Path, owner: str) -> None:
    """Unless another `serve --dev` has written its own meanwhile."""
    kept = DevService.read(path)
    if kept is not None and kept.owner == owner:
        path.unlink(missing_ok=True)
