//! What the agent hears: counters each second, and each connection where it asks for that.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use jfe_control::message::{self, Counter, Direction, Event, FromWorker, Phase};
use jfe_decide::{Decision, Refuse};

use crate::carried;
use crate::connections::Entry;
use crate::socket;

/// How often counters are told, if there is anything to tell.
pub const INTERVAL: Duration = Duration::from_secs(1);

type Key = (usize, Direction, Decision);

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    connections: u64,
    bytes_sent: u64,
    bytes_received: u64,
    handshakes: u64,
    handshake_microseconds: u64,
}

#[derive(Debug, Default)]
pub struct Report {
    pub connection_events_wanted: bool,
    sums: HashMap<Key, Sums>,
    since: Option<Instant>,
}

impl Report {
    /// Counts what is new of this connection since the last time.
    ///
    /// A decision that became another (a peer that refuses us after the handshake, a workload that is removed) counts
    /// once more, as what it became: what was told as an upgrade can't be taken back, and the refusal must show.
    pub fn count(&mut self, entry: &mut Entry, now: Instant) {
        // Before there is a decision no byte is relayed.
        let Some(decision) = entry.connection.decision() else { return };
        let (bytes_sent, bytes_received) = entry.connection.bytes();
        let reported = &mut entry.report;
        let newly_decided = reported.decided != Some(decision) && entry.connection.is_settled();
        let newly_sent = bytes_sent.saturating_sub(reported.bytes_sent);
        let newly_received = bytes_received.saturating_sub(reported.bytes_received);
        if !newly_decided && newly_sent == 0 && newly_received == 0 {
            return;
        }
        let sums = self.sums.entry((entry.workload, entry.direction, decision)).or_default();
        sums.connections += u64::from(newly_decided);
        sums.bytes_sent += newly_sent;
        sums.bytes_received += newly_received;
        if reported.decided.is_none()
            && newly_decided
            && let Some(microseconds) = reported.handshake_microseconds
        {
            sums.handshakes += 1;
            sums.handshake_microseconds += microseconds;
        }
        if newly_decided {
            reported.decided = Some(decision);
        }
        reported.bytes_sent += newly_sent;
        reported.bytes_received += newly_received;
        self.since.get_or_insert(now);
    }

    /// One that was refused as it was accepted, and of which nothing else is ever known.
    pub fn count_refused(&mut self, workload: usize, direction: Direction, reason: Refuse, now: Instant) {
        self.sums.entry((workload, direction, Decision::Refuse(reason))).or_default().connections += 1;
        self.since.get_or_insert(now);
    }

    /// When the next counters are due, if anything was counted.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + INTERVAL)
    }

    /// The increments since the last call, with the workloads' ids filled in.
    pub fn take(&mut self, id_of: impl Fn(usize) -> Option<String>) -> Option<FromWorker> {
        self.since = None;
        let counter = |((workload, direction, decision), sums): (Key, Sums)| {
            Some(Counter {
                workload: id_of(workload)?,
                direction,
                decision: decision.decision_str().to_owned(),
                reason: decision.reason_str().to_owned(),
                connections: sums.connections,
                bytes_sent: sums.bytes_sent,
                bytes_received: sums.bytes_received,
                handshakes: sums.handshakes,
                handshake_microseconds: sums.handshake_microseconds,
            })
        };
        let counters: Vec<_> = self.sums.drain().filter_map(counter).collect();
        (!counters.is_empty()).then_some(FromWorker::Event(Event::Counters { counters }))
    }
}

/// What there is to say of a connection now.
pub fn event(entry: &mut Entry, workload: &str, phase: Phase) -> FromWorker {
    let decision = entry.connection.decision();
    let (bytes_sent, bytes_received) = entry.connection.bytes();
    let established = entry.connection.established();
    let ipv6 = entry.destination.is_ipv6();
    let carried = entry.wire.as_ref().and_then(|wire| carried::by(wire.as_fd(), ipv6));
    let dialled_from = entry.socket(entry.connection.dialled()).and_then(socket::local_address);
    FromWorker::Event(Event::Connection(Box::new(message::Connection {
        number: entry.number,
        phase,
        workload: workload.to_owned(),
        direction: entry.direction,
        source: entry.source,
        destination: entry.destination,
        decision: decision.map(|decision| decision.decision_str().to_owned()),
        reason: decision.map(|decision| decision.reason_str().to_owned()),
        peer: established.and_then(|established| established.peer.clone()),
        tls: established.map(|established| message::Tls {
            version: established.version.to_owned(),
            cipher: established.cipher.to_owned(),
            key_exchange: established.key_exchange.to_owned(),
        }),
        bytes_sent,
        bytes_received,
        handshake_microseconds: entry.report.handshake_microseconds,
        dialled_from,
        carried,
    })))
}
