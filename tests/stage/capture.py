"""What an eavesdropper on the link reads: tcpdump on the bridge, and what is found in its file."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from jfe_cni.demo import capture as pcap
from tests.stage.deadline import eventually
from tests.stage.namespace import NetworkNamespace
from tests.stage.process import Process

# IEEE 802, "Local Experimental Ethertype 1": nobody else's on this link.
ETHERTYPE = 0x88B5
BROADCAST = b"\xff" * 6
SOURCE = b"\x02" + bytes(5)
# For each packet that is to be seen at once the kernel keeps room for the largest, 64 KiB, whatever its size. So many,
# 4,096, may wait for tcpdump while others have the processor.
_RING_KIB = 4096 * 64


class Capture:
    """`with Capture(…) as wire:` … and after the body all that went over the link in it is in the file.

    Frames of our own mark start and end: packets reach the file in their order, so that when a mark is seen, what went
    before it has been, too."""

    def __init__(self, link: NetworkNamespace, device: str, path: Path, filter: str = "tcp") -> None:  # noqa: A002
        self._link = link
        self._device = device
        self.path = path
        self._filter = filter
        self._process: Process | None = None

    def __enter__(self) -> Capture:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        command = [
            "tcpdump",
            "-i",
            self._device,
            "-s",
            "0",
            "-B",
            str(_RING_KIB),
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
        ]
        self._process = Process(
            self._link.command(*command, "-w", str(self.path), f"({self._filter}) or ether proto {ETHERTYPE:#x}"),
            self.path.with_suffix(".log"),
        )
        self._process.says("listening on")
        self._mark()

    def stop(self) -> None:
        """Does nothing where it was stopped before."""
        if self._process is None:
            return
        try:
            self._mark()
        finally:
            self._process.stop(signal.SIGINT)
            said, self._process = self._process.output(), None
        dropped = [line for line in said.splitlines() if "dropped by kernel" in line and not line.startswith("0 ")]
        assert not dropped, f"the capture is not whole: {dropped}"

    def contains(self, text: bytes) -> bool:
        """Whether `text` lies on the wire: in a packet, or across the packets of one direction of a connection."""
        assert text, "an empty text is in everything"
        whole = self.path.read_bytes()
        return text in whole or any(text in stream for stream in pcap.streams(whole).values())

    def streams(self, port: int | None = None) -> dict[pcap.Flow, bytes]:
        """The bytes of each direction of each connection that carried any; with `port`, of those to or from it."""
        return {
            flow: stream
            for flow, stream in pcap.streams(self.path.read_bytes()).items()
            if port is None or port in (flow.source_port, flow.destination_port)
        }

    def tls(self, port: int) -> bool:
        """Whether something went to or from `port`, and nothing but TLS records, application data both ways."""
        found = self.streams(port)
        kinds = {flow: {kind for kind, _ in pcap.tls_records(stream)} for flow, stream in found.items()}
        return (
            all({"handshake"} <= each for each in kinds.values())
            and any(flow.destination_port == port and "application data" in each for flow, each in kinds.items())
            and any(flow.source_port == port and "application data" in each for flow, each in kinds.items())
        )

    def tshark(self, display_filter: str, *fields: str, decode_as: Sequence[str] = ()) -> list[tuple[str, ...]]:
        """One row for each packet that matches; `decode_as`: as tshark's -d, `tcp.port==8080,tls`."""
        command = ["tshark", "-n", "-r", str(self.path), "-Y", display_filter, "-T", "fields"]
        for field in fields:
            command += ["-e", field]
        for rule in decode_as:
            command += ["-d", rule]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [tuple(line.split("\t")) for line in printed.splitlines()]

    def _mark(self) -> None:
        process = self._process
        assert process is not None
        cookie = secrets.token_bytes(32)
        frame = BROADCAST + SOURCE + ETHERTYPE.to_bytes(2, "big") + cookie
        with self._link.socket(socket.AF_PACKET, socket.SOCK_RAW) as marker:
            marker.bind((self._device, 0))

            def seen() -> bool:
                process.check_alive("it captured")
                return cookie in self.path.read_bytes()

            marker.send(frame)
            eventually(seen, "the capture's mark is in its file", otherwise=process.output)
