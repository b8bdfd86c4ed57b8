//! Networks in CIDR notation, and what must not be shown of an identity.

use std::fmt;
use std::net::IpAddr;

use crate::message::{Identity, Network};

/// Longest text that is shown in an error: an IPv6 network has at most 43 characters, and what is longer is no network.
const SHOWN: usize = 49;

/// The sender's fault; the same text fails again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("{0:?} is no network; write ADDRESS/PREFIX, as in 10.2.0.0/16 or fd00::/64")]
    Malformed(String),
    #[error("{0} is longer than the address; a prefix is at most {1} bits here")]
    PrefixTooLong(u8, u8),
    #[error("{given} has bits set behind its prefix; write {network}")]
    HostBits { given: Network, network: Network },
}

impl Network {
    /// The network of `prefix` bits that begins at `address`, whose further bits must be 0.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let width = width(address);
        if prefix > width {
            return Err(NetworkError::PrefixTooLong(prefix, width));
        }
        let given = Self { address, prefix };
        let network = Self { address: masked(address, prefix), prefix };
        if given == network { Ok(given) } else { Err(NetworkError::HostBits { given, network }) }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

impl std::str::FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.chars().take(SHOWN).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = if digits { prefix.parse().ok() } else { None };
        Self::new(address.parse().map_err(|_| malformed())?, prefix.ok_or_else(malformed)?)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// Without the key, so that no log can hold it.
impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}
