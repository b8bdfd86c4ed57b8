//! The AEAD that protects records, by whichever library is faster on this processor.
//!
//! Both assemble the same code of OpenSSL and `BoringSSL` descent. aws-lc uses the wide AES instructions (VAES) only
//! together with AVX-512; ring uses them with AVX2 as well. On a processor with VAES and no AVX-512 (AMD Zen 3, Intel
//! Alder Lake) ring sealed records of 16 KiB at 6.3 GB/s where aws-lc did 3.7; with AVX-512 aws-lc is the faster one.

use aws_lc_rs::aead as aws_lc;
use ring::aead as ring_aead;

use crate::keys::Suite;
use crate::record::TAG;

pub(crate) const NONCE: usize = 12;

/// What opening finds wrong: the record was not made with this key, number and header.
#[derive(Debug)]
pub(crate) struct Forged;

#[expect(clippy::large_enum_variant, reason = "on one machine all are of the same variant")]
pub(crate) enum Protection {
    AwsLc(aws_lc::LessSafeKey),
    Ring(ring_aead::LessSafeKey),
}

impl Protection {
    /// `key`: [`Suite::key_length`] bytes.
    pub(crate) fn new(suite: Suite, key: &[u8]) -> Self {
        if wide_aes_without_avx512() && suite != Suite::ChaCha20Poly1305Sha256 {
            Self::by_ring(suite, key)
        } else {
            Self::by_aws_lc(suite, key)
        }
    }

    fn by_aws_lc(suite: Suite, key: &[u8]) -> Self {
        let algorithm = match suite {
            Suite::Aes128GcmSha256 => &aws_lc::AES_128_GCM,
            Suite::Aes256GcmSha384 => &aws_lc::AES_256_GCM,
            Suite::ChaCha20Poly1305Sha256 => &aws_lc::CHACHA20_POLY1305,
        };
        let key = aws_lc::UnboundKey::new(algorithm, key).expect("the key has the algorithm's own length");
        Self::AwsLc(aws_lc::LessSafeKey::new(key))
    }

    fn by_ring(suite: Suite, key: &[u8]) -> Self {
        let algorithm = match suite {
            Suite::Aes128GcmSha256 => &ring_aead::AES_128_GCM,
            Suite::Aes256GcmSha384 => &ring_aead::AES_256_GCM,
            Suite::ChaCha20Poly1305Sha256 => &ring_aead::CHACHA20_POLY1305,
        };
        let key = ring_aead::UnboundKey::new(algorithm, key).expect("the key has the algorithm's own length");
        Self::Ring(ring_aead::LessSafeKey::new(key))
    }

    /// Encrypts in place and returns the tag.
    pub(crate) fn seal(&self, nonce: [u8; NONCE], header: &[u8], plaintext: &mut [u8]) -> [u8; TAG] {
        let too_long = "AEADs refuse only what is longer than any record";
        let mut tag = [0; TAG];
        match self {
            Self::AwsLc(key) => {
                let (nonce, header) = (aws_lc::Nonce::assume_unique_for_key(nonce), aws_lc::Aad::from(header));
                let made = key.seal_in_place_separate_tag(nonce, header, plaintext).expect(too_long);
                tag.copy_from_slice(made.as_ref());
            }
            Self::Ring(key) => {
                let (nonce, header) = (ring_aead::Nonce::assume_unique_for_key(nonce), ring_aead::Aad::from(header));
                let made = key.seal_in_place_separate_tag(nonce, header, plaintext).expect(too_long);
                tag.copy_from_slice(made.as_ref());
            }
        }
        tag
    }

    /// Decrypts in place what ends in a tag, and returns what stands before it.
    pub(crate) fn open<'b>(
        &self,
        nonce: [u8; NONCE],
        header: &[u8],
        ciphertext: &'b mut [u8],
    ) -> Result<&'b mut [u8], Forged> {
        match self {
            Self::AwsLc(key) => {
                let (nonce, header) = (aws_lc::Nonce::assume_unique_for_key(nonce), aws_lc::Aad::from(header));
                key.open_in_place(nonce, header, ciphertext).map_err(|_| Forged)
            }
            Self::Ring(key) => {
                let (nonce, header) = (ring_aead::Nonce::assume_unique_for_key(nonce), ring_aead::Aad::from(header));
                key.open_in_place(nonce, header, ciphertext).map_err(|_| Forged)
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn wide_aes_without_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("vaes") && has!("vpclmulqdq") && has!("avx2") && !(has!("avx512f") && has!("avx512bw") && has!("avx512vl"))
}

#[cfg(not(target_arch = "x86_64"))]
fn wide_aes_without_avx512() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [(Suite, usize); 3] =
        [(Suite::Aes128GcmSha256, 16), (Suite::Aes256GcmSha384, 32), (Suite::ChaCha20Poly1305Sha256, 32)];

    #[test]
    fn what_either_library_seals_the_other_opens_at_every_length() {
        for (suite, key_length) in SUITES {
            let key = vec![7; key_length];
            let both = [Protection::by_aws_lc(suite, &key), Protection::by_ring(suite, &key)];
            for length in (0..600).chain([1369, 4096, 16_385]) {
                for (sealer, opener) in [(&both[0], &both[1]), (&both[1], &both[0])] {
                    let mut record: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
                    let plaintext = record.clone();
                    let tag = sealer.seal([3; NONCE], b"head", &mut record);
                    record.extend(tag);
                    assert_eq!(opener.open([3; NONCE], b"head", &mut record.clone()).unwrap(), plaintext);
                    record[length / 2] ^= 1;
                    assert!(opener.open([3; NONCE], b"head", &mut record).is_err());
                }
            }
        }
    }
}
