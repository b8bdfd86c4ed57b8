//! How many connections may wait to be classified: per source and in all.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::network::mask_v6;
use crate::reason::Refuse;

/// Unclassified connections of one source, per worker: an IPv4 address, or a /64 of IPv6, which one host commonly owns
/// (RFC 4291).
///
/// Not divided by the number of workers: which of them accepts a connection is chance, so a share of a few would refuse
/// an honest source's burst at one worker while others have room. A source's part of all places is the same, however many
/// workers there are.
pub const PER_SOURCE: u32 = 256;

/// Unclassified connections of all sources, per worker.
pub const IN_ALL: u32 = 8192;

/// Counts connections from the moment they are accepted until they are classified or ended.
#[derive(Debug, Clone)]
pub struct Admission {
    per_source: u32,
    in_all: u32,
    sources: HashMap<u128, u32>,
    waiting: u32,
}

impl Default for Admission {
    fn default() -> Self {
        Self::new(PER_SOURCE, IN_ALL)
    }
}

impl Admission {
    pub fn new(per_source: u32, in_all: u32) -> Self {
        Self { per_source, in_all, sources: HashMap::new(), waiting: 0 }
    }

    /// Counts one more of this source; each success wants one [`Self::release`].
    pub fn admit(&mut self, source: IpAddr) -> Result<(), Refuse> {
        let key = source_key(source);
        let of_source = self.sources.get(&key).copied().unwrap_or(0);
        if of_source >= self.per_source {
            return Err(Refuse::SourceLimit);
        }
        if self.waiting >= self.in_all {
            return Err(Refuse::Exhausted);
        }
        self.sources.insert(key, of_source + 1);
        self.waiting += 1;
        Ok(())
    }

    /// One that was admitted is classified or ended.
    pub fn release(&mut self, source: IpAddr) {
        let key = source_key(source);
        let Some(of_source) = self.sources.get_mut(&key) else { return };
        *of_source -= 1;
        self.waiting -= 1;
        if *of_source == 0 {
            self.sources.remove(&key);
        }
    }

    pub fn waiting(&self) -> u32 {
        self.waiting
    }
}

/// IPv4 as its IPv4-mapped address, so that the two families never meet.
fn source_key(source: IpAddr) -> u128 {
    match source.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() & mask_v6(64),
    }
}
