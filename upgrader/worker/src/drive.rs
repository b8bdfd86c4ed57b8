//! Doing what a connection asks for, until it waits.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use jfe_control::message::{Direction, FromWorker, Phase, SocketKind};
use jfe_decide::Refuse;
use jfe_relay::{Action, End, Environment, Sent, Side};

use crate::connections::{Entry, Source};
use crate::socket::{self, ApplicationPorts, Dialled, Origin};
use crate::worker::{Worker, register};

/// What remains to be done once the connection is back in its place.
enum Then {
    Rest,
    Again,
    Dial,
    Learn,
    End(End),
}

impl Worker {
    pub fn drive(&mut self, index: usize) {
        loop {
            // Out of its place for a moment, so that pool and directory can be lent at the same time.
            let Some(mut entry) = self.connections.take(index) else { return };
            let then = self.act(&mut entry);
            self.account(index, &mut entry);
            match then {
                Then::End(end) => return self.end(index, *entry, end),
                Then::Again if !entry.queued_again => {
                    entry.queued_again = true;
                    self.again.push(index);
                }
                Then::Rest | Then::Again | Then::Dial | Then::Learn => {}
            }
            self.connections.put_back(index, entry);
            let go_on = match then {
                Then::Dial => self.dial(index),
                Then::Learn => self.learn(index),
                Then::Rest | Then::Again | Then::End(_) => false,
            };
            if !go_on {
                return;
            }
        }
    }

    fn act(&mut self, entry: &mut Entry) -> Then {
        let Some(workload) = self.workloads.get_mut(entry.workload) else { return Then::End(End::Reset) };
        let environment = Environment {
            policy: &workload.policy,
            directory: &self.directory,
            endpoint: &workload.endpoint,
            knowledge: &workload.knowledge,
            now: self.now,
            source: entry.source,
            destination: entry.destination,
            own_listener: entry.own_listener,
        };
        let (application, wire) = (entry.application.as_ref(), entry.wire.as_ref());
        let socket = |side| match side {
            Side::Application => application,
            Side::Wire => wire,
        };
        loop {
            match entry.connection.next(&environment, &mut self.pool) {
                Action::Wait => return Then::Rest,
                Action::Yield => return Then::Again,
                Action::Dial(_) => return Then::Dial,
                Action::Learn => return Then::Learn,
                Action::End(end) => return Then::End(end),
                Action::Receive { side, mut space } => {
                    let Some(socket) = socket(side) else { return Then::End(End::Reset) };
                    let (mut slices, count) = space.slices();
                    let received = socket::receive(socket.as_fd(), &mut slices[..count]);
                    entry.connection.received(side, received, &mut self.pool);
                }
                Action::Send { side, parts, more } => {
                    let Some(socket) = socket(side) else { return Then::End(End::Reset) };
                    let wanted = parts.len();
                    let (slices, count) = parts.slices();
                    let sent = socket::send(socket.as_fd(), &slices[..count], more);
                    let whole = matches!(sent, Sent::Bytes(count) if count == wanted);
                    entry.connection.sent(side, sent, whole, &mut self.pool);
                }
                Action::Shutdown(side) => {
                    if let Some(socket) = socket(side) {
                        socket::finish(socket.as_fd());
                    }
                }
            }
        }
    }

    /// Sees to what the connection has become: its deadline, its count, its events.
    fn account(&mut self, index: usize, entry: &mut Entry) {
        if let Some(wait) = entry.connection.bounded_wait()
            && wait != entry.armed
        {
            entry.armed = wait;
            self.deadlines.set((index, entry.number, wait), self.now);
        }
        if entry.admitted && !entry.connection.is_unclassified() {
            entry.admitted = false;
            self.admission.release(entry.source.ip());
        }
        let decided = entry.connection.is_settled() && entry.connection.decision().is_some();
        if decided && entry.report.decided.is_none() {
            if entry.connection.established().is_some() {
                let microseconds = Instant::now().duration_since(entry.reached).as_micros();
                entry.report.handshake_microseconds = u64::try_from(microseconds).ok();
            }
            self.report.count(entry, self.now);
            self.tell_event(entry, Phase::Decided);
        }
    }

    // --- the second socket -----------------------------------------------------------------------------------------

    fn dialled_address(entry: &Entry) -> (SocketKind, SocketAddr) {
        let kind = match (entry.direction, entry.destination) {
            (Direction::Outbound, SocketAddr::V4(_)) => SocketKind::Wire4,
            (Direction::Outbound, SocketAddr::V6(_)) => SocketKind::Wire6,
            (Direction::Inbound, SocketAddr::V4(_)) => SocketKind::Application4,
            (Direction::Inbound, SocketAddr::V6(_)) => SocketKind::Application6,
        };
        (kind, entry.destination)
    }

