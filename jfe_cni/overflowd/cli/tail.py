"""`overflowd tail`: what was taken in, a line of JSON each."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import click
from click.core import ParameterSource

from jfe_cni.errors import AgentError
from jfe_cni.overflowd.receiver.settings import SETTINGS, ReceiverSettings

# Seconds between two looks into a store, and before a receiver that has gone is asked again.
_PAUSE = 1.0
# Of HTTP. Those that pass are Request Timeout and Too Many Requests (RFC 9110, section 15.5.9; RFC 6585, section 4).
_OK, _MISDIRECTED, _PASSING = 200, 421, frozenset({408, 429})
_STORE = ReceiverSettings.store


@click.command()
@click.option("--url", help="The receiver's page, as `overflowd receive` prints it.")
@click.option(
    "--store",
    envvar=SETTINGS.environment_name("store"),
    show_envvar=True,
    help=f"Its store instead. [default: {_STORE}]",
)
@click.option("--lines", type=click.IntRange(0, 1_000), default=10, show_default=True, help="Of those that are there.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Wait for more.")
@click.pass_context
def tail(context: click.Context, url: str | None, store: str | None, lines: int, follow: bool) -> None:
    """Print the notices that a receiver took, and those that it takes."""
    # The environment may be that of the receiver itself.
    if url and store and context.get_parameter_source("store") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--url and --store are two ways to the same")
    asyncio.run(
        _tail(_of_receiver(url.rstrip("/"), lines, follow) if url else _of_store(store or _STORE, lines, follow))
    )


async def _tail(notices: AsyncIterator[dict[str, Any]]) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async for each in notices:
            print(json.dumps(each), flush=True)
    except asyncio.CancelledError:
        # SIGTERM is how it is ended; Ctrl-C goes on to be reported.
        if task.uncancel() > 0:
            raise


async def _of_store(url: str, lines: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
    """Changes nothing of it. Raises RequestError, StoreError."""
    from jfe_cni.overflowd.receiver.reading import open_reader
    from jfe_cni.overflowd.receiver.views import notice_view

    store = await open_reader(url)
    try:
        newest = list(reversed(await store.newest(max(lines, 1))))
        after = newest[-1].number if newest else 0
        for kept in newest[-lines:] if lines else ():
            yield notice_view(kept)
        while follow:
            for kept in await store.since(after):
                yield notice_view(kept)
                after = kept.number
            await asyncio.sleep(_PAUSE)
    finally:
        await store.close()


async def _of_receiver(url: str, lines: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
    """Raises AgentError."""
    import httpx

    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=httpx.Timeout(10.0, read=60.0)) as client:
        try:
            answer = await client.get("/api/notices", params={"most": max(lines, 1)})
            _check(url, answer.status_code)
            answer.raise_for_status()
            newest = list(reversed(answer.json()["notices"]))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
            raise AgentError(f"no receiver answers at {url}", "see where `overflowd receive` shows its page") from error
        after = newest[-1]["number"] if newest else 0
        for each in newest[-lines:] if lines else ():
            yield each
        said = ""
        while follow:
            why = "has ended its events"
            try:
                async with client.stream("GET", "/events", params={"after": after}) as answer:
                    _check(url, answer.status_code)
                    if answer.status_code == _OK:
                        async for each in _events(answer):
                            yield each
                            after, said = each["number"], ""
                    else:
                        why = f"answers {answer.status_code}"
            except httpx.HTTPError as error:
                why = f"has gone ({type(error).__name__})"
            # It is being started anew, perhaps. Once is enough, until it is there again.
            if said != why:
                click.echo(f"overflowd: the receiver at {url} {why}; it is asked again", err=True)
                said = why
            await asyncio.sleep(_PAUSE)


def _check(url: str, status: int) -> None:
    """Raises AgentError: asked again, it would say the same."""
    if 400 <= status < 500 and status not in _PASSING:
        remedy = "give it by --page-names to `overflowd receive`" if status == _MISDIRECTED else "see its release"
        raise AgentError(f"the receiver at {url} answers {status}", remedy)


async def _events(answer: Any) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))
