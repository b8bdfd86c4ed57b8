"""Whether a source's network is where it came from, by the routes that are given."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.notices.notice import Class
from jfe_cni.overflowd.selection.fan_in import FanIn
from jfe_cni.overflowd.selection.interfaces import Interface, Interfaces, interface_of
from jfe_cni.overflowd.selection.prefixes import Network, Prefixes
from jfe_cni.overflowd.selection.routes import Route, Routes, read_routes
from jfe_cni.overflowd.selection.suspicion import CLASSES, SIDES, Side, Site, forged, suspect
from tests.overflowd.test_selection import INSIDE, OUTSIDE, flows_of, networks, wide

HERE, THERE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def contradicted(routes: Routes, source: str, came: int, exporter: IPv4Address | None = None) -> bool:
    return bool(routes.contradict(wide(source), np.array([came], "u4"), exporter)[0])


def test_a_source_comes_by_the_longest_prefix_that_covers_it() -> None:
    routes = Routes(
        [
            Route(ip_network("10.0.0.0/8"), (Interface(1),)),
            Route(ip_network("10.1.0.0/16"), (Interface(2), Interface(3))),
            Route(ip_network("10.1.128.0/17"), (Interface(4),)),
            Route(ip_network("2001:db8::/32"), (Interface(5),)),
        ]
    )
    for source, fit in (
        ("10.0.255.255", {1}), ("10.1.0.0", {2, 3}), ("10.1.127.255", {2, 3}), ("10.1.128.0", {4}),
        ("10.1.255.255", {4}), ("10.2.0.0", {1}), ("10.255.255.255", {1}), ("2001:db8:1::1", {5}),
        # Of these no route says anything; 0 is not told.
        ("9.255.255.255", {1, 2, 3, 4, 5}), ("11.0.0.0", {1, 2, 3, 4, 5}), ("2001:db9::", {1, 2, 3, 4, 5}),
    ):  # fmt: skip
        assert {came for came in range(6) if not contradicted(routes, source, came)} == fit | {0}, source


def test_each_exporter_has_its_own_interfaces() -> None:
    routes = Routes([Route(ip_network("10.0.0.0/8"), (Interface(1, HERE), Interface(2, THERE)))])
    assert [contradicted(routes, "10.0.0.1", came, HERE) for came in (1, 2)] == [False, True]
    assert [contradicted(routes, "10.0.0.1", came, THERE) for came in (1, 2)] == [True, False]
    assert not contradicted(routes, "10.0.0.1", 9, IPv4Address("192.0.2.3")), "it has none of them"


def test_a_default_route_of_ipv6_is_none_of_ipv4() -> None:
    routes = Routes([Route(ip_network("::/0"), (Interface(1),))])
    assert contradicted(routes, "2001:db8::1", 2)
    assert not contradicted(routes, "192.0.2.1", 2)


@given(st.lists(st.tuples(networks(), st.integers(1, 4)), max_size=10), st.data())
def test_it_is_as_if_every_route_were_looked_at(given_routes: list[tuple[Network, int]], data: st.DataObject) -> None:
    routes = Routes(Route(network, (Interface(number),)) for network, number in given_routes)
    ends = [end for network, _ in given_routes for end in (network.network_address, network.broadcast_address)]
    ends += [IPv4Address("192.0.2.9"), IPv6Address("2001:db8::9")]
    source, came = data.draw(st.sampled_from(ends)), data.draw(st.integers(1, 4))
    covering = [
        (each.prefixlen, number) for each, number in given_routes if each.version == source.version and source in each
    ]
    longest = max((length for length, _ in covering), default=None)
    fit = {number for length, number in covering if length == longest}
    assert contradicted(routes, str(source), came) == bool(fit and came not in fit)


def test_a_source_that_comes_off_its_route_is_forged_and_it_is_said_by_which_side() -> None:
    site = Site(
        own=Prefixes([ip_network("198.51.100.0/24")]),
        external=Interfaces([Interface(OUTSIDE)]),
        transit=True,
        routes=Routes(
            [
                Route(ip_network("203.0.113.0/24"), (Interface(3),)),
                Route(ip_network("198.51.100.0/24"), (Interface(INSIDE),)),
            ]
        ),
    )
    flows = flows_of(
        ("203.0.113.1", "192.0.2.9", OUTSIDE, INSIDE),
        ("203.0.113.1", "192.0.2.9", INSIDE, OUTSIDE),
        ("203.0.113.1", "192.0.2.9", 3, OUTSIDE),
        ("198.51.100.1", "192.0.2.9", OUTSIDE, INSIDE),
    )  # fmt: skip
    found = suspect(flows, site, FanIn(1), 0, HERE)
    forgeries = [Side.OFF_ROUTE_OUTSIDE, Side.OFF_ROUTE_INSIDE, Side.NOT_FORGED, Side.OUTSIDE]
    assert [SIDES[side] for side in found.sides] == forgeries
    spoofed, traffic = Class.SPOOFED_SOURCE, Class.TRAFFIC
    assert [CLASSES[each] for each in found.classes] == [spoofed, spoofed, traffic, spoofed]
    alone = forged(flows, Site(routes=site.routes))
    assert [SIDES[side] for side in alone[:3]] == [Side.OFF_ROUTE, Side.OFF_ROUTE, Side.NOT_FORGED]


def test_routes_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "routes"
    path.write_text(
        "# upstreams\n10.0.0.0/8  1 2@192.0.2.1 # a customer\n\n2001:db8::/32 5@2001:db8::1\n10.0.0.0/8 6\n"
    )
    routes = read_routes(path)
    assert [came for came in range(1, 8) if not contradicted(routes, "10.9.9.9", came, HERE)] == [1, 2, 6]
    assert [came for came in range(1, 8) if not contradicted(routes, "10.9.9.9", came)] == [1, 6]
    assert interface_of("5@2001:db8::1") == Interface(5, ip_address("2001:db8::1"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1/8 1", "line 1"),
        ("10.0.0.0/8", "no interface"),
        ("10.0.0.0/8 eth0", "'eth0' is no interface"),
        ("10.0.0.0/8 0", "'0' is no interface"),
        ("10.0.0.0/8 1@router", "'1@router' is no interface"),
        ("10.0.0.0/8 ü", "can't be read"),
    ],
)
def test_a_file_that_is_not_of_routes_is_said_to_be(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "routes"
    path.write_text(text)
    with pytest.raises(RequestError, match=expected):
        read_routes(path)
