//! Leaf certificates that were verified already, so that a peer's chain is verified once and not for each connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};

use crate::Peer;

/// Certificates remembered at most; about 250 bytes each.
const MAX_REMEMBERED: usize = 4096;

/// SHA-256 over all that the verdict hung upon, so that a verdict under one trust bundle says nothing under another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(context.finish().as_ref());
        Self(fingerprint)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Verified leaf certificates and whose they are, each until it or an intermediate of its chain expires. May be shared
/// by endpoints: each sees only what was verified against its own trust bundle. That a peer holds its certificate's key
/// is not remembered; it is checked in each handshake.
#[derive(Debug, Default)]
pub struct RememberedCertificates {
    verified: Mutex<HashMap<Fingerprint, (Arc<Peer>, i64)>>,
}

impl RememberedCertificates {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `now` in seconds since 1970.
    pub(crate) fn recall(&self, fingerprint: &Fingerprint, now: i64) -> Option<Arc<Peer>> {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.get(fingerprint).filter(|(_, not_after)| now <= *not_after).map(|(peer, _)| peer.clone())
    }

    pub(crate) fn remember(&self, fingerprint: Fingerprint, peer: Arc<Peer>, not_after: i64, now: i64) {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_REMEMBERED {
            verified.retain(|_, (_, not_after)| now <= *not_after);
        }
        if verified.len() >= MAX_REMEMBERED {
            verified.clear();
        }
        verified.insert(fingerprint, (peer, not_after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Arc<Peer> {
        Arc::new(Peer { identity: "spiffe://d/x".parse().unwrap(), addresses: Vec::new() })
    }

    #[test]
    fn a_certificate_is_forgotten_the_second_after_its_end() {
        let remembered = RememberedCertificates::new();
        let fingerprint = Fingerprint::of([&b"x"[..]]);
        remembered.remember(fingerprint, peer(), 100, 50);
        assert_eq!(remembered.recall(&fingerprint, 100), Some(peer()));
        assert_eq!(remembered.recall(&fingerprint, 101), None);
    }

    #[test]
    fn memory_is_bounded_and_the_expired_go_first() {
        let remembered = RememberedCertificates::new();
        let number = |n: usize| Fingerprint::of([&n.to_be_bytes()[..]]);
        for n in 0..MAX_REMEMBERED {
            remembered.remember(number(n), peer(), if n == 0 { 1000 } else { 10 }, 5);
        }
        assert_eq!(remembered.len(), MAX_REMEMBERED);
        remembered.remember(number(MAX_REMEMBERED), peer(), 1000, 11);
        assert_eq!(remembered.len(), 2);
        for n in 0..3 * MAX_REMEMBERED {
            remembered.remember(number(n), peer(), 1000, 11);
        }
        assert!(remembered.len() <= MAX_REMEMBERED);
    }

    #[test]
    fn parts_of_a_fingerprint_do_not_run_into_one_another() {
        assert_ne!(Fingerprint::of([&b"ab"[..], b"c"]), Fingerprint::of([&b"a"[..], b"bc"]));
    }
}
