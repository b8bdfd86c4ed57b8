"""`overflowd read`: what is in a capture."""

from __future__ import annotations

import itertools
import math
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from jfe_cni.overflowd import captures
from jfe_cni.overflowd.datagrams import Datagram, Microseconds
from jfe_cni.overflowd.decoders import Batch, Decoder
from jfe_cni.overflowd.dropped import Drops
from jfe_cni.overflowd.notices.notice import Reporter, encode
from jfe_cni.overflowd.records import lines
from jfe_cni.overflowd.selection.duplicates import Duplicates, Observer
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.odds import DEFAULT, LARGEST, Draw
from jfe_cni.overflowd.selection.selector import Selector
from jfe_cni.overflowd.selection.suspicion import ODDS, Site

# Datagrams that are decoded at one stroke.
_TOGETHER = 1_024


class _Odds(click.FloatRange):
    """Which NaN is within, as it is neither below nor above."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


@click.command()
@click.argument("capture", type=click.Path(exists=True, dir_okay=False))
@click.option("--flows", is_flag=True, help="Every record instead, a line of JSON each.")
@click.option(
    "--odds",
    type=_Odds(0, LARGEST, min_open=True),
    default=DEFAULT,
    show_default=True,
    help="Of each packet.",
)
@click.option("--seed", type=click.IntRange(0), help="Draw the same each time.")
def read(capture: str, flows: bool, odds: float, seed: int | None) -> None:
    """Read NetFlow v5 and v9, IPFIX and sFlow v5 from a capture (pcap, pcapng, gzip or not): which notices would they
    make? A line of JSON for each, unsigned, and nothing is sent.
    """
    if flows:
        print_flows(capture)
    else:
        print_notices(capture, odds, seed)


def print_flows(capture: str) -> None:
    """What was not decoded is said on standard error. Raises RequestError."""
    for _, batch in _batches(capture):
        for line in lines(batch):
            print(line)


def print_notices(capture: str, odds: float, seed: int | None) -> None:
    """The notices of a capture, as if its flows had come when they were captured. Raises RequestError."""
    site = Site(odds={each: usual / DEFAULT * odds for each, usual in ODDS.items()})
    salt = secrets.randbits(64) if seed is None else seed
    selector = Selector(site, Reporter("", "", 0, ""), Draw(seed), FanIn(salt), Duplicates(salt))
    for at, batch in _batches(capture):
        for notice in selector.notices(batch.flows, at, Observer(batch.agent, batch.domain, batch.exporter)):
            print(encode(notice).decode())


def _batches(capture: str) -> Iterator[tuple[Microseconds, Batch]]:
    """With the time of capture."""
    drops, decoder = Drops(), Decoder()
    for datagrams in _batched(captures.read(Path(capture), drops)):
        for batch in decoder.batches(datagrams):
            yield datagrams[-1].at, batch
    for reason, count in sorted((drops + decoder.drops).items()):
        print(f"overflowd: {count} not decoded: {reason}", file=sys.stderr)


def _batched(datagrams: Iterator[Datagram]) -> Iterator[list[Datagram]]:
    while together := list(itertools.islice(datagrams, _TOGETHER)):
        yield together
