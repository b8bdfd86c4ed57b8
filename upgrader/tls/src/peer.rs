//! Who the peer is, and who it should be.

use std::net::IpAddr;

use crate::{HandshakeError, SpiffeId};

/// Which part of the handshake one plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// A peer whose certificate was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub identity: SpiffeId,
    /// The IP addresses that its certificate names; IPv4-mapped ones as IPv4.
    pub addresses: Vec<IpAddr>,
}

/// Whom a client expects to meet. Any peer must also be in the client's own trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expectation {
    Identity(SpiffeId),
    /// Whoever's certificate names the address that was dialled.
    Address(IpAddr),
}

impl Expectation {
    pub(crate) fn check(&self, peer: &Peer) -> Result<(), HandshakeError> {
        match self {
            Self::Identity(expected) if *expected != peer.identity => {
                Err(HandshakeError::PeerIdentity { expected: expected.clone(), found: peer.identity.clone() })
            }
            Self::Address(expected) if !peer.addresses.contains(&expected.to_canonical()) => {
                Err(HandshakeError::PeerAddress {
                    expected: *expected,
                    found: peer.identity.clone(),
                    addresses: peer.addresses.clone(),
                })
            }
            Self::Identity(_) | Self::Address(_) => Ok(()),
        }
    }
}