    /// Connects the second socket, or waits for a fresh one; true if the connection can go on at once.
    fn dial(&mut self, index: usize) -> bool {
        let Some(entry) = self.connections.get_mut(index) else { return false };
        if !entry.connection.is_dialling() {
            return false;
        }
        let (kind, destination) = Self::dialled_address(entry);
        let (number, side) = (entry.number, entry.connection.dialled());
        // A link-local address keeps the device that it is of.
        let mut source = entry.source;
        let chosen = side == Side::Application && entry.ports_tried < ApplicationPorts::TRIES;
        source.set_port(if chosen { self.application_ports.next() } else { 0 });
        let origin = match side {
            Side::Application => Origin::Exactly(source),
            Side::Wire => Origin::Preferably(source),
        };
        let workload_index = entry.workload;
        let Some(workload) = self.workloads.get_mut(workload_index) else { return false };
        let fresh = workload.fresh(kind).take();
        if fresh.is_none() {
            workload.fresh(kind).waiting.push_back((index, number));
        }
        self.want_sockets(workload_index, kind);
        let (Some(socket), Some(entry)) = (fresh, self.connections.get_mut(index)) else { return false };
        match socket::dial(socket.as_fd(), origin, destination) {
            Dialled::Failed(reason) => {
                entry.connection.connect_failed(reason);
                return true;
            }
            // A socket that was bound once can't be bound anew.
            Dialled::PortTaken if chosen => {
                entry.ports_tried += 1;
                return self.dial(index);
            }
            Dialled::PortTaken => {
                entry.connection.connect_failed(Refuse::Exhausted);
                return true;
            }
            Dialled::Connected => {
                entry.reached = self.now;
                entry.connection.connected();
            }
            Dialled::UnderWay => entry.dial_under_way = true,
        }
        // After connect: a socket that is registered before tells of a hangup that is none.
        let registered = register(self.poll.registry(), socket.as_fd(), Source::Socket(index, side));
        entry.put(side, socket);
        if registered.is_err() {
            entry.connection.connect_failed(Refuse::Exhausted);
        }
        true
    }

    pub fn want_sockets(&mut self, workload: usize, kind: SocketKind) {
        let Some(workload) = self.workloads.get_mut(workload) else { return };
        if let Some(count) = workload.fresh(kind).want() {
            let id = workload.id.clone();
            let _ = self.tell(&FromWorker::WantSockets { id, kind, count });
        }
    }

    /// Connections that waited for a fresh socket get on.
    pub fn serve_waiting(&mut self, workload: usize, kind: SocketKind) {
        let waiting =
            self.workloads.get_mut(workload).map(|workload| std::mem::take(&mut workload.fresh(kind).waiting));
        for (index, number) in waiting.into_iter().flatten() {
            if self.connections.get_mut(index).is_some_and(|entry| entry.number == number) && self.dial(index) {
                self.drive(index);
            }
        }
        self.serve_waiting_probes(workload, kind);
    }

    pub fn refuse_waiting(&mut self, workload: usize, kind: SocketKind) {
        let waiting = self.workloads.get_mut(workload).map(|workload| {
            let fresh = workload.fresh(kind);
            fresh.none_came();
            std::mem::take(&mut fresh.waiting)
        });
        for (index, number) in waiting.into_iter().flatten() {
            if let Some(entry) = self.connections.get_mut(index)
                && entry.number == number
            {
                entry.connection.connect_failed(Refuse::Exhausted);
                self.drive(index);
            }
        }
    }

    /// Ends the second socket of a connection that wants it later, if at all.
    pub fn hang_up(&mut self, index: usize) {
        let Some(entry) = self.connections.get_mut(index) else { return };
        let dialled = match entry.connection.dialled() {
            Side::Application => entry.application.take(),
            Side::Wire => entry.wire.take(),
        };
        dialled.into_iter().for_each(socket::reset);
        entry.dial_under_way = false;
        entry.connection.hung_up();
    }

    /// epoll has told of a socket that is being connected; without a hangup it is.
    pub fn dial_ended(&mut self, index: usize, hangup: bool) {
        let now = self.now;
        let Some(entry) = self.connections.get_mut(index) else { return };
        let side = entry.connection.dialled();
        let Some(socket) = entry.socket(side) else { return };
        let outcome = if hangup { socket::dialled(socket) } else { Dialled::Connected };
        entry.dial_under_way = false;
        match outcome {
            Dialled::Failed(reason) => entry.connection.connect_failed(reason),
            Dialled::Connected | Dialled::UnderWay | Dialled::PortTaken => {
                if entry.direction == Direction::Outbound {
                    entry.reached = now;
                }
                entry.connection.connected();
            }
        }
    }

    // --- the end ---------------------------------------------------------------------------------------------------

    /// Ends a connection that can't even be watched.
    pub fn end_refused(&mut self, index: usize, reason: Refuse) {
        if let Some(mut entry) = self.connections.take(index) {
            entry.connection.refuse(reason);
            self.account(index, &mut entry);
            self.end(index, *entry, End::Reset);
        }
    }

    fn end(&mut self, index: usize, mut entry: Entry, end: End) {
        self.report.count(&mut entry, self.now);
        self.tell_event(&mut entry, Phase::Closed);
        if entry.admitted {
            self.admission.release(entry.source.ip());
        }
        entry.connection.release(&mut self.pool);
        match end {
            End::Closed => {}
            End::Reset => {
                entry.wire.into_iter().chain(entry.application).for_each(socket::reset);
            }
            End::Alerted => {
                entry.application.into_iter().for_each(socket::reset);
                if let Some(wire) = entry.wire {
                    self.lingering.add(wire, self.poll.registry(), self.now);
                }
            }
        }
        self.connections.free(index);
        if self.descriptors_exhausted {
            // What was given back may be taken by who waits.
            self.descriptors_exhausted = false;
            self.descriptors_low = false;
            self.accept_pending = true;
        }
    }
}
