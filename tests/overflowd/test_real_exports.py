"""Exports of real routers: all are decoded, and to what other collectors make of them."""

from __future__ import annotations

import collections
import json
import subprocess
from datetime import UTC, datetime
from ipaddress import IPv6Address
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jfe_cni.overflowd import captures
from jfe_cni.overflowd.decoders import Batch, Decoder
from jfe_cni.overflowd.dropped import Dropped, Drops
from jfe_cni.overflowd.records import lines
from tests.overflowd.exports import REAL, real
from tests.stage.programs import program

NAMES = sorted(path.name for path in REAL.glob("*.pcap")) or ["netflow-v5.pcap"]
# Templates, data and options of one exporter each, captured apart; the sampling of each flow.
APART: dict[tuple[str, ...], list[int | None]] = {
    ("nf-template.pcap", "nf-options-template.pcap", "nf-options-data.pcap"): [],
    ("nf-samplingrate-template.pcap", "nf-samplingrate-data.pcap"): [2048] * 6,
    # Four records, two of which tell of both ways.
    ("nf-ipfixprobe-templates.pcap", "nf-ipfixprobe-data.pcap"): [None] * 6,
    (
        "nf-multiplesamplingrates-template.pcap",
        "nf-multiplesamplingrates-options-template.pcap",
        "nf-multiplesamplingrates-options-data.pcap",
        "nf-multiplesamplingrates-data.pcap",
    ): [4000, *[2000] * 11],
}
# Of the first set the template comes in the same datagram, later: Wireshark leaves it out.
WIRESHARK = {"netflow-v5.pcap": 0, "nf-nfv5.pcap": 0, "nf-data+templates.pcap": 11}


def decode(*paths: Path) -> tuple[list[Batch], Drops]:
    drops, decoder = Drops(), Decoder()
    batches = [batch for path in paths for batch in decoder.decode(list(captures.read(path, drops)))]
    return batches, drops + decoder.drops


def flow_lines(*paths: Path) -> list[dict[str, object]]:
    return [json.loads(line) for batch in decode(*paths)[0] for line in lines(batch)]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_decoded_without_damage(name: str) -> None:
    _, drops = decode(real(name))
    # The one is the first four million bytes of a longer one.
    assert drops == ({Dropped.CUT_OFF: 1} if name == "netflow-v5.pcap" else {})


@pytest.mark.parametrize("names", APART, ids=lambda names: names[-1])
def test_what_was_captured_apart_belongs_together_in_either_order(names: tuple[str, ...]) -> None:
    paths = [real(name) for name in names]
    forward, backward = flow_lines(*paths), flow_lines(*reversed(paths))
    assert [each["sampling"] for each in forward] == APART[names]
    assert sorted(map(json.dumps, forward)) == sorted(map(json.dumps, backward))


@pytest.mark.parametrize("name", ["pmacct-100-IPFIXv10-CISCO", "pmacct-101-NFv9-CISCO-cust_primitives"])
def test_they_say_what_another_collector_made_of_them(name: str) -> None:
    ours = collections.Counter(_key(each) for each in flow_lines(real(f"{name}.pcap")))
    told = [json.loads(line) for line in real(f"{name}.json").read_text().splitlines()]
    theirs = collections.Counter(_key_of_pmacct(each) for each in told)
    assert theirs - ours == collections.Counter()
    # pmacct adds up what has the same key, which is more than one record once.
    assert sum((ours - theirs).values()) <= sum(ours.values()) - sum(theirs.values())


def _key(flow: dict[str, object]) -> tuple[object, ...]:
    elements = flow["elements"]
    assert isinstance(elements, dict)
    return (
        flow["source"], flow["destination"], flow["source_port"], flow["destination_port"], flow["protocol"],
        flow["packets"], flow["octets"], flow["input"], flow["output"], flow["tcp_flags"], elements["ipClassOfService"],
    )  # fmt: skip


_FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32}
_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58}


def _key_of_pmacct(flow: dict[str, object]) -> tuple[object, ...]:
    flags = flow["tcp_flags"]
    assert isinstance(flags, list)
    return (
        flow["ip_src"], flow["ip_dst"], flow["port_src"], flow["port_dst"], _PROTOCOLS[str(flow["ip_proto"])],
        flow["packets"], flow["bytes"], flow["iface_in"], flow["iface_out"], sum(_FLAGS[each] for each in flags),
        flow["tos"],
    )  # fmt: skip


def test_times_are_those_of_another_collector() -> None:
    name = "pmacct-101-NFv9-CISCO-cust_primitives"
    ours = collections.Counter(int(str(each["first"]).partition(".")[0]) for each in flow_lines(real(f"{name}.pcap")))
    told = [json.loads(line) for line in real(f"{name}.json").read_text().splitlines()]
    # In whole seconds, from the exporter's header in whole seconds, rounded in another way.
    theirs = [int(float(each["timestamp_start"])) for each in told]
    assert all(any(second + apart in ours for apart in (-1, 0, 1)) for second in theirs)
    assert datetime.fromtimestamp(min(ours), UTC).year == 2023


@pytest.mark.parametrize("name", WIRESHARK)
def test_they_say_what_wireshark_makes_of_them(name: str) -> None:
    path = real(name)
    fields = ("srcaddr", "dstaddr", "srcport", "dstport", "packets", "octets")
    words = [word for field in fields for word in ("-e", f"cflow.{field}")]
    ended = subprocess.run(
        [program("tshark"), "-r", str(path), "-d", "udp.port==1-65535,cflow", "-T", "fields", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    theirs: collections.Counter[tuple[str, ...]] = collections.Counter()
    for line in ended.stdout.splitlines():
        theirs.update(zip(*(column.split(",") for column in line.split("\t")), strict=True))
    batches, _ = decode(path)
    ours: collections.Counter[tuple[str, ...]] = collections.Counter()
    for batch in batches:
        flows = batch.flows
        ends = [[_text(each) for each in flows[name]] for name in ("source", "destination")]
        numbers = [map(str, flows[name].tolist()) for name in ("source_port", "destination_port", "packets", "octets")]
        ours.update(zip(*ends, *numbers, strict=True))
    assert theirs
    assert theirs - ours == collections.Counter()
    assert sum((ours - theirs).values()) == WIRESHARK[name]


def _text(raw: npt.NDArray[np.uint8]) -> str:
    found = IPv6Address(raw.tobytes())
    return str(found.ipv4_mapped or found)
