//! What a workload's certificate says, by the rules of SPIFFE's X509-SVID
//! (<https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md>, sections 2 and 4).

use std::net::IpAddr;

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::error::CertificateFault;
use crate::{Peer, SpiffeId};

/// What is of interest in a leaf certificate. That it is signed by someone is not shown by this.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) peer: Peer,
    pub(crate) validity: Validity,
}

/// Seconds since 1970, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Leaf {
    pub(crate) fn read(der: &[u8]) -> Result<Self, CertificateFault> {
        let certificate = parse(der)?;
        check_usage(&certificate)?;
        let (mut uris, mut addresses) = (Vec::new(), Vec::new());
        let names = certificate.subject_alternative_name().map_err(|_| CertificateFault::Unreadable)?;
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push(*uri),
                GeneralName::IPAddress(bytes) => addresses.push(address(bytes)?),
                _ => {}
            }
        }
        let [uri] = uris[..] else {
            return Err(CertificateFault::Uris(uris.len()));
        };
        let identity: SpiffeId = uri.parse().map_err(|why| CertificateFault::Id { uri: uri.into(), why })?;
        Ok(Self { peer: Peer { identity, addresses }, validity: validity(&certificate) })
    }
}

/// Validity of any certificate.
pub(crate) fn read_validity(der: &[u8]) -> Result<Validity, CertificateFault> {
    parse(der).map(|certificate| validity(&certificate))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateFault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(CertificateFault::Unreadable),
    }
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    let validity = certificate.validity();
    Validity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() }
}

fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), CertificateFault> {
    let unreadable = |_| CertificateFault::Unreadable;
    if certificate.basic_constraints().map_err(unreadable)?.is_some_and(|constraints| constraints.value.ca) {
        return Err(CertificateFault::Authority);
    }
    let signs_only = certificate.key_usage().map_err(unreadable)?.is_some_and(|usage| {
        usage.value.digital_signature() && !usage.value.key_cert_sign() && !usage.value.crl_sign()
    });
    if !signs_only {
        return Err(CertificateFault::KeyUsage);
    }
    let both = certificate
        .extended_key_usage()
        .map_err(unreadable)?
        .is_none_or(|usage| usage.value.server_auth && usage.value.client_auth);
    if !both {
        return Err(CertificateFault::ExtendedKeyUsage);
    }
    Ok(())
}

fn address(bytes: &[u8]) -> Result<IpAddr, CertificateFault> {
    let address = <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| CertificateFault::Unreadable)?;
    Ok(address.to_canonical())
}
