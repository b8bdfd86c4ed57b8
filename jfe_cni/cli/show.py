"""How answers reach a person: tables, JSON, and a sign of life where something takes long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

# What takes longer than this says so.
PATIENCE_SECONDS = 2.0


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, sort_keys=False))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table that never cuts a word: what a person copies from it must be whole."""
    built = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        built.add_column(column, overflow="fold")
    for row in rows:
        built.add_row(*row)
    return built


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    console().print(table(title, columns, rows))


def console(*, stderr: bool = False) -> Console:
    """Wide where the output is no terminal, so that a pipe gets one line a row."""
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=240)


def moment(seconds: float | None) -> str:
    """Seconds since the epoch as a person reads them: in UTC, and how far off."""
    if seconds is None:
        return "–"
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ} ({remaining(seconds - time.time())})"


def remaining(seconds: float) -> str:
    size = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if size >= length:
            text = f"{size / length:.0f} {unit}"
            break
    else:
        text = f"{size:.0f} s"
    return f"in {text}" if seconds >= 0 else f"{text} ago"


def amount(count: int) -> str:
    """Bytes, in the unit that leaves at most four digits."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:.1f} TB"


@contextlib.asynccontextmanager
async def patience(what: str) -> AsyncIterator[None]:
    """Shows a moving bar with `what` on standard error once the body has taken two seconds (a line, where that is no
    terminal)."""
    shown = console(stderr=True)

    async def wait_and_show() -> None:
        await asyncio.sleep(PATIENCE_SECONDS)
        if not shown.is_terminal:
            shown.print(f"{what} …")
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=shown, transient=True) as progress:
            progress.add_task(what, total=None)
            await asyncio.Event().wait()

    showing = asyncio.create_task(wait_and_show())
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
