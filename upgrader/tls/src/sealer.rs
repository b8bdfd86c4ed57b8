//! The direction to the peer.

use std::fmt;

use crate::keys::{Keys, Secret};
use crate::record::{ALERT, APPLICATION_DATA, HANDSHAKE, HEADER, TAIL};

/// Records under one key before it should be changed. AES-GCM bears 2^24.5 full ones (RFC 8446, section 5.5).
pub const KEY_UPDATE_AFTER: u64 = 1 << 23;

/// `KeyUpdate` (RFC 8446, section 4.6.3).
pub(crate) const KEY_UPDATE: u8 = 24;

const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;

/// Protects what is sent to the peer.
pub struct Sealer {
    keys: Keys,
    key_update_after: u64,
}

impl Sealer {
    /// `sequence` is the number of the next record under `secret`.
    pub fn new(secret: Secret, sequence: u64) -> Self {
        Self::with_key_update_after(secret, sequence, KEY_UPDATE_AFTER)
    }

    /// One that wants its key changed after another number of records.
    pub fn with_key_update_after(secret: Secret, sequence: u64, records: u64) -> Self {
        Self { keys: Keys::new(secret, sequence), key_update_after: records }
    }

    /// Makes a record in place: `length` plaintext bytes are at `record[HEADER..]` already, and the record is then
    /// `record[..returned]`. `returned` is `HEADER + length + TAIL`.
    ///
    /// # Panics
    /// If `length` is above [`crate::MAX_PLAINTEXT`], or `record` too short for the header and tail.
    pub fn seal_data(&mut self, record: &mut [u8], length: usize) -> usize {
        self.keys.seal(APPLICATION_DATA, record, length)
    }

    /// Appends a `close_notify`: no more data comes from here. The other direction may go on.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.append(ALERT, &[WARNING, CLOSE_NOTIFY], out);
    }

    /// Appends a fatal alert; `description` as in RFC 8446, section 6.2.
    pub fn alert(&mut self, description: u8, out: &mut Vec<u8>) {
        self.append(ALERT, &[FATAL, description], out);
    }

    /// Whether [`Sealer::key_update`] is due before the next data.
    pub fn wants_key_update(&self) -> bool {
        self.keys.sequence() >= self.key_update_after
    }

    /// Appends a `KeyUpdate` under the present key, then turns to the next. Not to be called while a sealed record is
    /// still to be appended to the stream before it: records go out in the order in which they were sealed.
    pub fn key_update(&mut self, request_peer: bool, out: &mut Vec<u8>) {
        self.append(HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, u8::from(request_peer)], out);
        self.keys.update();
    }

    fn append(&mut self, content: u8, plaintext: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEADER + plaintext.len() + TAIL, 0);
        out[start + HEADER..][..plaintext.len()].copy_from_slice(plaintext);
        self.keys.seal(content, &mut out[start..], plaintext.len());
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("sequence", &self.keys.sequence()).finish_non_exhaustive()
    }
}
