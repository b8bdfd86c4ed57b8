//! What one handshake and the callbacks of the shared rustls configuration tell one another.
//!
//! Configurations are shared by all connections of an endpoint, so their callbacks do not know for which connection
//! they are called. rustls calls them on the thread that steps the handshake, within that step; for its duration the
//! handshake lends its `Exchange` to the thread.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::KeyLog;
use zeroize::Zeroizing;

use crate::{Expectation, HandshakeError, Peer};

thread_local!(static LENT: RefCell<Exchange> = RefCell::default());

#[derive(Default)]
pub(crate) struct Exchange {
    /// In: whom the verifier is to accept; `None`: anyone of the trust domain.
    pub(crate) expectation: Option<Expectation>,
    /// Out: whose certificate was found good.
    pub(crate) peer: Option<Arc<Peer>>,
    /// Out: the first traffic secret of either direction. rustls itself gives keys, from which no next key can be made.
    pub(crate) client_secret: Option<Zeroizing<Vec<u8>>>,
    pub(crate) server_secret: Option<Zeroizing<Vec<u8>>>,
}

impl Exchange {
    /// Runs `step` with this exchange within reach of the callbacks.
    pub(crate) fn lend<T>(&mut self, step: impl FnOnce() -> T) -> T {
        LENT.with(|lent| std::mem::swap(self, &mut lent.borrow_mut()));
        let result = step();
        LENT.with(|lent| std::mem::swap(self, &mut lent.borrow_mut()));
        result
    }

    /// Called by the verifier: holds the peer against the expectation, and notes it.
    pub(crate) fn meet(peer: Arc<Peer>) -> Result<(), HandshakeError> {
        LENT.with(|lent| {
            let mut lent = lent.borrow_mut();
            if let Some(expectation) = &lent.expectation {
                expectation.check(&peer)?;
            }
            lent.peer = Some(peer);
            Ok(())
        })
    }
}

/// Notes the first traffic secrets (RFC 9850 names the labels).
#[derive(Debug)]
pub(crate) struct NoteSecrets;

impl KeyLog for NoteSecrets {
    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0")
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        LENT.with(|lent| {
            let mut lent = lent.borrow_mut();
            let note = match label {
                "CLIENT_TRAFFIC_SECRET_0" => &mut lent.client_secret,
                "SERVER_TRAFFIC_SECRET_0" => &mut lent.server_secret,
                _ => return,
            };
            *note = Some(Zeroizing::new(secret.to_vec()));
        });
    }
}
