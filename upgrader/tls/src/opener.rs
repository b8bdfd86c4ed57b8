//! The direction from the peer.

use std::fmt;
use std::ops::Range;

use crate::RecordError;
use crate::keys::{Keys, Secret};
use crate::message::Messages;
use crate::peer::Role;
use crate::record::{ALERT, APPLICATION_DATA, HANDSHAKE, HEADER};

/// Records in a row that may carry no data: a peer that sends more only costs us work.
const MAX_RECORDS_WITHOUT_DATA: u8 = 64;

const CLOSE_NOTIFY: u8 = 0;
/// Says why a `close_notify` follows (RFC 8446, section 6.1).
const USER_CANCELED: u8 = 90;

/// Opens what comes from the peer.
pub struct Opener {
    keys: Keys,
    messages: Messages,
    sender: Role,
    records_without_data: u8,
    closed: bool,
}

/// What was in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Where in the record the plaintext lies now; never empty.
    Data(Range<usize>),
    /// Nothing that matters here.
    Nothing,
    /// The peer has changed its key. If it asks for an answer, call [`crate::Sealer::key_update`] (without a request)
    /// before the next data.
    KeyUpdate { answer_requested: bool },
    /// The peer sends no more; the direction to it may go on. End of file without this is a truncated stream.
    CloseNotify,
}

impl Opener {
    /// `sequence` is the number of the next record under `secret`.
    pub fn new(secret: Secret, sequence: u64, sender: Role) -> Self {
        let keys = Keys::new(secret, sequence);
        Self { keys, messages: Messages::default(), sender, records_without_data: 0, closed: false }
    }

    /// Opens one whole record (see [`crate::whole_record`]) in place. After a `close_notify`, whatever comes is ignored
    /// and answered with [`Opened::CloseNotify`] again.
    ///
    /// # Errors
    /// The connection must end, with [`RecordError::alert`] if there is one.
    pub fn open(&mut self, record: &mut [u8]) -> Result<Opened, RecordError> {
        if self.closed {
            return Ok(Opened::CloseNotify);
        }
        let (content, length) = self.keys.open(record)?;
        let place = HEADER..HEADER + length;
        if content == APPLICATION_DATA && length > 0 && self.messages.between() {
            self.records_without_data = 0;
            return Ok(Opened::Data(place));
        }
        self.records_without_data += 1;
        if self.records_without_data > MAX_RECORDS_WITHOUT_DATA {
            return Err(RecordError::Flood(MAX_RECORDS_WITHOUT_DATA));
        }
        match (content, &record[place]) {
            (HANDSHAKE, messages @ [_, ..]) => self.read_messages(messages),
            (APPLICATION_DATA, []) if self.messages.between() => Ok(Opened::Nothing),
            (ALERT, alert) if self.messages.between() => self.read_alert(alert),
            _ => Err(RecordError::UnexpectedMessage),
        }
    }

    fn read_messages(&mut self, messages: &[u8]) -> Result<Opened, RecordError> {
        match self.messages.read(messages, self.sender == Role::Server)? {
            None => Ok(Opened::Nothing),
            Some(answer_requested) => {
                self.keys.update();
                Ok(Opened::KeyUpdate { answer_requested })
            }
        }
    }

    fn read_alert(&mut self, alert: &[u8]) -> Result<Opened, RecordError> {
        match alert {
            [_, CLOSE_NOTIFY] => {
                self.closed = true;
                Ok(Opened::CloseNotify)
            }
            [_, USER_CANCELED] => Ok(Opened::Nothing),
            [_, description] => Err(RecordError::PeerAlert(*description)),
            _ => Err(RecordError::Malformed),
        }
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("sequence", &self.keys.sequence()).finish_non_exhaustive()
    }
}
