//! The shape of a protected record on the wire (RFC 8446, section 5).

use crate::RecordError;

/// Bytes before the plaintext: outer type, version, length.
pub const HEADER: usize = 5;
/// Bytes after the plaintext: inner content type, AEAD tag (16 bytes with each cipher of TLS 1.3 that we offer).
pub const TAIL: usize = 1 + TAG;
/// Plaintext bytes in one record at most (RFC 8446, section 5.1).
pub const MAX_PLAINTEXT: usize = 1 << 14;
/// Bytes of the largest record that we make.
pub const STRIDE: usize = HEADER + MAX_PLAINTEXT + TAIL;

pub(crate) const TAG: usize = 16;
/// Ciphertext bytes in one record at most: a peer may pad more than we do (RFC 8446, section 5.2).
const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;
/// Bytes of the largest record that a peer may send, header included.
pub(crate) const MAX_RECORD: usize = HEADER + MAX_CIPHERTEXT;

pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

/// Length in bytes, header included, of the protected record at the head of `bytes`; `None` while it is incomplete.
///
/// # Errors
/// The bytes can't be the head of a protected record: the stream is lost.
pub fn whole_record(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    if bytes.first().is_some_and(|&content| content != APPLICATION_DATA) {
        return Err(RecordError::UnexpectedRecord(bytes[0]));
    }
    let Some((length, whole)) = first_record(bytes) else {
        return Ok(None);
    };
    match length - HEADER {
        0..TAIL => Err(RecordError::Malformed),
        TAIL..=MAX_CIPHERTEXT => Ok(whole.then_some(length)),
        _ => Err(RecordError::Overflow),
    }
}

/// Length of the record of whatever kind at the head of `bytes`, header included, and whether all of it is there;
/// `None` while its header is not.
pub(crate) fn first_record(bytes: &[u8]) -> Option<(usize, bool)> {
    let header = bytes.first_chunk::<HEADER>()?;
    let length = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
    Some((length, bytes.len() >= length))
}

/// Whether `bytes` may begin what a TLS peer says first: a handshake message or an alert, version 3.x, of legal length.
pub(crate) fn may_begin_tls(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|&content| content == HANDSHAKE || content == ALERT)
        && bytes.get(1).is_none_or(|&major| major == 3)
        && first_record(bytes).is_none_or(|(length, _)| (1..=MAX_CIPHERTEXT).contains(&(length - HEADER)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHANGE_CIPHER_SPEC: u8 = 20;

    #[test]
    fn a_record_is_whole_when_its_last_byte_is_there() {
        let mut bytes = vec![APPLICATION_DATA, 3, 3, 0, 20];
        bytes.resize(HEADER + 19, 7);
        assert_eq!(whole_record(&bytes), Ok(None));
        bytes.push(7);
        assert_eq!(whole_record(&bytes), Ok(Some(25)));
        bytes.push(23);
        assert_eq!(whole_record(&bytes), Ok(Some(25)));
    }

    #[test]
    fn other_records_and_impossible_lengths_are_refused_by_their_header() {
        assert_eq!(whole_record(b"H"), Err(RecordError::UnexpectedRecord(b'H')));
        assert_eq!(whole_record(&[CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1]), Err(RecordError::UnexpectedRecord(20)));
        assert_eq!(whole_record(&[23, 3, 3, 0, 16]), Err(RecordError::Malformed));
        assert_eq!(whole_record(&[23, 3, 3, 0x41, 0]), Ok(None));
        assert_eq!(whole_record(&[23, 3, 3, 0x41, 1]), Err(RecordError::Overflow));
    }

    #[test]
    fn plaintext_is_seen_not_to_be_tls_by_its_first_bytes() {
        assert!(may_begin_tls(&[]));
        assert!(may_begin_tls(&[22, 3, 1, 2, 0, 1]));
        assert!(may_begin_tls(&[21, 3, 3, 0, 2]));
        for not_tls in [&b"S"[..], b"\x16\x02", b"\x16\x03\x01\x00\x00", b"\x16\x03\x01\xff\xff"] {
            assert!(!may_begin_tls(not_tls), "{not_tls:?}");
        }
    }

    proptest! {
        #[test]
        fn a_whole_record_lies_within_the_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64), tls: bool) {
            let mut bytes = bytes;
            if tls && bytes.len() > 3 {
                bytes[0] = APPLICATION_DATA;
                bytes[3] = 0;
            }
            if let Ok(Some(length)) = whole_record(&bytes) {
                prop_assert!(length >= HEADER + TAIL && length <= bytes.len());
            }
        }
    }
}
