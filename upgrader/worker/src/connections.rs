//! The connections of a worker, and how epoll's tokens name their sockets.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use jfe_control::message::Direction;
use jfe_decide::Decision;
use jfe_relay::{Connection, Side};
use mio::Token;

/// What a token stands for: the kind in the lower three bits, an index above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Broker,
    /// Index of a workload; its listener's place (0 to 3).
    Listener(usize, usize),
    Socket(usize, Side),
    Probe(usize),
    Lingering(usize),
}

impl From<Source> for Token {
    fn from(source: Source) -> Self {
        Self(match source {
            Source::Broker => 0,
            Source::Listener(workload, place) => (workload * 4 + place) << 3 | 1,
            Source::Socket(index, Side::Application) => index << 3 | 2,
            Source::Socket(index, Side::Wire) => index << 3 | 3,
            Source::Probe(index) => index << 3 | 4,
            Source::Lingering(index) => index << 3 | 5,
        })
    }
}

impl From<Token> for Source {
    fn from(token: Token) -> Self {
        let index = token.0 >> 3;
        match token.0 & 7 {
            1 => Self::Listener(index / 4, index % 4),
            2 => Self::Socket(index, Side::Application),
            3 => Self::Socket(index, Side::Wire),
            4 => Self::Probe(index),
            5 => Self::Lingering(index),
            _ => Self::Broker,
        }
    }
}

/// A connection with its sockets.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about four different things")]
pub struct Entry {
    pub connection: Connection,
    pub application: Option<OwnedFd>,
    pub wire: Option<OwnedFd>,
    pub workload: usize,
    pub direction: Direction,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub own_listener: bool,
    /// Unique for the life of this worker.
    pub number: u64,
    /// Counted against its source.
    pub admitted: bool,
    pub dial_under_way: bool,
    /// Ports chosen for the second socket that were taken.
    pub ports_tried: u8,
    /// The bounded wait for which a deadline is set.
    pub armed: u32,
    pub queued_again: bool,
    /// When the peer's side was there to shake hands with.
    pub reached: Instant,
    pub moved: Instant,
    pub report: Reported,
}

/// What of a connection has been counted and told.
#[derive(Debug, Default)]
pub struct Reported {
    /// The decision that was counted last.
    pub decided: Option<Decision>,
    pub handshake_microseconds: Option<u64>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Entry {
    pub fn socket(&self, side: Side) -> Option<BorrowedFd<'_>> {
        self.slot_of(side).map(AsFd::as_fd)
    }

    fn slot_of(&self, side: Side) -> Option<&OwnedFd> {
        match side {
            Side::Application => self.application.as_ref(),
            Side::Wire => self.wire.as_ref(),
        }
    }

    pub fn put(&mut self, side: Side, socket: OwnedFd) {
        match side {
            Side::Application => self.application = Some(socket),
            Side::Wire => self.wire = Some(socket),
        }
    }
}

/// A table whose indices stay what they are. A freed index is used again only after [`Slots::recycle`]: events of the
/// same batch may still name it.
#[derive(Debug)]
pub struct Slots<T> {
    items: Vec<Option<T>>,
    free: Vec<usize>,
    freed: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { items: Vec::new(), free: Vec::new(), freed: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub fn insert(&mut self, item: T) -> usize {
        if let Some(index) = self.free.pop() {
            self.items[index] = Some(item);
            index
        } else {
            self.items.push(Some(item));
            self.items.len() - 1
        }
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.items.get_mut(index)?.as_mut()
    }

    /// Takes the item out for a while, or for good; then say [`Slots::free`].
    pub fn take(&mut self, index: usize) -> Option<T> {
        self.items.get_mut(index)?.take()
    }

    pub fn put_back(&mut self, index: usize, item: T) {
        self.items[index] = Some(item);
    }

    pub fn free(&mut self, index: usize) {
        self.items[index] = None;
        self.freed.push(index);
    }

    pub fn recycle(&mut self) {
        self.free.append(&mut self.freed);
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.items.iter_mut().enumerate().filter_map(|(index, slot)| slot.as_mut().map(|item| (index, item)))
    }

    pub fn indices(&self) -> Vec<usize> {
        self.items.iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(index, _)| index).collect()
    }
}
