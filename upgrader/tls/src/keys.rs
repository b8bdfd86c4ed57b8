//! Traffic secrets, and the keys that come from them (RFC 8446, sections 5.2, 5.3, 7.2 and 7.3).

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::RecordError;
use crate::protection::{Forged, NONCE, Protection};
use crate::record::{APPLICATION_DATA, HEADER, MAX_PLAINTEXT, TAG, TAIL, whole_record};

/// Bytes of the longest secret: SHA-384's output.
const MAX_SECRET: usize = 48;
/// Bytes of the longest AEAD key.
const MAX_KEY: usize = 32;
/// What each label of TLS 1.3 begins with (RFC 8446, section 7.1).
const PREFIX: &[u8] = b"tls13 ";

/// A cipher suite of TLS 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    Aes128GcmSha256,
    Aes256GcmSha384,
    ChaCha20Poly1305Sha256,
}

impl Suite {
    pub(crate) fn of(suite: rustls::CipherSuite) -> Option<Self> {
        match suite {
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Self::Aes128GcmSha256),
            rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Self::Aes256GcmSha384),
            rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Self::ChaCha20Poly1305Sha256),
            _ => None,
        }
    }

    /// The name in IANA's registry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128GcmSha256 => "TLS_AES_128_GCM_SHA256",
            Self::Aes256GcmSha384 => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20Poly1305Sha256 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    fn key_length(self) -> usize {
        match self {
            Self::Aes128GcmSha256 => 16,
            Self::Aes256GcmSha384 | Self::ChaCha20Poly1305Sha256 => 32,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128GcmSha256 | Self::ChaCha20Poly1305Sha256 => hkdf::HKDF_SHA256,
            Self::Aes256GcmSha384 => hkdf::HKDF_SHA384,
        }
    }

    fn secret_length(self) -> usize {
        self.hkdf().hmac_algorithm().digest_algorithm().output_len()
    }
}

/// One direction's traffic secret: with the sequence number it is all that a direction consists of.
/// Erased when it is dropped.
#[derive(Clone)]
pub struct Secret {
    suite: Suite,
    bytes: Zeroizing<[u8; MAX_SECRET]>,
}

impl Secret {
    /// `None` if the suite's secrets have another length.
    pub fn new(suite: Suite, secret: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; MAX_SECRET]);
        if secret.len() != suite.secret_length() {
            return None;
        }
        bytes[..secret.len()].copy_from_slice(secret);
        Some(Self { suite, bytes })
    }

    /// HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
    fn expand(&self, label: &[u8], out: &mut [u8]) {
        let secret = hkdf::Prk::new_less_safe(self.suite.hkdf(), &self.bytes[..self.suite.secret_length()]);
        let [.., high, low] = out.len().to_be_bytes();
        let [.., label_length] = (PREFIX.len() + label.len()).to_be_bytes();
        secret
            .expand(&[&[high, low, label_length], PREFIX, label, &[0]], Length(out.len()))
            .and_then(|expanded| expanded.fill(out))
            .expect("HKDF expands to 255 hashes, and at most one is asked for");
    }

    fn next(&self) -> Self {
        let mut next = self.clone();
        self.expand(b"traffic upd", &mut next.bytes[..self.suite.secret_length()]);
        next
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// What protects, or opens, one direction's records.
pub(crate) struct Keys {
    key: Protection,
    iv: [u8; NONCE],
    sequence: u64,
    secret: Secret,
}

impl Keys {
    pub(crate) fn new(secret: Secret, sequence: u64) -> Self {
        let mut key = Zeroizing::new([0; MAX_KEY]);
        let key = &mut key[..secret.suite.key_length()];
        let mut iv = [0; NONCE];
        secret.expand(b"key", key);
        secret.expand(b"iv", &mut iv);
        Self { key: Protection::new(secret.suite, key), iv, sequence, secret }
    }

    /// Turns to the next secret; the old one is erased.
    pub(crate) fn update(&mut self) {
        *self = Self::new(self.secret.next(), 0);
    }

    /// Number of the next record under the present key.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    fn nonce(&mut self) -> [u8; NONCE] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        nonce
    }

    /// Makes the `length` bytes at `record[HEADER..]` a record of inner type `content`; its length is returned.
    pub(crate) fn seal(&mut self, content: u8, record: &mut [u8], length: usize) -> usize {
        assert!(length <= MAX_PLAINTEXT, "a record holds {MAX_PLAINTEXT} bytes at most, not {length}");
        let (record, _) = record.split_at_mut(HEADER + length + TAIL);
        let (header, body) = record.split_at_mut(HEADER);
        let [.., high, low] = (length + TAIL).to_be_bytes();
        header.copy_from_slice(&[APPLICATION_DATA, 3, 3, high, low]);
        let nonce = self.nonce();
        let (plaintext, tag) = body.split_at_mut(length + 1);
        plaintext[length] = content;
        tag.copy_from_slice(&self.key.seal(nonce, header, plaintext));
        HEADER + length + TAIL
    }

    /// Opens one whole record in place: its inner type, and the length of the plaintext at `record[HEADER..]`.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<(u8, usize), RecordError> {
        if whole_record(record)? != Some(record.len()) {
            return Err(RecordError::Malformed);
        }
        let nonce = self.nonce();
        let (header, body) = record.split_at_mut(HEADER);
        let opened = self.key.open(nonce, header, body).map_err(|Forged| RecordError::BadMac)?;
        if opened.len() > MAX_PLAINTEXT + 1 {
            return Err(RecordError::Overflow);
        }
        // Zeros after the type are padding (RFC 8446, section 5.4).
        let length = opened.iter().rposition(|&byte| byte != 0).ok_or(RecordError::UnexpectedMessage)?;
        Ok((opened[length], length))
    }
}

