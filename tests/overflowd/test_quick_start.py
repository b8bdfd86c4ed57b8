"""The README's quick start, as it stands there: what `-f netflow_4M.pcap | head` was in 2016."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

from tests.overflowd.exports import NOW, v5, v5_record
from tests.overflowd.frames import ethernet, ipv4, udp

README = Path(__file__).parents[2] / "README.md"
# linktype(7): Ethernet.
PCAP = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
RECORDS, DATAGRAMS = 30, 20_000


def test_the_first_flows_of_a_long_capture(tmp_path: Path) -> None:
    """600,000 records, of which ten are wanted: what writes the others has nobody who reads them any more."""
    payload = v5(*(v5_record(f"198.51.100.{number}", "203.0.113.9") for number in range(RECORDS)))
    frame = ethernet(ipv4("192.0.2.1", "192.0.2.2", 17, udp(1000, 2055, payload)))
    packet = struct.pack("<IIII", NOW, 0, len(frame), len(frame)) + frame
    (tmp_path / "netflow.pcap").write_bytes(PCAP + packet * DATAGRAMS)
    (command,) = re.findall(r"^\$ (overflowd read .*)$", README.read_text(), re.MULTILINE)
    ended = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    flows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [flow["source"] for flow in flows] == [f"198.51.100.{number}" for number in range(10)]
    assert {(flow["format"], flow["destination"], flow["packets"]) for flow in flows} == {
        ("netflow-v5", "203.0.113.9", 3)
    }
