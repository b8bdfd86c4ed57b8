"""Whose keys are believed: where they may be published, and what of a change."""

from __future__ import annotations

import json
import time

import pytest
from joserfc.jwk import ECKey, OKPKey

from jfe_cni.overflowd.notices import sealing
from jfe_cni.overflowd.notices.keys import PUBLISHED, KeyRing, new_key
from jfe_cni.overflowd.receiver.domains import registrable
from jfe_cni.overflowd.receiver.pins import (
    MOST_KEYS,
    MOST_OF_ONE,
    Keys,
    Pinning,
    Publisher,
    crowded_out,
    pinning,
    publisher,
    read_published,
)


def test_keys_are_published_at_the_well_known_place_of_a_domain() -> None:
    assert publisher(f"https://carrier.example{PUBLISHED}") == Publisher("carrier.example")
    assert publisher(f"https://Carrier.Example:443{PUBLISHED}") == Publisher("carrier.example")
    assert publisher(f"https://a.xn--p1ai{PUBLISHED}") == Publisher("a.xn--p1ai")
    assert publisher(f"https://carrier.example:8443{PUBLISHED}", frozenset({8443})) == Publisher(
        "carrier.example", 8443
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        f"http://carrier.example{PUBLISHED}",
        "https://carrier.example/delete?everything",
        f"https://carrier.example{PUBLISHED}?x",
        f"https://carrier.example{PUBLISHED}#x",
        f"https://carrier.example/a/..{PUBLISHED}",
        f"https://carrier.example:22{PUBLISHED}",
        f"https://carrier.example:0x1bb{PUBLISHED}",
        f"https://user@carrier.example{PUBLISHED}",
        f"https://203.0.113.9{PUBLISHED}",
        f"https://[2001:db8::1]{PUBLISHED}",
        f"https://3405803785{PUBLISHED}",
        f"https://1.2.3.0x4{PUBLISHED}",
        f"https://localhost{PUBLISHED}",
        f"https://carrier..example{PUBLISHED}",
        f"https://carrier.example.{PUBLISHED}",
        f"https://-carrier.example{PUBLISHED}",
        f"https://caché.example{PUBLISHED}",
        f"https://{'a' * 64}.example{PUBLISHED}",
        f"https://carrier.example\\@evil.example{PUBLISHED}",
        f"https://[{PUBLISHED}",
    ],
)
def test_keys_are_fetched_from_nowhere_else(url: str) -> None:
    assert publisher(url) is None


def test_a_change_is_believed_beside_a_key_that_was_believed_before() -> None:
    first, second, third = (_keys(new_key()) for _ in range(3))
    assert pinning({}, first) is Pinning.FIRST
    assert pinning(first, first) is Pinning.SAME
    assert pinning(first, {**first, **second}) is Pinning.ROTATED
    assert pinning({**first, **second}, second) is Pinning.ROTATED
    assert pinning(first, third) is Pinning.CHANGED


def test_what_a_key_ring_publishes_is_read_by_what_the_keys_are_and_not_by_what_they_are_called() -> None:
    ring = KeyRing(new_key()).rotated(int(time.time()))
    document = ring.published(int(time.time()))
    document["keys"].append(sealing.published(sealing.new_key()))
    for key in document["keys"]:
        key["kid"] = "another"
    expected = {ring.signing.thumbprint(), ring.former[0][0].thumbprint()}
    found = read_published(json.dumps(document).encode())
    assert found.keys() == expected
    assert not any(key.is_private for key in found.values())


def test_what_is_no_set_of_our_keys_has_none() -> None:
    other = ECKey.generate_key("P-256").as_dict(private=False)
    key = KeyRing(new_key()).published(0)["keys"][0]
    for raw in (
        b"",
        b"[]",
        b"{}",
        b'{"keys": 5}',
        b'{"keys": [5, null, {}]}',
        b"[" * 20_000,
        json.dumps({"keys": [{**other, "use": "sig"}]}).encode(),
        json.dumps({"keys": [{**key, "use": "enc"}]}).encode(),
        json.dumps({"keys": [{**key, "x": "!!"}]}).encode(),
    ):
        assert read_published(raw) == {}


def test_of_more_keys_than_may_be_the_first_that_are_ones_are_read() -> None:
    ring = [KeyRing(new_key()).published(0)["keys"][0] for _ in range(MOST_KEYS + 4)]
    others: list[object] = [sealing.published(sealing.new_key()), 5, {**ring[0], "x": "!!"}]
    found = read_published(json.dumps({"keys": others + ring}).encode())
    assert list(found) == [each["kid"] for each in ring[:MOST_KEYS]]


def _keys(key: OKPKey) -> Keys:
    return {key.thumbprint(): key}


def test_there_is_room_for_another_whoever_has_many_names() -> None:
    wildcard = {f"n{number}.evil.example": 1_000 + number for number in range(MOST_OF_ONE)}
    assert crowded_out("n16.evil.example", wildcard | {"a.example": 1}) == {"n0.evil.example"}, "its own oldest"
    assert crowded_out("n3.evil.example", wildcard) == frozenset(), "it is there"
    assert crowded_out("b.example", wildcard | {"a.example": 1}, most=17) == {"n0.evil.example"}, "of who has most"
    assert crowded_out("d.example", {"a.example": 5, "b.example": 3, "c.example": 4}, most=3) == {"b.example"}
    assert crowded_out("d.example", {"a.example": 5, "b.example": 3, "c.example": 4}, most=2) == {
        "b.example",
        "c.example",
    }


def test_whose_a_name_is_is_told_by_the_domain_that_was_registered() -> None:
    for domain, of in (
        ("example.net", "example.net"),
        ("a.b.example.net", "example.net"),
        ("a.example.de", "example.de"),
        ("a.example.co.uk", "example.co.uk"),
        ("b.a.example.com.au", "example.com.au"),
        ("co.uk", "co.uk"),
        ("a.co.com", "co.com"),
        ("a.b.abc.de", "abc.de"),
    ):
        assert registrable(domain) == of
