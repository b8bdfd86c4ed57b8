//! Who is enrolled: (network, port or all) → identity and cover.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use crate::network::{Network, mask_v4, mask_v6};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cover {
    /// Its node has said that it is covered.
    Covered,
    /// It should be covered, and is not yet.
    Wished,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The SPIFFE id to expect; absent: any of the trust domain whose certificate names the address dialled.
    pub identity: Option<String>,
    pub cover: Cover,
    /// Ports on which this peer is a stranger.
    pub excluded_ports: Vec<u16>,
}

/// The longest prefix wins, and of two entries of the same network the one for the port.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    v4: Family<u32>,
    v6: Family<u128>,
}

impl Directory {
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the entry in, and returns the one it replaces.
    pub fn insert(&mut self, network: Network, port: Option<u16>, entry: Entry) -> Option<Entry> {
        match network.address() {
            IpAddr::V4(address) => self.v4.insert(network.prefix(), (address.to_bits(), port), entry),
            IpAddr::V6(address) => self.v6.insert(network.prefix(), (address.to_bits(), port), entry),
        }
    }

    pub fn remove(&mut self, network: Network, port: Option<u16>) -> Option<Entry> {
        match network.address() {
            IpAddr::V4(address) => self.v4.remove(network.prefix(), &(address.to_bits(), port)),
            IpAddr::V6(address) => self.v6.remove(network.prefix(), &(address.to_bits(), port)),
        }
    }

    /// Makes these entries the whole directory.
    pub fn replace(&mut self, entries: impl IntoIterator<Item = (Network, Option<u16>, Entry)>) {
        *self = Self::default();
        for (network, port, entry) in entries {
            self.insert(network, port, entry);
        }
    }

    /// The peer that listens there; `None` is a stranger.
    ///
    /// The entry that answers decides alone: a port it excludes is not looked up in a wider network.
    pub fn lookup(&self, destination: SocketAddr) -> Option<&Entry> {
        let port = destination.port();
        self.find(destination.ip(), Some(port)).filter(|entry| !entry.excluded_ports.contains(&port))
    }

    /// The peer that calls from there; `None` is a stranger.
    ///
    /// A caller's port says nothing, so an entry for a port does not answer: beside one enrolled service there may be
    /// any program on the same address.
    pub fn lookup_source(&self, source: IpAddr) -> Option<&Entry> {
        self.find(source, None)
    }

    /// Whether plaintext from there can only be a mistake or a forgery.
    pub fn covers_source(&self, source: IpAddr) -> bool {
        self.lookup_source(source).is_some_and(|entry| entry.cover == Cover::Covered)
    }

    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, address: IpAddr, port: Option<u16>) -> Option<&Entry> {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.find(port, |prefix| v4.to_bits() & mask_v4(prefix)),
            IpAddr::V6(v6) => self.v6.find(port, |prefix| v6.to_bits() & mask_v6(prefix)),
        }
    }
}

type Key<Bits> = (Bits, Option<u16>);

/// One hash map a prefix length, longest first; lengths without an entry are not kept.
#[derive(Debug, Clone)]
struct Family<Bits> {
    lengths: Vec<(u8, HashMap<Key<Bits>, Entry>)>,
}

impl<Bits> Default for Family<Bits> {
    fn default() -> Self {
        Self { lengths: Vec::new() }
    }
}

impl<Bits: Eq + Hash> Family<Bits> {
    fn position(&self, prefix: u8) -> Result<usize, usize> {
        self.lengths.binary_search_by(|(length, _)| prefix.cmp(length))
    }

    fn insert(&mut self, prefix: u8, key: Key<Bits>, entry: Entry) -> Option<Entry> {
        let at = self.position(prefix).unwrap_or_else(|at| {
            self.lengths.insert(at, (prefix, HashMap::new()));
            at
        });
        self.lengths[at].1.insert(key, entry)
    }

    fn remove(&mut self, prefix: u8, key: &Key<Bits>) -> Option<Entry> {
        let at = self.position(prefix).ok()?;
        let entries = &mut self.lengths[at].1;
        let removed = entries.remove(key);
        if entries.is_empty() {
            self.lengths.remove(at);
        }
        removed
    }

    fn find(&self, port: Option<u16>, masked: impl Fn(u8) -> Bits) -> Option<&Entry>
    where
        Bits: Copy,
    {
        self.lengths.iter().find_map(|(prefix, entries)| {
            let network = masked(*prefix);
            port.and_then(|_| entries.get(&(network, port))).or_else(|| entries.get(&(network, None)))
        })
    }

    fn len(&self) -> usize {
        self.lengths.iter().map(|(_, entries)| entries.len()).sum()
    }
}
