"""A demonstration's findings: each promise fails when, and only when, what it is about is not so."""

import dataclasses
from typing import Any

import pytest

from jfe_cni.demo.report import Costs, Expected, Findings, Half, Seal, Wire

EXPECTED = Expected(
    client_address="198.18.5.2",
    server_address="198.18.5.9",
    server_port=8080,
    client_identity="spiffe://jfe.demo/client",
    server_identity="spiffe://jfe.demo/server",
    page=b"page",
)
PAIR = (("198.18.5.2", "198.18.5.9"),)
BEFORE = Half(Wire(True, False, PAIR, "GET /"), "198.18.5.2", b"page", Costs(0.0001, 0.00005, 2e9))
AFTER = Half(Wire(False, True, PAIR, "TLS"), "198.18.5.2", b"page", Costs(0.0003, 0.0001, 1e9))
SEAL = Seal("TLSv1.3", "AES", "X25519MLKEM768", EXPECTED.client_identity, EXPECTED.server_identity)
GOOD = Findings(EXPECTED, BEFORE, AFTER, SEAL)

# What the issue asks of `jfe demo --json`.
KEYS = [
    "client_address",
    "server_address",
    "server_port",
    "server_saw_address",
    "clear_text_on_wire_before",
    "clear_text_on_wire_after",
    "tls_version",
    "cipher",
    "key_exchange",
    "client_identity",
    "server_identity",
    "connect_ratio",
    "round_trip_ratio",
    "throughput_ratio",
    "left_behind",
]


def test_when_all_is_well_every_promise_holds() -> None:
    assert all(GOOD.promises.values())


def after(**changes: Any) -> Findings:
    return dataclasses.replace(GOOD, after=dataclasses.replace(AFTER, **changes))


def wire(**changes: Any) -> Findings:
    return after(wire=dataclasses.replace(AFTER.wire, **changes))


def sealed(**changes: str) -> Findings:
    return dataclasses.replace(GOOD, seal=dataclasses.replace(SEAL, **changes))


@pytest.mark.parametrize(
    "bad",
    [
        after(page=b"another"),
        after(server_saw_address="127.0.0.1"),
        wire(clear_text=True),
        wire(all_tls=False),
        wire(connections=(("127.0.0.1", "198.18.5.9"),)),
        wire(connections=()),
        sealed(tls_version="TLSv1.2"),
        sealed(client_identity="spiffe://jfe.demo/other"),
        sealed(server_identity=""),
        dataclasses.replace(GOOD, before=dataclasses.replace(BEFORE, wire=AFTER.wire)),
    ],
)
def test_each_thing_that_is_not_so_breaks_one_promise(bad: Findings) -> None:
    assert list(bad.promises.values()).count(False) == 1


def test_the_object_has_every_key_and_the_ratios_are_after_over_before() -> None:
    found = GOOD.as_json([])
    assert set(KEYS) <= set(found)
    assert found["connect_ratio"] == 3.0
    assert found["round_trip_ratio"] == 2.0
    assert found["throughput_ratio"] == 0.5


def test_the_table_shows_both_halves() -> None:
    text = "\n".join(" ".join(row) for row in GOOD.rows())
    assert "2,000 MB/s" in text
    assert "1,000 MB/s (0.50 ×)" in text
    assert "spiffe://jfe.demo/client" in text
