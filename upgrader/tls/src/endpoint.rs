//! A workload's identity, and the handshakes it can make.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs as aws_lc};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, Error, InconsistentKeys, RootCertStore, ServerConfig};

use crate::certificate::{Leaf, Validity};
use crate::exchange::NoteSecrets;
use crate::remembered::Fingerprint;
use crate::side::Side;
use crate::trust::Trust;
use crate::verify::Verifier;
use crate::{Expectation, Handshake, IdentityError, RememberedCertificates, SpiffeId};

/// The protocol that two upgraders agree upon.
pub(crate) const ALPN: &[u8] = b"jfe/1";

/// One workload's identity and whom it trusts, ready for handshakes; cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    identity: SpiffeId,
    client: Arc<ClientConfig>,
    mutual_server: Arc<ServerConfig>,
    stranger_server: Arc<ServerConfig>,
}

impl Endpoint {
    /// As [`Endpoint::remembering`], with a memory of its own.
    pub fn from_pem(
        identity_id: &str,
        certificates: &str,
        key: &str,
        trust_bundle: &str,
    ) -> Result<Self, IdentityError> {
        Self::remembering(identity_id, certificates, key, trust_bundle, &Arc::default())
    }

    /// `certificates`: PEM, leaf first. `key`: PEM. `trust_bundle`: PEM, one or more roots. Peers' certificates once
    /// verified are kept in `remembered`, which other endpoints may share.
    pub fn remembering(
        identity_id: &str,
        certificates: &str,
        key: &str,
        trust_bundle: &str,
        remembered: &Arc<RememberedCertificates>,
    ) -> Result<Self, IdentityError> {
        let identity: SpiffeId =
            identity_id.parse().map_err(|why| IdentityError::Id { id: identity_id.into(), why })?;
        let chain = read_certificates("certificate", certificates)?;
        let leaf =
            Leaf::read(chain.first().ok_or(IdentityError::NoCertificate)?).map_err(IdentityError::NotAWorkloads)?;
        check_validity(leaf.validity)?;
        if leaf.peer.identity != identity {
            return Err(IdentityError::OtherIdentity { expected: identity, found: leaf.peer.identity });
        }
        let provider = Arc::new(provider());
        let own = Arc::new(SingleCertAndKey::from(certified_key(chain, key, &provider)?));
        let (roots, bundle) = read_bundle(trust_bundle)?;
        let trust = Trust::new(roots, bundle, identity.trust_domain(), &provider, remembered.clone())
            .map_err(|error| IdentityError::Refused(error.to_string()))?;
        let verifier = Arc::new(Verifier(Arc::new(trust)));
        let refused = |error: Error| IdentityError::Refused(error.to_string());
        Ok(Self {
            identity,
            client: Arc::new(client(&provider, verifier.clone(), own.clone()).map_err(refused)?),
            mutual_server: Arc::new(server(&provider, Some(verifier), own.clone()).map_err(refused)?),
            stranger_server: Arc::new(server(&provider, None, own).map_err(refused)?),
        })
    }

    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// A client's handshake with a peer that must be the expected one. The peer is judged before our own certificate
    /// is shown to it.
    pub fn connect(&self, expectation: Expectation) -> Handshake {
        // Not sent, nor looked at by our verifier.
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let side = UnbufferedClientConnection::new(self.client.clone(), name);
        Handshake::new(side.map(|client| Side::Client(Box::new(client))), true, Some(expectation))
    }

    /// A server's handshake with a peer that must show a certificate of the trust domain.
    pub fn accept_mutual(&self) -> Handshake {
        let side = UnbufferedServerConnection::new(self.mutual_server.clone());
        Handshake::new(side.map(|server| Side::Server(Box::new(server))), true, None)
    }

    /// A server's handshake with a client that is asked for no certificate.
    pub fn accept_stranger(&self) -> Handshake {
        let side = UnbufferedServerConnection::new(self.stranger_server.clone());
        Handshake::new(side.map(|server| Side::Server(Box::new(server))), false, None)
    }
}

fn provider() -> CryptoProvider {
    use aws_lc::{cipher_suite, kx_group};
    CryptoProvider {
        // SHA-256 makes cheaper handshakes than SHA-384.
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..aws_lc::default_provider()
    }
}

fn client(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<Verifier>,
    own: Arc<SingleCertAndKey>,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(own);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_secret_extraction = true;
    config.enable_sni = false;
    config.key_log = Arc::new(NoteSecrets);
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Without a verifier, for strangers.
fn server(
    provider: &Arc<CryptoProvider>,
    verifier: Option<Arc<Verifier>>,
    own: Arc<SingleCertAndKey>,
) -> Result<ServerConfig, Error> {
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?;
    let mut config = match verifier {
        Some(verifier) => {
            let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(own);
            config.alpn_protocols = vec![ALPN.to_vec()];
            config
        }
        None => builder.with_no_client_auth().with_cert_resolver(own),
    };
    config.enable_secret_extraction = true;
    config.key_log = Arc::new(NoteSecrets);
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: &str,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, IdentityError> {
    let unreadable = |why: String| IdentityError::Unreadable { part: "private key", why };
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => IdentityError::KeyMismatch,
        other => unreadable(other.to_string()),
    })
}

fn read_bundle(pem: &str) -> Result<(RootCertStore, Fingerprint), IdentityError> {
    let certificates = read_certificates("trust bundle", pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| IdentityError::Unreadable { part: "trust bundle", why: error.to_string() })?;
    }
    if roots.is_empty() {
        return Err(IdentityError::NoRoot);
    }
    Ok((roots, Fingerprint::of(certificates.iter().map(AsRef::as_ref))))
}

fn read_certificates(part: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| IdentityError::Unreadable { part, why: error.to_string() })
}

fn check_validity(validity: Validity) -> Result<(), IdentityError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    if now > validity.not_after {
        return Err(IdentityError::Expired { seconds: now.abs_diff(validity.not_after) });
    }
    if now < validity.not_before {
        return Err(IdentityError::NotYetValid { seconds: now.abs_diff(validity.not_before) });
    }
    Ok(())
}
