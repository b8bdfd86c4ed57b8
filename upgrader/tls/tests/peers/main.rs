//! The crate as its users see it, against itself, against rustls' own record layer, and against OpenSSL.
#![allow(clippy::unwrap_used)]

mod authority;
mod hostile;
mod identity;
mod memory;
mod openssl;
mod records;
mod rustls_peer;
mod wire;
