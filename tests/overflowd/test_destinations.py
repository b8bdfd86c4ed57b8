"""Never a weapon: to whom a notice is not sent, and that it is less than what it answers to."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.overflowd.delivery.destinations import (
    Policy,
    Withheld,
    expected_amplification,
    is_smaller_than_the_flow,
)
from jfe_cni.overflowd.delivery.outcomes import Way
from jfe_cni.overflowd.delivery.sizes import most
from jfe_cni.overflowd.notices.sealing import largest_sealed
from jfe_cni.overflowd.notices.signing import LARGEST_SIGNED
from jfe_cni.overflowd.selection.odds import LARGEST

SMALLEST_PACKET = 20
"""Octets: an IPv4 header."""


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("8.8.8.8", None),
        ("2606:4700::1111", None),
        ("10.1.2.3", Withheld.PRIVATE),
        ("100.64.0.1", Withheld.PRIVATE),
        ("169.254.0.1", Withheld.PRIVATE),
        ("192.0.2.1", Withheld.PRIVATE),
        ("fd00::1", Withheld.PRIVATE),
        ("fe80::1", Withheld.PRIVATE),
        ("2001:db8::1", Withheld.PRIVATE),
        ("127.0.0.1", Withheld.LOOPBACK),
        ("::1", Withheld.LOOPBACK),
        ("0.0.0.0", Withheld.UNSPECIFIED),
        ("::", Withheld.UNSPECIFIED),
        ("224.0.0.1", Withheld.MULTICAST),
        ("ff02::1", Withheld.MULTICAST),
        ("255.255.255.255", Withheld.BROADCAST),
        ("240.0.0.1", Withheld.RESERVED),
        ("::ffff:10.0.0.1", Withheld.PRIVATE),
        ("::ffff:8.8.8.8", None),
        ("64:ff9b::808:808", Withheld.TRANSLATED),
        ("::ffff:192.88.99.1", Withheld.PRIVATE),
        ("2002:808:808::1", Withheld.TRANSLATED),
        ("2001::1", Withheld.TRANSLATED),
        # What a release of Python takes for global, and IANA does not.
        ("192.0.0.8", Withheld.PRIVATE),
        ("192.0.0.9", Withheld.PRIVATE),
        ("192.88.99.1", Withheld.PRIVATE),
        ("2001:1::1", Withheld.PRIVATE),
        ("2001:20::1", Withheld.PRIVATE),
        ("3fff::1", Withheld.PRIVATE),
        ("fec0::1", Withheld.PRIVATE),
        ("100::1", Withheld.RESERVED),
        ("100:0:0:1::1", Withheld.RESERVED),
        ("5f00::1", Withheld.RESERVED),
        ("2001:200::1", None),
        ("2620:4f:8000::1", None),
        ("3ffe::1", None),
        ("192.0.1.1", None),
        ("192.88.98.255", None),
    ],
)
def test_what_is_nobodys_or_everybodys_is_not_sent_to(address: str, why: Withheld | None) -> None:
    assert Policy().withheld(ip_address(address)) is why


@given(st.ip_addresses(v=6))
def test_of_ipv6_only_what_is_given_to_somebody_is_sent_to(address: IPv6Address) -> None:
    given_to_somebody = address in ip_network("2000::/3") or address.ipv4_mapped is not None
    assert given_to_somebody or Policy().withheld(address) is not None


def test_own_networks_are_left_alone_and_some_are_told_by_decision() -> None:
    policy = Policy(
        own=(ip_network("8.8.8.0/24"), ip_network("2606:4700::/32")),
        told=(ip_network("10.0.0.0/8"),),
    )
    assert policy.withheld(ip_address("8.8.8.8")) is Withheld.OWN
    assert policy.withheld(ip_address("2606:4700::1")) is Withheld.OWN
    assert policy.withheld(ip_address("10.1.1.1")) is None, "somebody has decided so"
    assert policy.withheld(ip_address("9.9.9.9")) is None


ADDRESS = ip_address("2606:4700::1111")
LARGEST_BY_UDP = most(Way.UDP, ADDRESS, LARGEST_SIGNED, largest_sealed(LARGEST_SIGNED), asks_key=False)


@pytest.mark.parametrize("odds", [1e-6, 1e-5, 1e-4])
def test_nobody_makes_more_than_it_spends(odds: float) -> None:
    """Of the largest notice, all its tries by UDP, to both ends, for the smallest packets that can be."""
    largest = LARGEST_BY_UDP
    assert expected_amplification(largest, odds, SMALLEST_PACKET) < 1


def test_at_the_cap_of_the_odds_a_flow_must_be_larger_than_its_notice() -> None:
    """There the odds alone would not keep it below 1: the flow itself must."""
    assert expected_amplification(LARGEST_BY_UDP, LARGEST, SMALLEST_PACKET) > 1
    assert not is_smaller_than_the_flow(1_000, octets=1_999, sampling=0)
    assert not is_smaller_than_the_flow(1_000, octets=2_000, sampling=1)
    assert is_smaller_than_the_flow(1_000, octets=2_001, sampling=0)
    assert is_smaller_than_the_flow(1_000, octets=40, sampling=1_000)
