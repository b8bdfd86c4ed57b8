//! What happens to a connection that the workload makes.

use std::net::SocketAddr;

use crate::directory::{Cover, Directory};
use crate::hello::{Hello, classify};
use crate::policy::{Mode, Policy};
use crate::reason::{PassThrough, Refuse};

/// Whom the peer's certificate must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// This SPIFFE id; absent: the address dialled.
    pub identity: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbound {
    /// Mutual TLS or an error, never a fall-back.
    Upgrade(Expect),
    PassThrough(PassThrough),
    Refuse(Refuse),
    /// Ask again when the directory changes; after 10 s it is [`Refuse::NotCoveredYet`].
    AwaitCover,
    /// Connect, then judge the first bytes of either side with [`outbound_first_bytes`] before any is relayed.
    AwaitFirstByte,
}

/// Decides by address alone. `own_listener`: the destination is a listener of the upgrader itself.
pub fn outbound(policy: &Policy, directory: &Directory, own_listener: bool, destination: SocketAddr) -> Outbound {
    if own_listener {
        return Outbound::Refuse(Refuse::OwnListener);
    }
    if policy.excludes_outbound(destination) {
        return Outbound::PassThrough(PassThrough::Excluded);
    }
    match (directory.lookup(destination), policy.mode) {
        (Some(entry), mode) => match (entry.cover, mode) {
            (Cover::Covered, _) => Outbound::Upgrade(Expect { identity: entry.identity.clone() }),
            (Cover::Wished, Mode::Permissive) => Outbound::PassThrough(PassThrough::NotCoveredYet),
            (Cover::Wished, Mode::Strict) => Outbound::AwaitCover,
        },
        (None, Mode::Permissive) => Outbound::PassThrough(PassThrough::Stranger),
        (None, Mode::Strict) => Outbound::AwaitFirstByte,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Application,
    Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FirstBytes {
    /// Ask again when this many bytes in all are there.
    Await {
        need: usize,
    },
    PassThrough(PassThrough),
    Refuse(Refuse),
}

/// Judges all bytes that one side of a strict workload's connection to a stranger has sent so far.
///
/// Only a whole hello of the application opens the way; one byte of the peer before it closes it.
pub fn outbound_first_bytes(from: Side, bytes: &[u8]) -> FirstBytes {
    match from {
        Side::Peer if bytes.is_empty() => FirstBytes::Await { need: 1 },
        Side::Peer => FirstBytes::Refuse(Refuse::PlaintextToStranger),
        Side::Application => match classify(bytes) {
            Hello::Nothing => FirstBytes::Await { need: 1 },
            Hello::Partial { need } => FirstBytes::Await { need },
            Hello::Jfe | Hello::Stranger { .. } => FirstBytes::PassThrough(PassThrough::ApplicationTls),
            Hello::NotTls => FirstBytes::Refuse(Refuse::PlaintextToStranger),
            Hello::Malformed => FirstBytes::Refuse(Refuse::HelloMalformed),
            Hello::TooLarge => FirstBytes::Refuse(Refuse::HelloTooLarge),
        },
    }
}
