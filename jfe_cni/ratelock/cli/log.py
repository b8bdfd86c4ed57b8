"""`ratelock log`: read, follow, export and verify."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jfe_cni.errors import RequestError
from jfe_cni.ratelock.cli.target import connected, target_options
from jfe_cni.ratelock.store import LogEntry

if TYPE_CHECKING:
    from jfe_cni.ratelock.client import Client
    from jfe_cni.ratelock.log import Anchor

# How long `tail --follow` waits where there is nothing new.
FOLLOW_SECONDS = 1.0
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def log() -> None:
    """What was asked and what came of it: hash-chained, so that it can't be rewritten unseen."""


@log.command()
@click.option("--count", "-n", type=click.IntRange(1), default=20, show_default=True, help="The last so many entries.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes.")
@target_options
def tail(count: int, follow: bool, **target: Any) -> None:
    """Print the last entries."""
    with connected("owner", **target) as service:
        last: list[Mapping[str, Any]] = []
        for entry in entries(service, 1):
            last = [*last[-(count - 1) :], entry] if count > 1 else [entry]
        for entry in last:
            click.echo(_line(entry))
        following = last[-1]["number"] + 1 if last else 1
        while follow:
            for entry in entries(service, following):
                click.echo(_line(entry))
                following = entry["number"] + 1
            time.sleep(FOLLOW_SECONDS)


@log.command()
@click.option("--first", type=click.IntRange(1), default=1, show_default=True, help="The number of the first entry.")
@target_options
def export(first: int, **target: Any) -> None:
    """Print entries as JSON, one a line: what `verify --file` reads."""
    with connected("owner", **target) as service:
        for entry in entries(service, first):
            click.echo(json.dumps(entry))


@log.command()
@click.option("--file", type=_FILE, help="An export, not the service's.")
@click.option(
    "--checkpoints",
    type=_FILE,
    help="Signed checkpoints, kept elsewhere.",
)
@click.option(
    "--public-key",
    type=_FILE,
    help="PEM of the key that signed them.",
)
@target_options
def verify(file: Path | None, checkpoints: Path | None, public_key: Path | None, **target: Any) -> int:
    """Verify the chain here, entry by entry, and against checkpoints. Exit status 1 where it does not hold."""
    anchors = _anchors(checkpoints, public_key)
    if file is not None:
        with file.open() as lines:
            return _verified((json.loads(line) for line in lines), anchors)
    with connected("owner", **target) as service:
        return _verified(entries(service, 1), anchors)


@log.command()
@target_options
def checkpoint(**target: Any) -> None:
    """Verify the log there, and print a signed checkpoint of its last entry: one line, to be kept elsewhere.

    The public key goes to standard error.
    """
    with connected("owner", **target) as service:
        made = service.checkpoint()
    click.echo(made["checkpoint"])
    click.echo(made["public_key"], err=True, nl=False)


def entries(service: Client, first: int) -> Iterator[Mapping[str, Any]]:
    following: int | None = first
    while following is not None:
        answer = service.log(following)
        yield from answer["entries"]
        following = answer["next"]


def _verified(found: Iterable[Mapping[str, Any]], anchors: list[Anchor]) -> int:
    from jfe_cni.ratelock.log import verify

    async def each() -> AsyncIterator[LogEntry]:
        for entry in found:
            yield _entry(entry)

    try:
        verdict = asyncio.run(verify(each(), anchors))
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"the entries can't be read: {error}", remedy="give what `ratelock log export` printed"
        ) from error
    if verdict.broken is not None:
        click.echo(f"broken at {verdict.broken}; {verdict.entries} entries before hold")
        return 1
    click.echo(f"{verdict.entries} entries hold; the last is {verdict.head.hash.hex()}")
    return 0


def _anchors(checkpoints: Path | None, public_key: Path | None) -> list[Anchor]:
    """Raises RequestError: a checkpoint that the key did not sign, or one without the other."""
    if checkpoints is None and public_key is None:
        return []
    if checkpoints is None or public_key is None:
        raise click.UsageError("--checkpoints and --public-key go together")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from jfe_cni.ratelock.checkpoints import Checkpoint, verified

    try:
        key = load_pem_public_key(public_key.read_bytes())
    except ValueError as error:
        raise RequestError(f"{public_key} has no public key", remedy="give it as PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise RequestError(f"the key in {public_key} is not of Ed25519", remedy="give the one that signs checkpoints")
    return [verified(key, Checkpoint.parse(line)) for line in checkpoints.read_text().splitlines() if line]


def _entry(entry: Mapping[str, Any]) -> LogEntry:
    return LogEntry(
        entry["number"],
        entry["at"],
        entry["actor"],
        entry["event"],
        entry["subject"],
        entry["detail"],
        bytes.fromhex(entry["previous"]),
        bytes.fromhex(entry["hash"]),
    )


def _line(entry: Mapping[str, Any]) -> str:
    """For a terminal: what is no plain text is escaped, whoever wrote it."""
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry["at"] / 1e6))
    words = [str(entry["number"]), at, entry["actor"], entry["event"], entry["subject"], entry["detail"]]
    return "  ".join(word if word.isprintable() else json.dumps(word) for word in words)
