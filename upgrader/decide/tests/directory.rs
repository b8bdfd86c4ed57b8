//! Who is a peer and who a stranger.

#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jfe_decide::{Cover, Directory, Entry, Network};

fn net(text: &str) -> Network {
    let (address, prefix) = text.split_once('/').unwrap();
    Network::new(address.parse().unwrap(), prefix.parse().unwrap()).unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn entry(identity: &str) -> Entry {
    Entry { identity: Some(identity.to_owned()), cover: Cover::Covered, excluded_ports: Vec::new() }
}

fn directory(entries: &[(&str, Option<u16>, &str)]) -> Directory {
    let mut directory = Directory::new();
    for (network, port, identity) in entries {
        directory.insert(net(network), *port, entry(identity));
    }
    directory
}

fn who<'a>(directory: &'a Directory, address: &str) -> Option<&'a str> {
    directory.lookup(at(address)).and_then(|entry| entry.identity.as_deref())
}

#[test]
fn the_longest_prefix_wins() {
    let directory = directory(&[
        ("0.0.0.0/0", None, "all"),
        ("10.0.0.0/8", None, "eight"),
        ("10.2.0.0/16", None, "sixteen"),
        ("10.2.0.9/32", None, "host"),
        ("::/0", None, "all of six"),
        ("fd00::/64", None, "sixty-four"),
        ("fd00::9/128", None, "host of six"),
    ]);
    for (address, expected) in [
        ("10.2.0.9:1", "host"),
        ("10.2.0.8:1", "sixteen"),
        ("10.3.0.9:1", "eight"),
        ("192.0.2.1:1", "all"),
        ("[fd00::9]:1", "host of six"),
        ("[fd00::8]:1", "sixty-four"),
        ("[fd01::9]:1", "all of six"),
    ] {
        assert_eq!(who(&directory, address), Some(expected), "{address}");
    }
}

#[test]
fn an_entry_for_the_port_wins_over_one_for_all_ports_of_the_same_network_and_not_over_a_longer_one() {
    let directory = directory(&[
        ("10.0.0.0/8", Some(443), "wide, 443"),
        ("10.2.0.9/32", None, "host"),
        ("10.2.0.9/32", Some(5432), "host, 5432"),
        ("10.2.0.10/32", Some(5432), "other host, 5432"),
    ]);
    for (address, expected) in [
        ("10.2.0.9:5432", Some("host, 5432")),
        ("10.2.0.9:443", Some("host")),
        ("10.2.0.10:443", Some("wide, 443")),
        ("10.2.0.10:80", None),
        ("10.9.9.9:443", Some("wide, 443")),
        ("[fd00::1]:443", None),
    ] {
        assert_eq!(who(&directory, address), expected, "{address}");
    }
}

#[test]
fn a_peer_is_a_stranger_on_a_port_that_it_excludes_whatever_a_wider_network_says() {
    let mut directory = directory(&[("10.0.0.0/8", None, "wide")]);
    directory.insert(net("10.2.0.9/32"), None, Entry { excluded_ports: vec![9100], ..entry("host") });
    assert_eq!(who(&directory, "10.2.0.9:9100"), None);
    assert_eq!(who(&directory, "10.2.0.9:9101"), Some("host"));
}

#[test]
fn ipv4_mapped_addresses_and_networks_are_ipv4() {
    let directory = directory(&[("::ffff:10.2.0.0/112", None, "mapped"), ("10.3.0.0/16", None, "plain")]);
    assert_eq!(who(&directory, "10.2.7.7:1"), Some("mapped"));
    assert_eq!(who(&directory, "[::ffff:10.2.7.7]:1"), Some("mapped"));
    assert_eq!(who(&directory, "[::ffff:10.3.7.7]:1"), Some("plain"));
    assert_eq!(net("::ffff:10.2.0.0/112"), net("10.2.0.0/16"));
}

#[test]
fn host_bits_of_a_network_do_not_count() {
    assert_eq!(net("10.2.3.4/16"), net("10.2.0.0/16"));
    assert_eq!(net("fd00::7/64"), net("fd00::/64"));
    assert_eq!(net("10.2.3.4/0"), net("0.0.0.0/0"));
    assert!(net("10.2.0.0/16").contains(ip("10.2.9.9")) && !net("10.2.0.0/16").contains(ip("10.3.0.0")));
    assert!(net("::/0").contains(ip("fd00::1")) && !net("::/0").contains(ip("10.0.0.1")));
}

#[test]
fn a_prefix_longer_than_the_address_is_an_error_that_says_so() {
    let error = Network::new(ip("10.0.0.0"), 33).unwrap_err();
    assert_eq!(error.to_string(), "10.0.0.0/33 is no network: give a prefix of at most 32");
    assert!(Network::new(ip("::"), 129).is_err());
}

#[test]
fn a_source_is_covered_by_entries_for_all_ports_only() {
    let mut directory = directory(&[("10.2.0.9/32", None, "pod"), ("192.0.2.7/32", Some(9100), "exporter on a host")]);
    directory.insert(net("10.2.0.10/32"), None, Entry { cover: Cover::Wished, ..entry("wished") });
    directory.insert(net("10.2.0.11/32"), None, Entry { excluded_ports: vec![22], ..entry("excludes") });
    assert!(directory.covers_source(ip("10.2.0.9")));
    assert!(directory.covers_source(ip("::ffff:10.2.0.9")));
    assert!(directory.covers_source(ip("10.2.0.11")));
    assert!(!directory.covers_source(ip("10.2.0.10")));
    assert!(!directory.covers_source(ip("192.0.2.7")));
    assert!(!directory.covers_source(ip("192.0.2.8")));
}

#[test]
fn what_is_inserted_can_be_replaced_and_removed() {
    let mut directory = directory(&[("10.0.0.0/8", None, "wide"), ("10.2.0.9/32", None, "host")]);
    assert_eq!(directory.insert(net("10.2.0.9/32"), None, entry("newer")), Some(entry("host")));
    assert_eq!(who(&directory, "10.2.0.9:1"), Some("newer"));
    assert_eq!(directory.remove(net("10.2.0.9/32"), Some(1)), None);
    assert_eq!(directory.remove(net("10.2.0.9/32"), None), Some(entry("newer")));
    assert_eq!(who(&directory, "10.2.0.9:1"), Some("wide"));
    directory.replace([(net("fd00::/64"), Some(1), entry("six"))]);
    assert_eq!((directory.len(), who(&directory, "10.2.0.9:1")), (1, None));
    assert_eq!(who(&directory, "[fd00::5]:1"), Some("six"));
    directory.replace([]);
    assert!(directory.is_empty());
}

#[test]
fn a_hundred_thousand_entries_are_found() {
    let mut directory = Directory::new();
    let address = |number: u32| Ipv4Addr::from_bits(0x0a00_0000 + number);
    for number in 0..100_000 {
        directory.insert(Network::new(address(number).into(), 32).unwrap(), None, entry(&number.to_string()));
    }
    assert_eq!(directory.len(), 100_000);
    for number in [0, 1, 54_321, 99_999] {
        let found = directory.lookup((address(number), 80).into()).unwrap();
        assert_eq!(found.identity, Some(number.to_string()));
    }
    assert_eq!(directory.lookup((address(100_000), 80).into()), None);
}
