//! What a connection asks of the owner of its sockets, and what it hears back.

use std::array;
use std::io::{IoSlice, IoSliceMut};

/// Records moved in one system call: 256 KiB. One record a call halves the bulk rate, 64 bring a tenth more for four
/// times the memory and the longest turn of a busy connection.
pub const RECORDS: usize = 16;

/// At most this many pieces in one `sendmsg`: a buffer of short records (1,369 bytes) has more than [`RECORDS`].
pub const PARTS: usize = 32;

/// The two sockets of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Towards the workload's own process: plaintext.
    Application,
    /// Towards the peer.
    Wire,
}

impl Side {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Application => Self::Wire,
            Self::Wire => Self::Application,
        }
    }
}

/// The next thing to do for a connection.
#[derive(Debug)]
pub enum Action<'a> {
    /// Nothing until something is reported.
    Wait,
    /// There is more to do, but others come first: ask again in the next turn.
    Yield,
    /// Take a fresh socket for this side and connect it; then [`crate::Connection::connected`] or `connect_failed`.
    Dial(Side),
    /// Find out whether the application speaks TLS; then [`crate::Connection::learnt`]. A socket that is dialled, or
    /// being dialled, is ended first ([`crate::Connection::hung_up`]): an application that serves one connection at a
    /// time would wait for a word on it, and not answer the question.
    Learn,
    Receive {
        side: Side,
        space: Space<'a>,
    },
    /// `more`: a FIN follows at once, so alert and FIN may share a packet.
    Send {
        side: Side,
        parts: Parts<'a>,
        more: bool,
    },
    /// No more will be sent to this side (FIN).
    Shutdown(Side),
    End(End),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both directions came to their end: a side that has had no FIN yet gets it by closing its socket.
    Closed,
    /// RST to both sides.
    Reset,
    /// An alert was sent to the wire: FIN there, then read and discard for a moment so that no RST overtakes it; RST
    /// to the application.
    Alerted,
}

/// What `recvmsg` said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Bytes(usize),
    /// FIN.
    End,
    WouldBlock,
    /// Any error: the connection is gone.
    Reset,
}

/// What `sendmsg` said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Bytes(usize),
    WouldBlock,
    Reset,
}

/// Room for bytes: `count` slots of `size` bytes, `stride` bytes apart, so that records can be protected in place.
#[derive(Debug)]
pub struct Space<'a> {
    bytes: &'a mut [u8],
    size: usize,
    stride: usize,
    count: usize,
}

impl<'a> Space<'a> {
    /// One slot.
    pub fn contiguous(bytes: &'a mut [u8]) -> Self {
        let size = bytes.len();
        Self { bytes, size, stride: size.max(1), count: 1 }
    }

    /// `bytes` starts at the first slot and is long enough for the last.
    pub fn slots(bytes: &'a mut [u8], size: usize, stride: usize, count: usize) -> Self {
        Self { bytes, size, stride, count: count.min(RECORDS) }
    }

    /// Bytes that fit in all.
    pub fn capacity(&self) -> usize {
        self.size * self.count
    }

    /// The slots for `recvmsg`, and how many of them are meant.
    pub fn slices(&mut self) -> ([IoSliceMut<'_>; RECORDS], usize) {
        let size = self.size;
        let mut slots = self.bytes.chunks_mut(self.stride);
        let slices = array::from_fn(|_| {
            let slot = slots.next().unwrap_or_default();
            let len = slot.len().min(size);
            IoSliceMut::new(&mut slot[..len])
        });
        (slices, self.count)
    }
}

/// Bytes to send: what comes first, then ranges of a buffer.
#[derive(Debug)]
pub struct Parts<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) buffer: &'a [u8],
    /// (start, length) in `buffer`
    pub(crate) ranges: &'a [(u32, u32)],
}

impl Parts<'_> {
    /// The pieces for `sendmsg`, and how many of them are meant; never empty, at most [`PARTS`].
    pub fn slices(&self) -> ([IoSlice<'_>; PARTS], usize) {
        let mut slices = array::from_fn(|_| IoSlice::new(&[]));
        let mut count = 0;
        if !self.head.is_empty() {
            slices[0] = IoSlice::new(self.head);
            count = 1;
        }
        for (slice, &(start, len)) in slices[count..].iter_mut().zip(self.ranges) {
            *slice = IoSlice::new(&self.buffer[start as usize..(start + len) as usize]);
            count += 1;
        }
        (slices, count)
    }

    /// The bytes that [`Parts::slices`] covers.
    pub fn len(&self) -> usize {
        let head = usize::from(!self.head.is_empty());
        self.head.len() + self.ranges.iter().take(PARTS - head).map(|&(_, len)| len as usize).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
