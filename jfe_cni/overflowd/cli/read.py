"""`overflowd read`: what is in a capture."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from jfe_cni.overflowd import captures
from jfe_cni.overflowd.datagrams import Datagram
from jfe_cni.overflowd.decoders import Decoder
from jfe_cni.overflowd.dropped import Drops
from jfe_cni.overflowd.records import lines

# Datagrams that are decoded at one stroke.
_TOGETHER = 1_024


def print_flows(capture: str) -> None:
    """What was not decoded is said on standard error. Raises RequestError."""
    drops = Drops()
    decoder = Decoder()
    for datagrams in _batched(captures.read(Path(capture), drops)):
        for batch in decoder.decode(datagrams):
            for line in lines(batch):
                print(line)
    for reason, count in sorted((drops + decoder.drops).items()):
        print(f"overflowd: {count} not decoded: {reason}", file=sys.stderr)


def _batched(datagrams: Iterator[Datagram]) -> Iterator[list[Datagram]]:
    while together := list(itertools.islice(datagrams, _TOGETHER)):
        yield together
