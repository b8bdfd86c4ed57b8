//! TLS for the upgrader: handshakes by rustls, records by ourselves.
//!
//! An [`Endpoint`] is one workload's identity. It makes [`Handshake`]s, which do no I/O: put what was read into
//! [`Handshake::input`], call [`Handshake::step`] (once before anything was read, too: a client's hello comes out of
//! it), send what is in [`Handshake::output`]. When complete, [`Handshake::finish`] leaves a [`Sealer`] and an
//! [`Opener`], one for each direction, and nothing of rustls.
//!
//! TLS 1.3 only (RFC 8446); no tickets, no resumption, no early data. A handshake gives rustls one record at a time
//! and none past the peer's Finished, so all that a peer sends afterwards is in [`Finished::unread`] as it came, and
//! belongs to the [`Opener`].
//!
//! In TLS 1.3 a client is done before the server has judged its certificate. A server's refusal therefore reaches the
//! client as [`RecordError::PeerAlert`] from its [`Opener`], possibly after data was sent.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod certificate;
mod endpoint;
mod error;
mod exchange;
mod handshake;
mod hello;
mod keys;
mod message;
mod opener;
mod peer;
mod protection;
mod record;
mod remembered;
mod sealer;
mod side;
mod spiffe;
mod trust;
mod verify;

pub use endpoint::Endpoint;
pub use error::{HandshakeError, IdentityError, RecordError};
pub use handshake::{Finished, Handshake, Progress};
pub use hello::probe_hello;
pub use keys::{Secret, Suite};
pub use opener::{Opened, Opener};
pub use peer::{Expectation, Peer, Role};
pub use record::{HEADER, MAX_PLAINTEXT, STRIDE, TAIL, whole_record};
pub use remembered::RememberedCertificates;
pub use sealer::{KEY_UPDATE_AFTER, Sealer};
pub use spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
