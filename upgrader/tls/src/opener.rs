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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Suite;
    use crate::record::TAIL;
    use crate::{RecordError, Sealer};

    fn secret() -> Secret {
        Secret::new(Suite::ChaCha20Poly1305Sha256, &[7; 32]).unwrap()
    }

    /// Opens records of these types and contents, one after the other.
    fn open(sender: Role, records: &[(u8, &[u8])]) -> Vec<Result<Opened, RecordError>> {
        let (mut keys, mut opener) = (Keys::new(secret(), 0), Opener::new(secret(), 0, sender));
        let open = |(content, plaintext): &(u8, &[u8])| {
            let mut record = vec![0; HEADER + plaintext.len() + TAIL];
            record[HEADER..HEADER + plaintext.len()].copy_from_slice(plaintext);
            keys.seal(*content, &mut record, plaintext.len());
            opener.open(&mut record)
        };
        records.iter().map(open).collect()
    }

    fn last(sender: Role, records: &[(u8, &[u8])]) -> Result<Opened, RecordError> {
        open(sender, records).pop().unwrap()
    }

    #[test]
    fn a_key_update_in_two_records_changes_the_key_after_the_second() {
        let opened =
            open(Role::Client, &[(HANDSHAKE, &[24, 0, 0]), (HANDSHAKE, &[1, 1]), (APPLICATION_DATA, b"old key")]);
        assert_eq!(opened[..2], [Ok(Opened::Nothing), Ok(Opened::KeyUpdate { answer_requested: true })]);
        assert_eq!(opened[2], Err(RecordError::BadMac));
    }

    #[test]
    fn nothing_may_come_between_the_pieces_of_a_message() {
        for between in [(APPLICATION_DATA, &b"x"[..]), (APPLICATION_DATA, b""), (ALERT, &[1, 0])] {
            let error = last(Role::Client, &[(HANDSHAKE, &[24, 0]), between]);
            assert_eq!(error, Err(RecordError::UnexpectedMessage), "{between:?}");
        }
    }

    #[test]
    fn a_server_may_send_tickets_and_a_client_may_not() {
        let ticket = (HANDSHAKE, &[4, 0, 0, 2, 0, 0][..]);
        assert_eq!(last(Role::Server, &[ticket]), Ok(Opened::Nothing));
        assert_eq!(last(Role::Client, &[ticket]), Err(RecordError::UnexpectedMessage));
    }

    #[test]
    fn alerts_end_the_connection_except_the_one_that_announces_a_close() {
        assert_eq!(last(Role::Client, &[(ALERT, &[1, 90]), (ALERT, &[1, 0])]), Ok(Opened::CloseNotify));
        assert_eq!(last(Role::Client, &[(ALERT, &[2, 40])]), Err(RecordError::PeerAlert(40)));
        assert_eq!(last(Role::Client, &[(ALERT, &[2])]), Err(RecordError::Malformed));
        assert_eq!(last(Role::Client, &[(ALERT, &[])]), Err(RecordError::Malformed));
    }

    #[test]
    fn records_of_other_types_and_empty_messages_are_refused() {
        for record in [(HANDSHAKE, &[][..]), (20, &[1]), (24, &[1])] {
            assert_eq!(last(Role::Server, &[record]), Err(RecordError::UnexpectedMessage), "{record:?}");
        }
    }

    #[test]
    fn a_key_is_to_be_changed_after_so_many_records_and_then_not_for_a_while() {
        let mut sealer = Sealer::with_key_update_after(secret(), 0, 2);
        let mut record = [0; HEADER + TAIL];
        sealer.seal_data(&mut record, 0);
        assert!(!sealer.wants_key_update());
        sealer.seal_data(&mut record, 0);
        assert!(sealer.wants_key_update());
        sealer.key_update(false, &mut Vec::new());
        assert!(!sealer.wants_key_update());
    }
}
