"""A collector: a UDP socket of this process in a place, and overflowd's decoder behind it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import numpy as np

from jfe_cni.overflowd.datagrams import Datagram, address_of
from jfe_cni.overflowd.decoders import Batch, Decoder
from tests.stage import Place

PORT = 4739
# linux/socket.h, socket(7): beyond net.core.rmem_max, for root.
SO_RCVBUFFORCE = 33
# (enterprise, number): flowDirection of IANA's registry.
DIRECTION = (0, 61)


@dataclass(frozen=True)
class Told:
    """One record. `exporter`: whose agent sent it. `direction`: flowDirection; where the record has none, None."""

    exporter: str
    source: str
    source_port: int
    destination: str
    destination_port: int
    protocol: int
    packets: int
    octets: int
    first: int
    last: int
    direction: int | None


class Collector:
    """`with Collector(place) as collector:`; what has come is in `told()`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._datagrams: list[Datagram] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[Collector]:
        with self._place.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            sink.bind((self._place.ipv4, PORT))
            sink.settimeout(0.1)
            ending = threading.Event()
            reader = threading.Thread(target=self._read, args=(sink, ending))
            reader.start()
            try:
                yield self
            finally:
                ending.set()
                reader.join()

    def _read(self, sink: socket.socket, ending: threading.Event) -> None:
        while not ending.is_set():
            with contextlib.suppress(TimeoutError):
                payload, (exporter, _) = sink.recvfrom(65_536)
                self._datagrams.append(Datagram(ip_address(exporter), PORT, 0, payload))

    def told(self) -> list[Told]:
        """Every record so far. AssertionError for what the decoder could not read."""
        decoder = Decoder()
        batches = decoder.decode(list(self._datagrams))
        assert not decoder.drops, decoder.drops
        return [_told(batch, row) for batch in batches for row in batch.flows]


def _told(batch: Batch, row: np.void) -> Told:
    directed = batch.columns is not None and DIRECTION in batch.columns.template.index
    return Told(
        exporter=str(batch.exporter),
        source=str(address_of(row["source"].tobytes())),
        source_port=int(row["source_port"]),
        destination=str(address_of(row["destination"].tobytes())),
        destination_port=int(row["destination_port"]),
        protocol=int(row["protocol"]),
        packets=int(row["packets"]),
        octets=int(row["octets"]),
        first=int(row["first"]),
        last=int(row["last"]),
        direction=int(row["direction"]) if directed else None,
    )
