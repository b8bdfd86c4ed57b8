"""`ratelock reseal`: the step of a key-encryption key's rotation that touches the store."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from jfe_cni.ratelock.authorisation import Caller
from jfe_cni.ratelock.settings import SETTINGS, Settings
from jfe_cni.settings_flags import options_of, settings_given

# Whoever may run this has the key: no credential would bound it further.
_OWNER = Caller("host", "owner", None, ("*",))


@click.command()
@options_of(SETTINGS)
def reseal(**given_flags: Any) -> None:
    """Seal anew what a former key sealed, on the service's own host, with the service's settings; the service runs on.

    First every replica gets the new key as a former one, then every replica gets it as the key and the old one as the
    former; then this; then the old key can go. Ended anywhere, it goes on where it was.
    """
    click.echo(f"{asyncio.run(_reseal(settings_given(SETTINGS, given_flags)))} sealed anew")


async def _reseal(settings: Settings) -> int:
    from jfe_cni.ratelock.assembly import opened

    async with opened(settings) as assembled:
        return await assembled.service.reseal(_OWNER)
