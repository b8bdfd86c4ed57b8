"""Who is heard."""

from __future__ import annotations

from ipaddress import ip_network

from jfe_cni.overflowd.collector.exporters import Exporters
from jfe_cni.overflowd.dropped import Dropped, Drops
from tests.overflowd.exports import datagram


def test_only_exporters_on_the_list_are_heard_and_the_others_are_counted() -> None:
    drops = Drops()
    exporters = Exporters([ip_network("192.0.2.0/28"), ip_network("2001:db8::1/128")], drops)
    sent = [datagram(b"x", each) for each in ("192.0.2.1", "192.0.2.99", "2001:db8::1", "2001:db8::2", "192.0.2.99")]
    assert [str(each.exporter) for each in exporters.heard(sent)] == ["192.0.2.1", "2001:db8::1"]
    assert drops == {Dropped.NOT_ALLOWED: 3}


def test_without_a_list_everybody_is_heard_and_with_an_empty_one_nobody() -> None:
    sent = [datagram(b"x", "203.0.113.9")]
    assert Exporters(None, Drops()).heard(sent) == sent
    assert Exporters([], Drops()).heard(sent) == []


def test_what_is_remembered_of_them_is_bounded() -> None:
    exporters = Exporters([ip_network("10.0.0.0/8")], Drops())
    sent = [datagram(b"", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in range(70_000)]
    assert len(exporters.heard(sent)) == 70_000
    assert len(exporters._known) <= 65_536
