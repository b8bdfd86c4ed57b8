//! From the wire to the application: records in, plaintext out.

use jfe_tls::{HEADER, Opened, Opener, RecordError, whole_record};

use crate::action::{Parts, RECORDS, Received, Space};
use crate::buffer::Pool;
use crate::relay::{Flow, Ready, Step};

/// Bytes read in one turn before others come first.
const TURN: usize = RECORDS * jfe_tls::MAX_PLAINTEXT;

#[derive(Debug, Default)]
pub struct Inward {
    flow: Flow,
    /// In the buffer: bytes from `open` to `fill` are not decrypted yet.
    open: usize,
    fill: usize,
    /// The start of a record whose end has not come, kept without a buffer.
    rest: Vec<u8>,
}

/// Why what comes from the wire can't be relayed any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    Record(RecordError),
    /// FIN without `close_notify`: the data was cut off, by whomever (RFC 8446 section 6.1).
    Truncated,
}

impl From<RecordError> for Broken {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// What decrypting brought, for the other direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noticed {
    pub answer_key_update: bool,
}

impl Inward {
    /// `head`: plaintext that is there already; `unread`: bytes of the wire that are not decrypted yet.
    pub fn new(head: Vec<u8>, unread: Vec<u8>, closed: bool) -> Self {
        let bytes = head.len() as u64;
        let mut flow = Flow::new(head);
        (flow.bytes, flow.ending) = (bytes, closed);
        Self { flow, rest: unread, ..Self::default() }
    }

    pub fn begin_turn(&mut self) {
        self.flow.turn_left = TURN;
    }

    /// Decrypts what came together with the handshake.
    pub fn start(&mut self, opener: &mut Opener, pool: &mut Pool) -> Result<Noticed, Broken> {
        if self.rest.is_empty() || self.flow.ending {
            return Ok(Noticed::default());
        }
        self.flow.large = true;
        self.reload(pool);
        self.decrypt(opener)
    }

    pub fn step(&mut self, wire: Ready, application: Ready) -> Step {
        self.flow.step(wire, application)
    }

    pub fn space(&mut self, pool: &mut Pool, sealed: bool) -> Space<'_> {
        if sealed {
            self.reload(pool);
        }
        let fill = self.fill;
        Space::contiguous(&mut self.flow.borrow(pool).bytes[fill..])
    }

    /// Brings an incomplete record to the start of the buffer.
    fn reload(&mut self, pool: &mut Pool) {
        let rest = std::mem::take(&mut self.rest);
        let (open, fill) = (self.open, self.fill);
        let buffer = self.flow.borrow(pool);
        if rest.is_empty() {
            buffer.bytes.copy_within(open..fill, 0);
            self.fill -= open;
        } else {
            buffer.bytes[..rest.len()].copy_from_slice(&rest);
            self.fill = rest.len();
        }
        self.open = 0;
    }

    pub fn received(
        &mut self,
        received: Received,
        capacity: usize,
        opener: Option<&mut Opener>,
        pool: &mut Pool,
    ) -> Result<Noticed, Broken> {
        let mut noticed = Noticed::default();
        match (received, opener) {
            (Received::Bytes(count), Some(opener)) => {
                self.fill += count;
                self.flow.account(count, capacity);
                noticed = self.decrypt(opener)?;
            }
            (Received::Bytes(count), None) => {
                if let Some(buffer) = &mut self.flow.buffer {
                    buffer.ranges.push((0, u32::try_from(count).unwrap_or(0)));
                }
                self.flow.bytes += count as u64;
                self.flow.account(count, capacity);
            }
            (Received::End, Some(_)) => return Err(Broken::Truncated),
            (Received::End, None) => self.flow.ending = true,
            (Received::WouldBlock | Received::Reset, _) => {}
        }
        self.settle(pool);
        Ok(noticed)
    }

    fn decrypt(&mut self, opener: &mut Opener) -> Result<Noticed, Broken> {
        let mut noticed = Noticed::default();
        let Some(buffer) = &mut self.flow.buffer else { return Ok(noticed) };
        while let Some(len) = whole_record(&buffer.bytes[self.open..self.fill])? {
            match opener.open(&mut buffer.bytes[self.open..self.open + len])? {
                Opened::Data(range) if !range.is_empty() => {
                    let start = u32::try_from(self.open + range.start).unwrap_or(0);
                    buffer.ranges.push((start, u32::try_from(range.len()).unwrap_or(0)));
                    self.flow.bytes += range.len() as u64;
                }
                Opened::Data(_) | Opened::Nothing => {}
                Opened::KeyUpdate { answer_requested } => noticed.answer_key_update |= answer_requested,
                Opened::CloseNotify => {
                    // RFC 8446 section 6.1: what comes after it is ignored.
                    self.flow.ending = true;
                    self.fill = self.open + len;
                }
            }
            self.open += len;
        }
        debug_assert!(self.fill - self.open < HEADER + (1 << 14) + 256);
        Ok(noticed)
    }

    pub fn parts(&self) -> Parts<'_> {
        self.flow.parts()
    }

    pub fn sent(&mut self, count: usize, pool: &mut Pool) {
        self.flow.sent(count);
        self.settle(pool);
    }

    /// Gives the buffer back once nothing is left in it.
    fn settle(&mut self, pool: &mut Pool) {
        if !self.flow.pending() && self.open == self.fill {
            (self.open, self.fill) = (0, 0);
            self.flow.release(pool);
        }
    }

    /// Nothing more comes for now: an incomplete record moves to a place of its own, and the buffer goes back.
    pub fn idle(&mut self, pool: &mut Pool) {
        if self.flow.pending() {
            return;
        }
        if let Some(buffer) = &self.flow.buffer {
            self.rest = buffer.bytes[self.open..self.fill].to_vec();
            (self.open, self.fill) = (0, 0);
            self.flow.release(pool);
        }
    }

    pub fn flow(&mut self) -> &mut Flow {
        &mut self.flow
    }
}
