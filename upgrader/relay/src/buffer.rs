//! Buffers belong to the worker: a connection borrows one while it has bytes, so an idle connection costs none.

use jfe_tls::STRIDE;

use crate::action::RECORDS;

/// Two records: what a connection gets until it fills one, so that a thousand slow peers hold little.
pub const SMALL: usize = 2 * STRIDE;
/// What a busy connection gets.
pub const LARGE: usize = RECORDS * STRIDE;

/// Large buffers lent at a time; then small ones serve (64 × 262,496 bytes = 17 MB).
const LARGE_LENT: usize = 64;
/// Buffers of each size kept for the next borrower; last in, first out, so that they stay in the CPU's cache.
const KEPT: usize = 4;

/// A borrowed buffer.
#[derive(Debug)]
pub struct Buffer {
    pub bytes: Box<[u8]>,
    /// (start, length) of what waits to be sent, in order.
    pub ranges: Vec<(u32, u32)>,
}

impl Buffer {
    fn new(size: usize) -> Self {
        Self { bytes: vec![0; size].into_boxed_slice(), ranges: Vec::new() }
    }

    pub fn is_large(&self) -> bool {
        self.bytes.len() == LARGE
    }
}

/// The buffers of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    small: Vec<Buffer>,
    large: Vec<Buffer>,
    large_lent: usize,
}

impl Pool {
    pub fn take(&mut self, large: bool) -> Buffer {
        if large && self.large_lent < LARGE_LENT {
            self.large_lent += 1;
            self.large.pop().unwrap_or_else(|| Buffer::new(LARGE))
        } else {
            self.small.pop().unwrap_or_else(|| Buffer::new(SMALL))
        }
    }

    pub fn give_back(&mut self, mut buffer: Buffer) {
        buffer.ranges.clear();
        let kept = if buffer.is_large() {
            self.large_lent -= 1;
            &mut self.large
        } else {
            &mut self.small
        };
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}
