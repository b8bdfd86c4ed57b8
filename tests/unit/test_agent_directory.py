"""The directory: whose entry counts, what changes are said, which files are taken, and what an address leads to."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jfe_cni.agent import directory_file
from jfe_cni.agent.directory import API, FILE, OWN, Directory, delta, own_entries
from jfe_cni.agent.explain import Caller, Destination, explain
from jfe_cni.agent.objects import DirectoryEntry, Mode, WorkloadSettings
from jfe_cni.errors import RequestError

PEER = ipaddress.ip_address("10.2.0.9")


def entry(network: str, port: int | None = None, identity: str | None = None, **more: object) -> DirectoryEntry:
    return DirectoryEntry(ipaddress.ip_network(network), port, identity, **more)  # type: ignore[arg-type]


def directory(*entries: DirectoryEntry) -> Directory:
    made = Directory()
    made.put(API, entries)
    return made


def test_own_workloads_go_before_pushed_entries_and_those_before_the_file() -> None:
    made = Directory()
    made.put(OWN, [entry("10.2.0.9/32", identity="spiffe://d/own")])
    made.put(API, [entry("10.2.0.9/32", identity="spiffe://d/api"), entry("10.2.0.8/32", identity="spiffe://d/api")])
    made.replace(FILE, [entry(f"10.2.0.{n}/32", identity="spiffe://d/file") for n in (7, 8, 9)])
    found = [made.find(ipaddress.ip_address(f"10.2.0.{n}"), None) for n in (7, 8, 9)]
    assert [each.identity for each in found if each] == ["spiffe://d/file", "spiffe://d/api", "spiffe://d/own"]


def test_a_file_that_is_read_again_replaces_what_it_said() -> None:
    made = Directory()
    made.replace(FILE, [entry("10.2.0.9/32")])
    made.replace(FILE, [entry("10.2.0.8/32")])
    assert made.find(PEER, None) is None


def test_the_longest_prefix_answers_and_of_one_network_the_entry_for_the_port() -> None:
    made = directory(
        entry("10.0.0.0/8", identity="spiffe://d/wide"),
        entry("10.2.0.9/32", identity="spiffe://d/all"),
        entry("10.2.0.9/32", 80, "spiffe://d/80"),
    )
    assert [e.identity for e in (made.find(PEER, 80), made.find(PEER, 81), made.find(PEER, None)) if e] == [
        "spiffe://d/80",
        "spiffe://d/all",
        "spiffe://d/all",
    ]
    other = made.find(ipaddress.ip_address("10.3.0.1"), 80)
    assert other is not None
    assert other.identity == "spiffe://d/wide"


def test_a_port_that_an_entry_excludes_is_a_strangers_and_no_wider_network_is_asked() -> None:
    made = directory(entry("10.0.0.0/8"), entry("10.2.0.9/32", excluded_ports=(22,)))
    assert made.find(PEER, 22) is None


def test_a_mapped_address_is_the_ipv4_address() -> None:
    assert directory(entry("10.2.0.9/32")).find(ipaddress.ip_address("::ffff:10.2.0.9"), 80) is not None


_ENTRIES = st.lists(
    st.builds(
        entry,
        st.sampled_from(["10.2.0.9/32", "10.0.0.0/8", "fd00::/64"]),
        st.sampled_from([None, 80]),
        st.sampled_from([None, "spiffe://d/x", "spiffe://d/y"]),
    )
)


@given(_ENTRIES, _ENTRIES)
def test_a_delta_turns_one_directory_into_the_other(before: list[DirectoryEntry], after: list[DirectoryEntry]) -> None:
    old, new = directory(*before).merged(), directory(*after).merged()
    change = delta(old, new)
    told = {key: value for key, value in old.items() if value not in change.removed}
    told |= {each.key: each for each in change.put}
    assert told == new
    assert not delta(new, new)


def test_entries_of_a_workload_with_addresses_of_its_own_are_for_all_ports_but_the_excluded() -> None:
    (only,) = own_entries([PEER], "spiffe://d/x", None, (22,))
    assert (str(only.network), only.port, only.excluded_ports, only.cover) == ("10.2.0.9/32", None, (22,), "covered")


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".json", '[{"network": "10.2.0.9/32", "port": 80, "identity": "spiffe://d/x"}]'),
        (".json", '{"entries": [{"network": "10.2.0.9/32", "port": 80, "identity": "spiffe://d/x"}]}'),
        (".toml", '[[entries]]\nnetwork = "10.2.0.9/32"\nport = 80\nidentity = "spiffe://d/x"\n'),
        (".txt", "# peers\n\n10.2.0.9/32 80 spiffe://d/x  # web\n"),
        ("", "10.2.0.9 80 spiffe://d/x"),
    ],
)
def test_each_form_of_file_says_the_same(suffix: str, text: str) -> None:
    assert directory_file.parse(text.encode(), suffix, "peers") == [
        entry("10.2.0.9/32", 80, "spiffe://d/x", source="file")
    ]


def test_a_line_may_name_a_network_alone() -> None:
    assert directory_file.parse(b"fd00::/64\n10.0.0.0/8 - spiffe://d/x\n", "", "peers") == [
        entry("fd00::/64", source="file"),
        entry("10.0.0.0/8", None, "spiffe://d/x", source="file"),
    ]


@pytest.mark.parametrize(
    ("suffix", "text", "said"),
    [
        (".json", "{", "unreadable"),
        (".json", '[{"port": 80}]', "entry 1"),
        (".json", '[{"network": "10.2.0.9/32"}, {"network": "10.2.0.9/8"}]', "entry 2"),
        (".json", '[{"network": "10.2.0.9/32", "cover": "perhaps"}]', "cover"),
        (".json", '[{"network": "10.2.0.9/32", "prot": 80}]', "prot"),
        (".json", '[{"network": "10.2.0.9/32", "port": 65536}]', "port"),
        (".json", '[{"network": "10.2.0.9/32", "port": true}]', "port"),
        (".json", '"10.2.0.9/32"', "a string"),
        (".toml", "entries = 3", "a list"),
        (".txt", "10.2.0.9/32 http", "line 1"),
        (".txt", "ok\n", "line 1"),
        (".txt", "10.2.0.9 80 spiffe://d/x more", "line 1"),
        (".txt", "\xff", "unreadable"),
    ],
)
def test_what_a_file_says_wrong_is_named_with_its_place(suffix: str, text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        directory_file.parse(text.encode("latin-1"), suffix, "peers")
    assert "peers" in refused.value.message
    assert refused.value.remedy


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"peers\.json"):
        directory_file.read(tmp_path / "peers.json")


def decided(mode: Mode, destination: str, *entries: DirectoryEntry, **settings: object) -> tuple[str, str]:
    caller = Caller("w", mode, WorkloadSettings(**settings), frozenset({ipaddress.ip_address("10.1.0.5")}))  # type: ignore[arg-type]
    report = explain(caller, directory(*entries), Destination.parse(destination))
    assert report.encrypted == (report.decision == "upgrade")
    return report.decision, report.reason


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_a_covered_peer_is_upgraded_in_either_mode(mode: Mode) -> None:
    assert decided(mode, "10.2.0.9:80", entry("10.2.0.9/32")) == ("upgrade", "mutual")


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_exclusions_go_before_the_directory(mode: Mode) -> None:
    covered = entry("10.2.0.9/32")
    excluded = ("pass_through", "excluded")
    assert decided(mode, "10.2.0.9:53", covered, excluded_outbound_ports=(53,)) == excluded
    network = ipaddress.ip_network("10.2.0.0/16")
    assert decided(mode, "10.2.0.9:80", covered, excluded_outbound_networks=(network,)) == excluded
    assert decided(mode, "10.1.0.5:80", covered) == excluded
    assert decided(mode, "127.0.0.1:80", covered) == excluded


def test_towards_what_is_not_covered_yet_permissive_goes_bare_and_strict_refuses() -> None:
    wished = entry("10.2.0.9/32", cover="wished")
    assert decided("permissive", "10.2.0.9:80", wished) == ("pass_through", "not-covered-yet")
    assert decided("strict", "10.2.0.9:80", wished) == ("refuse", "not-covered-yet")


def test_towards_a_stranger_permissive_goes_bare_and_strict_refuses() -> None:
    assert decided("permissive", "10.2.0.9:80") == ("pass_through", "stranger")
    assert decided("strict", "10.2.0.9:80") == ("refuse", "plaintext-to-stranger")
    assert decided("strict", "10.2.0.9:22", entry("10.2.0.9/32", excluded_ports=(22,)))[0] == "refuse"


@pytest.mark.parametrize("text", ["10.2.0.9", "10.2.0.9:80", "fd00::9", "[fd00::9]:80"])
def test_a_destination_reads_as_it_was_written(text: str) -> None:
    assert str(Destination.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "web", "10.2.0.9:", "10.2.0.9:0", "10.2.0.9:65536", "10.2.0.9:x", "[fd00::9", "[fd00::9]80", "fd00::g"]
)
def test_what_is_no_destination_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        Destination.parse(text)
