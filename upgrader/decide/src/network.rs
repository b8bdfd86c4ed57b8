//! Networks as plain values.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits before the IPv4 address in an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
const MAPPED_PREFIX: u8 = 96;

/// A network: host bits are zero, and IPv4-mapped IPv6 networks are the IPv4 networks they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The prefix is longer than the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadNetwork {
    pub address: IpAddr,
    pub prefix: u8,
}

impl fmt::Display for BadNetwork {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = if self.address.is_ipv4() { 32 } else { 128 };
        write!(out, "{}/{} is no network: give a prefix of at most {most}", self.address, self.prefix)
    }
}

impl Error for BadNetwork {}

impl Network {
    /// The network of this prefix around `address`, whose host bits are dropped.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, BadNetwork> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            return Err(BadNetwork { address, prefix });
        }
        Ok(match address {
            IpAddr::V4(v4) => Self::v4(v4, prefix),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) if prefix >= MAPPED_PREFIX => Self::v4(v4, prefix - MAPPED_PREFIX),
                _ => Self { address: IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask_v6(prefix))), prefix },
            },
        })
    }

    fn v4(address: Ipv4Addr, prefix: u8) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask_v4(prefix))), prefix }
    }

    pub const fn address(self) -> IpAddr {
        self.address
    }

    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(v4)) => v4.to_bits() & mask_v4(self.prefix) == network.to_bits(),
            (IpAddr::V6(network), IpAddr::V6(v6)) => v6.to_bits() & mask_v6(self.prefix) == network.to_bits(),
            _ => false,
        }
    }
}

pub(crate) fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

pub(crate) fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}
