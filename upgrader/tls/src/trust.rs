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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType};
    use time::OffsetDateTime;

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    /// Valid from second 0 to `not_after`.
    fn parameters(not_after: i64, usage: KeyUsagePurpose) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.not_before = OffsetDateTime::UNIX_EPOCH;
        parameters.not_after = OffsetDateTime::from_unix_timestamp(not_after).unwrap();
        parameters.key_usages = vec![usage];
        parameters
    }

    fn authority(name: &str, not_after: i64, above: Option<&Authority>) -> Authority {
        let mut parameters = parameters(not_after, KeyUsagePurpose::KeyCertSign);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        match above {
            Some(above) => CertifiedIssuer::signed_by(parameters, key, above).unwrap(),
            None => CertifiedIssuer::self_signed(parameters, key).unwrap(),
        }
    }

    fn leaf(not_after: i64, authority: &Authority) -> CertificateDer<'static> {
        let mut parameters = parameters(not_after, KeyUsagePurpose::DigitalSignature);
        parameters.subject_alt_names = vec![SanType::URI("spiffe://test/x".try_into().unwrap())];
        parameters.signed_by(&KeyPair::generate().unwrap(), authority).unwrap().der().clone()
    }

    fn trust(root: &Authority) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(root.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let bundle = Fingerprint::of([root.der().as_ref()]);
        Trust::new(roots, bundle, "test".parse().unwrap(), &provider, Arc::default()).unwrap()
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn a_remembered_leaf_is_not_good_for_longer_than_itself() {
        let root = authority("root", 1_000, None);
        let (trust, leaf) = (trust(&root), leaf(500, &root));
        for role in [Role::Client, Role::Server] {
            for good in [100, 100, 500] {
                assert!(trust.judge(role, &leaf, &[], at(good)).is_ok());
            }
            assert!(trust.judge(role, &leaf, &[], at(501)).is_err());
        }
        assert_eq!(trust.remembered.len(), 2);
    }

    #[test]
    fn nor_for_longer_than_what_is_above_it() {
        let root = authority("root", 1_000, None);
        let middle = authority("middle", 300, Some(&root));
        let (trust, leaf, middle) = (trust(&root), leaf(500, &middle), [middle.der().clone()]);
        assert!(trust.judge(Role::Server, &leaf, &middle, at(300)).is_ok());
        assert!(trust.judge(Role::Server, &leaf, &middle, at(300)).is_ok());
        assert!(trust.judge(Role::Server, &leaf, &middle, at(301)).is_err());
    }

    #[test]
    fn what_was_refused_is_not_remembered() {
        let (root, other) = (authority("root", 1_000, None), authority("other", 1_000, None));
        let trust = trust(&root);
        assert!(trust.judge(Role::Client, &leaf(500, &other), &[], at(1)).is_err());
        assert!(trust.remembered.is_empty());
    }
}
