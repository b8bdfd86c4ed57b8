//! The phases of a connection, from accept to end.
//!
//! ```text
//! outbound ─┬────────────► relay (plain)
//!           └► handshaking ► relay (sealed)
//! inbound ──┬────────────► relay (plain)
//!           └► handshaking ► established ► relay (sealed)     any of them ► over
//! ```

use std::net::SocketAddr;
use std::time::Instant;

use jfe_decide::{Application, Decision, Directory, Knowledge, Policy, Refuse};
use jfe_tls::{Endpoint, Finished};

use crate::action::{Action, End, Received, Sent, Side, Space};
use crate::buffer::Pool;
use crate::handshaking::Handshaking;
use crate::inbound::Inbound;
use crate::outbound::Outbound;
use crate::relay::{Ready, Relay};

/// What decisions are made with; the same for a connection's whole life, but for what is learnt meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Environment<'a> {
    pub policy: &'a Policy,
    pub directory: &'a Directory,
    pub endpoint: &'a Endpoint,
    pub knowledge: &'a Knowledge,
    pub now: Instant,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The destination is a listener of the upgrader itself.
    pub own_listener: bool,
}

/// What a handshake agreed on.
#[derive(Debug, Clone)]
pub struct Established {
    /// The peer's SPIFFE id; strangers have none.
    pub peer: Option<String>,
    pub version: &'static str,
    pub cipher: &'static str,
    pub key_exchange: &'static str,
}

/// The second socket of a connection: the first one was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dial {
    #[default]
    Not,
    Under,
    Connected,
}

#[derive(Debug, Default)]
pub struct Sockets {
    pub application: Ready,
    pub wire: Ready,
    pub dial: Dial,
}

impl Sockets {
    fn of(&mut self, side: Side) -> &mut Ready {
        match side {
            Side::Application => &mut self.application,
            Side::Wire => &mut self.wire,
        }
    }
}

/// What a phase before the relay wants next.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, on the stack")]
pub enum Turn {
    Wait,
    Dial,
    Learn,
    Receive(Side),
    /// The handshake's output, to the wire.
    Send,
    Become(Phase),
    Refuse(Refuse),
    End(End),
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every connection is a relay for nearly all its life")]
pub enum Phase {
    Outbound(Box<Outbound>),
    Inbound(Box<Inbound>),
    Handshaking(Box<Handshaking>),
    /// Inbound: the handshake is done, the application is being connected.
    Established(Box<Finished>),
    Relay(Relay),
    Over(End),
}

#[derive(Debug)]
pub struct Connection {
    /// Which side is dialled: the other one was accepted.
    dialled: Side,
    sockets: Sockets,
    phase: Phase,
    progress: Progress,
}

/// What is known of a connection from outside.
#[derive(Debug, Default)]
pub struct Progress {
    pub decision: Option<Decision>,
    pub established: Option<Box<Established>>,
    /// Counts the bounded waits this connection has entered.
    waits: u32,
}

impl Progress {
    pub fn enter_wait(&mut self) {
        self.waits += 1;
    }
}

impl Connection {
    /// The workload's application has connected to the upgrader.
    pub fn outbound() -> Self {
        Self::new(Side::Wire, Phase::Outbound(Box::default()))
    }

    /// A peer has connected to the upgrader.
    pub fn inbound() -> Self {
        Self::new(Side::Application, Phase::Inbound(Box::default()))
    }

    fn new(dialled: Side, phase: Phase) -> Self {
        let mut sockets = Sockets::default();
        // Of an accepted socket no edge is known: trying finds out.
        *sockets.of(dialled.other()) = Ready { readable: true, writable: true, hangup: false };
        Self { dialled, sockets, phase, progress: Progress::default() }
    }

    pub fn dialled(&self) -> Side {
        self.dialled
    }

    pub fn decision(&self) -> Option<Decision> {
        self.progress.decision
    }

