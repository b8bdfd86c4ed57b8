//! Certificates as a test needs them.

use std::net::IpAddr;

use jfe_tls::{Endpoint, IdentityError};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};

pub const CLIENT: &str = "spiffe://test/client";
pub const SERVER: &str = "spiffe://test/server";

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What is to stand in a leaf certificate.
pub struct Leaf {
    pub uris: Vec<&'static str>,
    pub addresses: Vec<IpAddr>,
    /// Seconds from now.
    pub validity: (i64, i64),
    pub is_authority: bool,
    pub key_usages: Vec<KeyUsagePurpose>,
    pub extended_key_usages: Vec<ExtendedKeyUsagePurpose>,
}

/// PEM.
pub struct Credentials {
    pub certificates: String,
    pub key: String,
}

impl Leaf {
    pub fn of(id: &'static str) -> Self {
        Self {
            uris: vec![id],
            addresses: vec!["127.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            validity: (-60, 3600),
            is_authority: false,
            key_usages: vec![KeyUsagePurpose::DigitalSignature],
            extended_key_usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    fn parameters(&self) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        let now = OffsetDateTime::now_utc();
        parameters.not_before = now + Duration::seconds(self.validity.0);
        parameters.not_after = now + Duration::seconds(self.validity.1);
        parameters.subject_alt_names = self.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        parameters.subject_alt_names.extend(self.addresses.iter().map(|address| SanType::IpAddress(*address)));
        parameters.key_usages.clone_from(&self.key_usages);
        parameters.extended_key_usages.clone_from(&self.extended_key_usages);
        if self.is_authority {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        parameters
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(Self::parameters(name, 3600), KeyPair::generate().unwrap()).unwrap())
    }

    /// An authority below this one, for so many seconds.
    pub fn intermediate(&self, name: &str, seconds: i64) -> Self {
        let parameters = Self::parameters(name, seconds);
        Self(CertifiedIssuer::signed_by(parameters, KeyPair::generate().unwrap(), &self.0).unwrap())
    }

    fn parameters(name: &str, seconds: i64) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters.not_before = OffsetDateTime::now_utc() - Duration::seconds(60);
        parameters.not_after = OffsetDateTime::now_utc() + Duration::seconds(seconds);
        parameters
    }

    pub fn bundle(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, leaf: &Leaf) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.parameters().signed_by(&key, &self.0).unwrap();
        Credentials { certificates: certificate.pem(), key: key.serialize_pem() }
    }

    /// An endpoint that trusts this authority alone.
    pub fn endpoint(&self, id: &'static str) -> Endpoint {
        self.issue(&Leaf::of(id)).endpoint(id, &self.bundle()).unwrap()
    }
}

impl Credentials {
    pub fn endpoint(&self, id: &str, bundle: &str) -> Result<Endpoint, IdentityError> {
        Endpoint::from_pem(id, &self.certificates, &self.key, bundle)
    }

    pub fn below(mut self, intermediate: &Authority) -> Self {
        self.certificates += &intermediate.bundle();
        self
    }
}
