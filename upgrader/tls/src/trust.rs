//! Whether a peer's certificate is good: its chain, its form, its trust domain.

use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, server::VerifierBuilderError};

use crate::certificate::{Leaf, read_validity};
use crate::error::CertificateFault;
use crate::remembered::Fingerprint;
use crate::{HandshakeError, Peer, RememberedCertificates, Role, TrustDomain};

/// Whom an endpoint trusts.
#[derive(Debug)]
pub(crate) struct Trust {
    roots: Arc<RootCertStore>,
    /// Over all roots.
    bundle: Fingerprint,
    domain: TrustDomain,
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
    remembered: Arc<RememberedCertificates>,
}

impl Trust {
    pub(crate) fn new(
        roots: RootCertStore,
        bundle: Fingerprint,
        domain: TrustDomain,
        provider: &Arc<CryptoProvider>,
        remembered: Arc<RememberedCertificates>,
    ) -> Result<Self, VerifierBuilderError> {
        let roots = Arc::new(roots);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { roots, bundle, domain, clients, algorithms, remembered })
    }

    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// Whose certificate it is. That the peer holds its key is for the caller to check.
    pub(crate) fn judge(
        &self,
        role: Role,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Arc<Peer>, rustls::Error> {
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let role_byte = [role as u8];
        let domain = self.domain.as_str().as_bytes();
        let fingerprint = Fingerprint::of([self.bundle.bytes(), domain, &role_byte, leaf.as_ref()]);
        if let Some(peer) = self.remembered.recall(&fingerprint, seconds) {
            return Ok(peer);
        }
        self.verify_chain(role, leaf, intermediates, now)?;
        let read = Leaf::read(leaf).map_err(HandshakeError::from)?;
        let found = read.peer.identity.trust_domain();
        if found != self.domain {
            let expected = self.domain.clone();
            return Err(HandshakeError::from(CertificateFault::TrustDomain { expected, found }).into());
        }
        let mut not_after = read.validity.not_after;
        for intermediate in intermediates {
            not_after = not_after.min(read_validity(intermediate).map_err(HandshakeError::from)?.not_after);
        }
        let peer = Arc::new(read.peer);
        self.remembered.remember(fingerprint, peer.clone(), not_after, seconds);
        Ok(peer)
    }

    fn verify_chain(
        &self,
        role: Role,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match role {
            Role::Client => self.clients.verify_client_cert(leaf, intermediates, now).map(|_| ()),
            Role::Server => verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(leaf)?,
                &self.roots,
                intermediates,
                now,
                self.algorithms.all,
            ),
        }
    }
}