    /// Whether [`Connection::decision`] is final: it relays, or it is over.
    pub fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Relay(_) | Phase::Over(_))
    }

    pub fn established(&self) -> Option<&Established> {
        self.progress.established.as_deref()
    }

    /// Neither decided for good nor relaying yet: counted against its source.
    pub fn is_unclassified(&self) -> bool {
        match &self.phase {
            Phase::Inbound(inbound) => !inbound.is_watching(),
            Phase::Handshaking(_) => true,
            Phase::Outbound(_) | Phase::Established(_) | Phase::Relay(_) | Phase::Over(_) => false,
        }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// Which bounded wait (10 s) this connection is in, if any; pass it to [`Connection::expired`] when time is up.
    pub fn bounded_wait(&self) -> Option<u32> {
        let bounded = match &self.phase {
            Phase::Outbound(outbound) => outbound.is_bounded(),
            Phase::Inbound(inbound) => inbound.is_bounded(),
            Phase::Handshaking(_) => true,
            Phase::Established(_) | Phase::Relay(_) | Phase::Over(_) => false,
        };
        bounded.then_some(self.progress.waits)
    }

    /// Plaintext bytes (from the workload, to the workload).
    pub fn bytes(&mut self) -> (u64, u64) {
        match &mut self.phase {
            Phase::Relay(relay) => relay.bytes(),
            _ => (0, 0),
        }
    }

    // --- what happened ---------------------------------------------------------------------------------------------

    /// epoll's edges for one side.
    pub fn ready(&mut self, side: Side, readable: bool, writable: bool, hangup: bool) {
        let ready = self.sockets.of(side);
        ready.readable |= readable | hangup;
        ready.writable |= writable;
        ready.hangup |= hangup;
    }

    /// A new turn of the event loop; `paused`: nothing has moved for a second or more.
    pub fn begin_turn(&mut self, paused: bool) {
        if let Phase::Relay(relay) = &mut self.phase {
            relay.begin_turn(paused);
        }
    }

    /// The dialled side is connected.
    pub fn connected(&mut self) {
        self.sockets.dial = Dial::Connected;
        self.sockets.of(self.dialled).writable = true;
    }

    /// The dialled side can't be connected, or no socket could be had.
    pub fn connect_failed(&mut self, reason: Refuse) {
        self.refuse(reason);
    }

    /// A dial is wanted or under way.
    pub fn is_dialling(&self) -> bool {
        self.sockets.dial == Dial::Under
    }

    /// The dialled side is given up for now: its socket is gone, and may be asked for again.
    pub fn hung_up(&mut self) {
        self.sockets.dial = Dial::Not;
        *self.sockets.of(self.dialled) = Ready::default();
    }

    /// What asking the application brought, for this connection.
    pub fn learnt(&mut self, application: Application) {
        if let Phase::Inbound(inbound) = &mut self.phase {
            inbound.learnt(application);
        }
    }

    /// The bounded wait of this number has lasted too long.
    pub fn expired(&mut self, wait: u32) {
        if self.bounded_wait() != Some(wait) {
            return;
        }
        let reason = match &self.phase {
            Phase::Outbound(outbound) => outbound.unfinished(),
            Phase::Inbound(inbound) => inbound.unfinished(),
            _ => Refuse::HandshakeTimeout,
        };
        self.refuse(reason);
    }

    /// Ends the connection with RST to both sides.
    pub fn refuse(&mut self, reason: Refuse) {
        match &mut self.phase {
            Phase::Over(_) => return,
            // It holds buffers, and the count of its bytes.
            Phase::Relay(relay) => relay.abort(),
            _ => self.phase = Phase::Over(End::Reset),
        }
        self.progress.decision = Some(Decision::Refuse(reason));
    }

    pub fn received(&mut self, side: Side, received: Received, pool: &mut Pool) {
        let asked = match &mut self.phase {
            Phase::Outbound(outbound) => outbound.received(side, received),
            Phase::Inbound(inbound) => inbound.received(received),
            Phase::Handshaking(handshaking) => handshaking.received(received),
            Phase::Relay(relay) => {
                relay.received(side, received, pool);
                if relay.was_refused() {
                    self.progress.decision = Some(Decision::Refuse(Refuse::HandshakeFailed));
                }
                relay.asked()
            }
            Phase::Established(_) | Phase::Over(_) => 0,
        };
        let ready = self.sockets.of(side);
        match received {
            // A short read has drained the socket, unless a FIN is already behind it: epoll tells of the next byte
            // (epoll(7), edge-triggered stream sockets).
            Received::Bytes(count) => ready.readable = count == asked || ready.hangup,
            Received::WouldBlock => ready.readable = false,
            Received::End | Received::Reset => {}
        }
    }

    /// `whole`: all that was asked for is sent.
    pub fn sent(&mut self, side: Side, sent: Sent, whole: bool, pool: &mut Pool) {
        if !whole {
            self.sockets.of(side).writable = false;
        }
        match &mut self.phase {
            Phase::Handshaking(handshaking) => handshaking.sent(sent),
            Phase::Relay(relay) => relay.sent(side, sent, pool),
            _ => {}
        }
    }

    // --- what to do ------------------------------------------------------------------------------------------------

    pub fn next(&mut self, environment: &Environment<'_>, pool: &mut Pool) -> Action<'_> {
        let turn = loop {
            let turn = match &mut self.phase {
                Phase::Outbound(outbound) => outbound.turn(&mut self.sockets, environment, &mut self.progress),
                Phase::Inbound(inbound) => inbound.turn(&mut self.sockets, environment, &mut self.progress),
                Phase::Handshaking(handshaking) => {
                    handshaking.turn(&self.sockets, environment, &mut self.progress, self.dialled, pool)
                }
                Phase::Established(_) => self.await_application(pool),
                Phase::Relay(_) | Phase::Over(_) => break None,
            };
            match turn {
                Turn::Become(phase) => self.phase = phase,
                Turn::Refuse(reason) => self.refuse(reason),
                Turn::End(end) => self.phase = Phase::Over(end),
                other => break Some(other),
            }
        };
        match turn {
            None => self.move_bytes(pool),
            Some(Turn::Dial) => {
                self.sockets.dial = Dial::Under;
                Action::Dial(self.dialled)
            }
            Some(Turn::Learn) => Action::Learn,
            Some(Turn::Receive(side)) => Action::Receive { side, space: self.space(side) },
            Some(Turn::Send) => self.send_handshake(),
            Some(_) => Action::Wait,
        }
    }

    fn move_bytes(&mut self, pool: &mut Pool) -> Action<'_> {
        match &mut self.phase {
            Phase::Relay(relay) => relay.next(self.sockets.application, self.sockets.wire, pool),
            Phase::Over(end) => Action::End(*end),
            _ => Action::Wait,
        }
    }

    fn await_application(&mut self, pool: &mut Pool) -> Turn {
        match self.sockets.dial {
            Dial::Not => Turn::Dial,
            Dial::Under => Turn::Wait,
            Dial::Connected => match std::mem::replace(&mut self.phase, Phase::Over(End::Reset)) {
                Phase::Established(finished) => Turn::Become(Phase::Relay(Relay::sealed(*finished, pool))),
                other => Turn::Become(other),
            },
        }
    }

    fn space(&mut self, side: Side) -> Space<'_> {
        match &mut self.phase {
            Phase::Outbound(outbound) => outbound.space(side),
            Phase::Inbound(inbound) => inbound.space(),
            Phase::Handshaking(handshaking) => handshaking.space(),
            _ => Space::contiguous(&mut []),
        }
    }

    fn send_handshake(&mut self) -> Action<'_> {
        match &mut self.phase {
            Phase::Handshaking(handshaking) => {
                Action::Send { side: Side::Wire, parts: handshaking.parts(), more: false }
            }
            _ => Action::Wait,
        }
    }

    /// Gives back what is borrowed: to be called once, at the end.
    pub fn release(&mut self, pool: &mut Pool) {
        if let Phase::Relay(relay) = &mut self.phase {
            relay.release(pool);
        }
    }
}
