//! Sockets on which an alert was sent: FIN, then what still comes is read and discarded for a moment. Closed at once
//! they would answer it with RST, and the peer's kernel would throw the alert away unread (RFC 1122, 4.2.2.13).

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use jfe_relay::Received;
use mio::Registry;
use mio::unix::SourceFd;

use crate::connections::{Slots, Source};
use crate::deadlines::Deadlines;
use crate::socket;
use crate::worker::register;

/// Long enough for a peer on another continent to read an alert.
const LINGER: Duration = Duration::from_secs(2);
/// A peer that goes on sending is cut off after so much.
const DISCARD: usize = 256 * 1024;
/// At most so many at a time; more are closed at once.
const MOST: usize = 1024;

#[derive(Debug)]
pub struct Lingering {
    sockets: Slots<(OwnedFd, u64, usize)>,
    deadlines: Deadlines<(usize, u64)>,
    number: u64,
    count: usize,
}

impl Default for Lingering {
    fn default() -> Self {
        Self { sockets: Slots::default(), deadlines: Deadlines::new(LINGER), number: 0, count: 0 }
    }
}

impl Lingering {
    pub fn add(&mut self, wire: OwnedFd, registry: &Registry, now: Instant) {
        if self.count >= MOST || registry.deregister(&mut SourceFd(&wire.as_raw_fd())).is_err() {
            return;
        }
        socket::finish(wire.as_fd());
        self.number += 1;
        let index = self.sockets.insert((wire, self.number, 0));
        self.count += 1;
        let registered = match self.sockets.get_mut(index) {
            Some((wire, ..)) => register(registry, wire.as_fd(), Source::Lingering(index)).is_ok(),
            None => false,
        };
        if registered {
            self.deadlines.set((index, self.number), now);
            self.ready(index);
        } else {
            self.remove(index);
        }
    }

    pub fn ready(&mut self, index: usize) {
        let mut trash = [0; 16 * 1024];
        loop {
            let Some((socket, _, discarded)) = self.sockets.get_mut(index) else { return };
            match socket::receive(socket.as_fd(), &mut [IoSliceMut::new(&mut trash)]) {
                Received::Bytes(count) if *discarded < DISCARD => *discarded += count,
                Received::WouldBlock => return,
                Received::Bytes(_) | Received::End | Received::Reset => return self.remove(index),
            }
        }
    }

    pub fn expire(&mut self, now: Instant) {
        while let Some((index, number)) = self.deadlines.due(now) {
            if self.sockets.get_mut(index).is_some_and(|(_, found, _)| *found == number) {
                self.remove(index);
            }
        }
        self.sockets.recycle();
    }

    pub fn next(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    fn remove(&mut self, index: usize) {
        self.sockets.free(index);
        self.count -= 1;
    }
}