const _: () = assert!(TAG == 16 && MAX_PLAINTEXT + TAIL <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// RFC 8448, section 3: the client's first record of data.
    const SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    const RECORD: &str =
        "1703030043 a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b
        62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";

    fn keys() -> Keys {
        Keys::new(Secret::new(Suite::Aes128GcmSha256, &bytes(SECRET)).unwrap(), 0)
    }

    #[test]
    fn the_record_of_rfc_8448_is_made_and_opened() {
        let plaintext: Vec<u8> = (0..50).collect();
        let mut record = vec![0; HEADER + 50 + TAIL];
        record[HEADER..HEADER + 50].copy_from_slice(&plaintext);
        assert_eq!(keys().seal(APPLICATION_DATA, &mut record, 50), record.len());
        assert_eq!(record, bytes(RECORD));
        assert_eq!(keys().open(&mut record), Ok((APPLICATION_DATA, 50)));
        assert_eq!(record[HEADER..HEADER + 50], plaintext);
    }

    #[test]
    fn a_secret_of_the_wrong_length_is_none() {
        assert!(Secret::new(Suite::Aes128GcmSha256, &[0; 48]).is_none());
        assert!(Secret::new(Suite::Aes256GcmSha384, &[0; 32]).is_none());
        assert!(Secret::new(Suite::Aes256GcmSha384, &[0; 48]).is_some());
    }

    #[test]
    fn an_update_changes_the_key_and_starts_counting_anew() {
        let (mut sealing, mut opening) = (keys(), keys());
        let mut record = [0; HEADER + 1 + TAIL];
        sealing.seal(APPLICATION_DATA, &mut record, 1);
        sealing.update();
        assert_eq!(sealing.sequence(), 0);
        sealing.seal(APPLICATION_DATA, &mut record, 1);
        assert_eq!(opening.open(&mut record.clone()), Err(RecordError::BadMac));
        opening.update();
        assert_eq!(opening.open(&mut record), Ok((APPLICATION_DATA, 1)));
    }

    #[test]
    fn padding_is_taken_off_and_a_record_of_padding_alone_refused() {
        let mut record = [0; HEADER + 3 + TAIL];
        record[HEADER..HEADER + 3].copy_from_slice(&[7, APPLICATION_DATA, 0]);
        keys().seal(0, &mut record, 3);
        assert_eq!(keys().open(&mut record), Ok((APPLICATION_DATA, 1)));
        let mut record = [0; HEADER + 3 + TAIL];
        keys().seal(0, &mut record, 3);
        assert_eq!(keys().open(&mut record), Err(RecordError::UnexpectedMessage));
    }

    #[test]
    fn more_plaintext_than_allowed_is_refused_though_its_ciphertext_is_short_enough() {
        let length = MAX_PLAINTEXT + 1;
        let mut record = vec![0; HEADER + length + TAIL];
        let [.., high, low] = (length + TAIL).to_be_bytes();
        record[..HEADER].copy_from_slice(&[APPLICATION_DATA, 3, 3, high, low]);
        record[HEADER + length] = APPLICATION_DATA;
        let mut sealing = keys();
        let nonce = sealing.nonce();
        let (header, body) = record.split_at_mut(HEADER);
        let (plaintext, tag) = body.split_at_mut(length + 1);
        tag.copy_from_slice(&sealing.key.seal(nonce, header, plaintext));
        assert_eq!(keys().open(&mut record), Err(RecordError::Overflow));
    }
}
