//! Handshake messages that come after the handshake (RFC 8446, section 4.6), read without keeping them.

use crate::RecordError;
use crate::sealer::KEY_UPDATE;

const NEW_SESSION_TICKET: u8 = 4;
/// Bytes of a ticket message at most: its longest fields together.
const MAX_TICKET: usize = 4 + 4 + 1 + 255 + 2 + 65535 + 2 + 65534;

/// Reads the messages of one direction, which may begin in one record and end in a later one.
#[derive(Default)]
pub(crate) struct Messages {
    /// Type and length of the message being read.
    head: [u8; 4],
    head_length: u8,
    /// Bytes of a ticket still to come; tickets are of no use here.
    ignore: usize,
}

impl Messages {
    /// Whether no message is half read: only then may a record of another kind come.
    pub(crate) fn between(&self) -> bool {
        self.head_length == 0 && self.ignore == 0
    }

    /// Reads one record's handshake bytes; `tickets`: whether the sender may send such. A `KeyUpdate` is returned with
    /// whether it asks for one in answer, and is always the last message of its record.
    pub(crate) fn read(&mut self, mut bytes: &[u8], tickets: bool) -> Result<Option<bool>, RecordError> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.ignore > 0 {
                let ignored = bytes.len().min(self.ignore);
                self.ignore -= ignored;
                bytes = &bytes[ignored..];
            } else if usize::from(self.head_length) < self.head.len() {
                self.head[usize::from(self.head_length)] = first;
                self.head_length += 1;
                bytes = rest;
                if usize::from(self.head_length) == self.head.len() {
                    self.begin(tickets)?;
                }
            } else {
                self.head_length = 0;
                return match (first, rest) {
                    (0 | 1, []) => Ok(Some(first == 1)),
                    (0 | 1, _) => Err(RecordError::UnexpectedMessage),
                    _ => Err(RecordError::Malformed),
                };
            }
        }
        Ok(None)
    }

    fn begin(&mut self, tickets: bool) -> Result<(), RecordError> {
        let [message, high, middle, low] = self.head;
        match (message, usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)) {
            (NEW_SESSION_TICKET, length @ 1..=MAX_TICKET) if tickets => {
                self.ignore = length;
                self.head_length = 0;
                Ok(())
            }
            (KEY_UPDATE, 1) => Ok(()),
            (KEY_UPDATE | NEW_SESSION_TICKET, _) if tickets || message == KEY_UPDATE => Err(RecordError::Malformed),
            _ => Err(RecordError::UnexpectedMessage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_skipped_and_a_key_update_may_follow_them() {
        let mut messages = Messages::default();
        assert_eq!(messages.read(&[4, 0, 0, 2, 9, 9, 4, 0, 0, 3, 9], true), Ok(None));
        assert!(!messages.between());
        assert_eq!(messages.read(&[9, 9, 24, 0, 0, 1, 1], true), Ok(Some(true)));
        assert!(messages.between());
    }

    #[test]
    fn a_key_update_may_come_a_byte_a_record() {
        let mut messages = Messages::default();
        for byte in [24, 0, 0, 1] {
            assert_eq!(messages.read(&[byte], false), Ok(None));
        }
        assert_eq!(messages.read(&[0], false), Ok(Some(false)));
    }

    #[test]
    fn what_has_no_place_after_a_handshake_is_refused() {
        use RecordError::{Malformed, UnexpectedMessage};
        for (bytes, tickets, error) in [
            (&[24, 0, 0, 1, 0, 24][..], true, UnexpectedMessage), // keys change at a record's end only
            (&[24, 0, 0, 1, 2], true, Malformed),
            (&[24, 0, 0, 2, 0, 0], true, Malformed),
            (&[4, 0, 0, 1, 0], false, UnexpectedMessage), // a client has no tickets to give
            (&[4, 0, 0, 0], true, Malformed),
            (&[4, 255, 255, 255], true, Malformed),
            (&[1, 0, 0, 1], true, UnexpectedMessage),
            (&[13, 0, 0, 1], true, UnexpectedMessage),
        ] {
            assert_eq!(Messages::default().read(bytes, tickets), Err(error), "{bytes:?}");
        }
    }
}
