//! SPIFFE ids (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>), parsed once and never checked again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of an id at most (SPIFFE-ID, section 2.3).
const MAX_ID: usize = 2048;
/// Bytes of a trust domain at most (the same section, after RFC 3986).
const MAX_TRUST_DOMAIN: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    #[error("it must begin with spiffe://")]
    Scheme,
    #[error("its trust domain must be 1 to 255 of a-z 0-9 . - _")]
    TrustDomain,
    #[error("it must have a path after the trust domain")]
    NoPath,
    #[error("each part of its path must be of a-z A-Z 0-9 . - _, and not empty, `.` or `..`")]
    Path,
    #[error("it is longer than 2048 bytes")]
    TooLong,
}

/// The DOMAIN of `spiffe://DOMAIN/PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// `spiffe://DOMAIN/PATH`, a workload's: the path is never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(Arc<str>);

impl TrustDomain {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(name: &str) -> Result<Self, SpiffeIdError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        if name.is_empty() || name.len() > MAX_TRUST_DOMAIN || !name.bytes().all(allowed) {
            return Err(SpiffeIdError::TrustDomain);
        }
        Ok(Self(name.into()))
    }
}

impl SpiffeId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn trust_domain(&self) -> TrustDomain {
        let after_scheme = self.0.strip_prefix("spiffe://").unwrap_or_default();
        TrustDomain(after_scheme.split('/').next().unwrap_or_default().into())
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(id: &str) -> Result<Self, SpiffeIdError> {
        if id.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = id.strip_prefix("spiffe://").ok_or(SpiffeIdError::Scheme)?;
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        domain.parse::<TrustDomain>()?;
        if path.is_empty() {
            return Err(SpiffeIdError::NoPath);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
        let legal = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
        if !path.split('/').all(legal) {
            return Err(SpiffeIdError::Path);
        }
        Ok(Self(id.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_text_and_knows_its_trust_domain() {
        let id: SpiffeId = "spiffe://cluster.local/ns/a/sa/B_1".parse().unwrap();
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/a/sa/B_1");
        assert_eq!(id.trust_domain(), "cluster.local".parse().unwrap());
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        use SpiffeIdError::{NoPath, Path, Scheme, TooLong, TrustDomain};
        for (text, why) in [
            ("https://d/x", Scheme),
            ("SPIFFE://d/x", Scheme),
            ("spiffe:///x", TrustDomain),
            ("spiffe://D/x", TrustDomain),
            ("spiffe://u@d/x", TrustDomain),
            ("spiffe://d:1/x", TrustDomain),
            ("spiffe://d", NoPath),
            ("spiffe://d/", NoPath),
            ("spiffe://d/x/", Path),
            ("spiffe://d//x", Path),
            ("spiffe://d/./x", Path),
            ("spiffe://d/../x", Path),
            ("spiffe://d/x?y", Path),
            ("spiffe://d/x#y", Path),
            ("spiffe://d/%41", Path),
            ("spiffe://d/ü", Path),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(why), "{text}");
        }
        assert_eq!(format!("spiffe://d/{}", "x".repeat(2048)).parse::<SpiffeId>(), Err(TooLong));
        assert_eq!(format!("spiffe://{}/x", "d".repeat(256)).parse::<SpiffeId>(), Err(TrustDomain));
    }
}
