//! What can go wrong, by who is at fault.

use std::net::IpAddr;

use crate::{SpiffeId, SpiffeIdError, TrustDomain};

/// A record of the peer is not to be accepted; the connection can't go on. Trying again needs a new connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the peer sent an unprotected record of type {0} where only protected ones are allowed")]
    UnexpectedRecord(u8),
    #[error("a record of the peer was altered, lost or reordered on its way")]
    BadMac,
    #[error("the peer sent a record longer than TLS allows")]
    Overflow,
    #[error("the peer sent a message that has no place here")]
    UnexpectedMessage,
    #[error("the peer sent a record or message that can't be read")]
    Malformed,
    #[error("the peer sent more than {0} records in a row without a byte of data")]
    Flood(u8),
    #[error("the peer ended the connection with TLS alert {0}")]
    PeerAlert(u8),
}

impl RecordError {
    /// The description of the alert to send for it (RFC 8446, section 6.2); none in answer to an alert.
    pub fn alert(&self) -> Option<u8> {
        match self {
            Self::UnexpectedRecord(_) | Self::UnexpectedMessage | Self::Flood(_) => Some(10),
            Self::BadMac => Some(20),
            Self::Overflow => Some(22),
            Self::Malformed => Some(50),
            Self::PeerAlert(_) => None,
        }
    }
}

/// Why a handshake came to nothing, by who is at fault. Bytes to be sent (an alert) may be left in the handshake's output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("the peer answers something other than TLS: is it covered, as the directory says?")]
    PeerNotTls,
    #[error(
        "the peer's certificate is of {found}, where {expected} is expected: the directory is out of date, or another workload took the address"
    )]
    PeerIdentity { expected: SpiffeId, found: SpiffeId },
    #[error(
        "the certificate of {found} names the addresses {addresses:?}, not {expected}: no identity is known for that address, so the certificate must name it"
    )]
    PeerAddress { expected: IpAddr, found: SpiffeId, addresses: Vec<IpAddr> },
    #[error("the peer's certificate is not to be trusted: {0}")]
    PeerUntrusted(String),
    #[error("the handshake failed: {0}")]
    Failed(String),
}

impl HandshakeError {
    /// The reason in the closed list of reasons.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::PeerNotTls => "peer-not-tls",
            Self::PeerIdentity { .. } => "peer-identity",
            Self::PeerAddress { .. } => "peer-address",
            Self::PeerUntrusted(_) => "peer-untrusted",
            Self::Failed(_) => "handshake-failed",
        }
    }
}

impl From<rustls::Error> for HandshakeError {
    fn from(error: rustls::Error) -> Self {
        use rustls::{CertificateError, Error};
        match error {
            Error::InvalidCertificate(CertificateError::Other(other)) => match other.0.downcast_ref::<Self>() {
                Some(ours) => ours.clone(),
                None => Self::PeerUntrusted(other.to_string()),
            },
            Error::InvalidCertificate(why) => Self::PeerUntrusted(why.to_string()),
            Error::NoCertificatesPresented => Self::PeerUntrusted("it presented none".into()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<HandshakeError> for rustls::Error {
    fn from(error: HandshakeError) -> Self {
        let other = rustls::OtherError(std::sync::Arc::new(error));
        Self::InvalidCertificate(rustls::CertificateError::Other(other))
    }
}

/// Why certificate, key and trust bundle of a workload can't be used: whoever issued them is at fault, and the same
/// again fails again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("`{id}` is not a SPIFFE id: {why}")]
    Id { id: String, why: SpiffeIdError },
    #[error("the {part} can't be read: {why}; it must be PEM")]
    Unreadable { part: &'static str, why: String },
    #[error("there is no certificate in what was given as the workload's certificates")]
    NoCertificate,
    #[error("there is no root in the trust bundle")]
    NoRoot,
    #[error("the certificate expired {seconds} s ago: have a new one issued, or set the clock")]
    Expired { seconds: u64 },
    #[error("the certificate is not valid before {seconds} s from now: set the clock here or where it was issued")]
    NotYetValid { seconds: u64 },
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    #[error("the certificate is of {found}, not of {expected}")]
    OtherIdentity { expected: SpiffeId, found: SpiffeId },
    #[error("the certificate is not a workload's: {0}")]
    NotAWorkloads(CertificateFault),
    #[error("the TLS library refuses the identity: {0}")]
    Refused(String),
}

/// Which rule for a workload's certificate (SPIFFE X509-SVID) is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    #[error("it can't be read")]
    Unreadable,
    #[error("it names {0} URIs, and must name exactly one, its SPIFFE id")]
    Uris(usize),
    #[error("its URI `{uri}` is not a SPIFFE id: {why}")]
    Id { uri: String, why: SpiffeIdError },
    #[error("it is a certificate authority's")]
    Authority,
    #[error("its key usage must allow digital signatures and neither certificates nor revocation lists")]
    KeyUsage,
    #[error("its extended key usage must name both server and client authentication, or be absent")]
    ExtendedKeyUsage,
    #[error("it is of the trust domain {found}, not {expected}")]
    TrustDomain { expected: TrustDomain, found: TrustDomain },
}

impl From<CertificateFault> for HandshakeError {
    fn from(fault: CertificateFault) -> Self {
        Self::PeerUntrusted(fault.to_string())
    }
}
