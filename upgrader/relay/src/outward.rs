//! From the application to the wire: plaintext in, records out.

use jfe_tls::{HEADER, MAX_PLAINTEXT, STRIDE, Sealer, TAIL};

use crate::action::{Parts, RECORDS, Received, Space};
use crate::buffer::{Buffer, Pool};
use crate::relay::{Flow, Ready, Step};

/// Plaintext of a short record: with its framing it fits one segment of an Ethernet path (1,460 − 22 − options), so a
/// receiver can use the first bytes of a slow answer before 16 KiB of it have come (measured: a third of the time to
/// first byte at 10 Mbit/s, nothing lost in bulk).
const SHORT: usize = 1369;
/// So much is sent in short records after the start and after a pause.
const SHORT_BYTES: u32 = 64 * 1024;
/// Bytes read in one turn before others come first: one large buffer.
const TURN: usize = RECORDS * MAX_PLAINTEXT;

#[derive(Debug, Default)]
pub struct Outward {
    flow: Flow,
    /// What remains of the budget for short records.
    short_left: u32,
    /// The layout of the buffer being filled: bytes a slot.
    slot: usize,
    /// The peer asked for a key update.
    answer_key_update: bool,
    /// The handshake's last flight may wait for data that is there already.
    head_waits: bool,
}

impl Outward {
    /// `head` goes out first (the handshake's last flight, or what was read before the decision).
    pub fn new(head: Vec<u8>, head_waits: bool) -> Self {
        Self { flow: Flow::new(head), short_left: SHORT_BYTES, head_waits, ..Self::default() }
    }

    pub fn answer_key_update(&mut self) {
        self.answer_key_update = true;
    }

    /// The pause since the last byte was long: start with short records again.
    pub fn resume_short(&mut self) {
        self.short_left = SHORT_BYTES;
    }

    pub fn begin_turn(&mut self) {
        self.flow.turn_left = TURN;
    }

    pub fn step(&mut self, application: Ready, wire: Ready, sealer: Option<&mut Sealer>) -> Step {
        if self.answer_key_update && !self.flow.pending() {
            if let Some(sealer) = sealer {
                sealer.key_update(false, &mut self.flow.head);
            }
            self.answer_key_update = false;
        }
        let hold = self.head_waits && self.flow.only_head() && application.readable && !self.flow.ending;
        if hold { Step::Receive } else { self.flow.step(application, wire) }
    }

    pub fn space(&mut self, pool: &mut Pool, sealed: bool) -> Space<'_> {
        let buffer = self.flow.borrow(pool);
        if !sealed {
            return Space::contiguous(&mut buffer.bytes);
        }
        // The slots must not be so many that the short records outgrow the parts of one send.
        self.slot = if self.short_left > 0 { SHORT } else { MAX_PLAINTEXT };
        let stride = HEADER + self.slot + TAIL;
        let count = (buffer.bytes.len() / stride).min(RECORDS);
        Space::slots(&mut buffer.bytes[HEADER..], self.slot, stride, count)
    }

    pub fn received(&mut self, received: Received, capacity: usize, sealer: Option<&mut Sealer>, pool: &mut Pool) {
        self.head_waits = false;
        match (received, sealer) {
            (Received::Bytes(count), Some(sealer)) => {
                self.flow.bytes += count as u64;
                self.seal(count, sealer);
                self.flow.account(count, capacity);
            }
            (Received::Bytes(count), None) => {
                self.flow.bytes += count as u64;
                if let Some(buffer) = &mut self.flow.buffer {
                    push(buffer, 0, count);
                }
                self.flow.account(count, capacity);
            }
            (Received::End, sealer) => {
                if let Some(sealer) = sealer {
                    sealer.close_notify(&mut self.flow.head);
                }
                self.flow.ending = true;
                self.flow.release(pool);
            }
            (Received::WouldBlock | Received::Reset, _) => self.flow.release(pool),
        }
    }

    fn seal(&mut self, count: usize, sealer: &mut Sealer) {
        if sealer.wants_key_update() {
            sealer.key_update(false, &mut self.flow.head);
        }
        let Some(buffer) = &mut self.flow.buffer else { return };
        let stride = HEADER + self.slot + TAIL;
        let mut left = count;
        let mut at = 0;
        while left > 0 {
            let n = left.min(self.slot);
            let len = sealer.seal_data(&mut buffer.bytes[at..], n);
            push(buffer, at, len);
            left -= n;
            at += stride;
        }
        self.short_left = self.short_left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }

    pub fn parts(&self) -> Parts<'_> {
        self.flow.parts()
    }

    pub fn flow(&mut self) -> &mut Flow {
        &mut self.flow
    }
}

/// Adds a range to what waits to be sent, joined to the one before where they touch (full records do).
fn push(buffer: &mut Buffer, start: usize, len: usize) {
    debug_assert!(start + len <= RECORDS * STRIDE);
    let (start, len) = (u32::try_from(start).unwrap_or(0), u32::try_from(len).unwrap_or(0));
    match buffer.ranges.last_mut() {
        Some(last) if last.0 + last.1 == start => last.1 += len,
        _ => buffer.ranges.push((start, len)),
    }
}
