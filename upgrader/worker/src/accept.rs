//! Taking connections from the workloads' listeners.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use jfe_control::message::{Direction, Phase};
use jfe_relay::{Connection, Side};
use rustix::io::Errno;

use crate::connections::{Entry, Reported, Source};
use crate::socket::{self, Accepted};
use crate::worker::{Worker, register};

/// Connections taken from one listener in a turn.
const PER_TURN: usize = 32;

/// Descriptors that no new connection takes: half for what those that are here still need, their second sockets, and
/// [`FOR_ORDERS`].
const RESERVE: u64 = 32;
/// Descriptors that no socket of a connection takes: a workload that is enrolled meanwhile brings four listeners. Without
/// them it would be one that nobody serves, and the order that brought it could not be understood.
pub const FOR_ORDERS: u64 = 16;

impl Worker {
    /// A share of what waits at each listener.
    pub fn accept_all(&mut self) {
        if !self.accept_pending || self.descriptors_low {
            return;
        }
        self.accept_pending = false;
        self.descriptors_exhausted = false;
        for index in self.workloads.indices() {
            let places = self.workloads.get_mut(index).map_or(0, |workload| workload.listeners.len());
            for place in 0..places {
                self.accept_some(index, place);
            }
        }
    }

    fn accept_some(&mut self, index: usize, place: usize) {
        for _ in 0..PER_TURN {
            let Some(workload) = self.workloads.get_mut(index) else { return };
            let shape = workload.shape;
            let listener = &mut workload.listeners[place];
            if !listener.pending {
                return;
            }
            let direction = listener.direction;
            let outbound = direction == Direction::Outbound;
            match socket::accept(listener.socket.as_fd(), outbound, shape, listener.port) {
                Ok(Some(accepted)) => {
                    let low = self.is_among_the_last(RESERVE, accepted.socket.as_fd());
                    // Before: it may be ended at once, and its end is what makes room.
                    self.descriptors_low |= low;
                    self.descriptors_exhausted |= low;
                    self.take_in(index, direction, accepted);
                    if low {
                        self.accept_pending = true;
                        return;
                    }
                }
                Ok(None) | Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => {
                    listener.pending = false;
                    return;
                }
                // EMFILE, ENFILE, ENOBUFS, ENOMEM: what waits stays in the listener's queue until something ends.
                Err(_) => {
                    self.accept_pending = true;
                    self.descriptors_exhausted = true;
                    return;
                }
            }
        }
        self.accept_pending = true;
    }

    /// The kernel gives the lowest number that is free (open(2)), so a high one says that there are few left.
    pub fn is_among_the_last(&self, count: u64, descriptor: BorrowedFd<'_>) -> bool {
        u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number.saturating_add(count) >= self.descriptor_limit)
    }

    fn take_in(&mut self, workload: usize, direction: Direction, accepted: Accepted) {
        let Accepted { socket, source, destination, own_listener } = accepted;
        let admitted = match direction {
            Direction::Outbound => false,
            Direction::Inbound => {
                let covered = self.directory.covers_source(source.ip());
                // Sources that the directory calls covered are counted by nobody: they may well open thousands at once.
                if !covered && let Err(reason) = self.admission.admit(source.ip()) {
                    // Nothing is known of it but its address: RST, and a count.
                    self.report.count_refused(workload, direction, reason, self.now);
                    socket::reset(socket);
                    return;
                }
                !covered
            }
        };
        let (connection, side) = match direction {
            Direction::Outbound => (Connection::outbound(), Side::Application),
            Direction::Inbound => (Connection::inbound(), Side::Wire),
        };
        let number = self.next_number;
        self.next_number += 1;
        let mut entry = Box::new(Entry {
            connection,
            application: None,
            wire: None,
            workload,
            direction,
            source,
            destination,
            own_listener,
            number,
            admitted,
            dial_under_way: false,
            ports_tried: 0,
            armed: 0,
            queued_again: false,
            reached: self.now,
            moved: self.now,
            report: Reported::default(),
        });
        entry.put(side, socket);
        self.tell_event(&mut entry, Phase::Open);
        let index = self.connections.insert(entry);
        let registered = match self.connections.get_mut(index).and_then(|entry| entry.socket(side)) {
            Some(socket) => register(self.poll.registry(), socket, Source::Socket(index, side)).is_ok(),
            None => false,
        };
        if registered {
            self.resume(index);
        } else {
            self.end_refused(index, jfe_decide::Refuse::Exhausted);
        }
    }
}
