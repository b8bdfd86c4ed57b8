//! Events on their way to the agent: counters are never lost, connection events are when nobody reads them. Pure.

use std::collections::{HashMap, VecDeque};

use jfe_control::message::{Connection, Counter, Direction, Event};

/// Bytes queued towards the agent from which on connection events are lost.
pub const QUEUED: usize = 4 << 20;

/// Different counters that are kept: a worker that invents workloads or reasons must not fill the memory.
const COUNTERS: usize = 65_536;

/// Counters in one event.
const AT_ONCE: usize = 5000;

/// Replacements that are remembered while no agent is connected.
const REPLACEMENTS: usize = 256;

#[derive(Debug, Default)]
pub struct Outbox {
    counters: HashMap<(String, Direction, String, String), Counter>,
    replaced: VecDeque<u32>,
    connections: VecDeque<Box<Connection>>,
    lost: u64,
}

impl Outbox {
    /// `wanted`: somebody listens to connection events; `queued`: bytes that wait for the agent.
    pub fn take(&mut self, event: Event, wanted: bool, queued: usize) {
        match event {
            Event::Counters { counters } => counters.into_iter().for_each(|counter| self.count(counter)),
            Event::Connection(_) if !wanted => {}
            Event::Connection(connection) if queued < QUEUED && self.lost == 0 => {
                self.connections.push_back(connection);
            }
            Event::Connection(_) => self.lost = self.lost.saturating_add(1),
            Event::ConnectionEventsLost { count } => self.lost = self.lost.saturating_add(count),
            Event::WorkerReplaced { worker } => {
                self.replaced.push_back(worker);
                if self.replaced.len() > REPLACEMENTS {
                    self.replaced.pop_front();
                }
            }
        }
    }

    /// What can be sent now; counters come together in the meantime if the agent is behind.
    pub fn drain(&mut self, queued: usize) -> Vec<Event> {
        let mut events: Vec<Event> = self.connections.drain(..).map(Event::Connection).collect();
        if queued < QUEUED {
            if self.lost > 0 {
                events.push(Event::ConnectionEventsLost { count: std::mem::take(&mut self.lost) });
            }
            events.extend(self.replaced.drain(..).map(|worker| Event::WorkerReplaced { worker }));
            let counters: Vec<Counter> = self.counters.drain().map(|(_, counter)| counter).collect();
            events.extend(counters.chunks(AT_ONCE).map(|part| Event::Counters { counters: part.to_vec() }));
        }
        events
    }

    /// Whoever comes next asks for connection events anew.
    pub fn agent_gone(&mut self) {
        self.connections.clear();
        self.lost = 0;
    }

    fn count(&mut self, counter: Counter) {
        let key = (counter.workload.clone(), counter.direction, counter.decision.clone(), counter.reason.clone());
        if let Some(sum) = self.counters.get_mut(&key) {
            sum.connections = sum.connections.saturating_add(counter.connections);
            sum.bytes_sent = sum.bytes_sent.saturating_add(counter.bytes_sent);
            sum.bytes_received = sum.bytes_received.saturating_add(counter.bytes_received);
            sum.handshakes = sum.handshakes.saturating_add(counter.handshakes);
            sum.handshake_microseconds = sum.handshake_microseconds.saturating_add(counter.handshake_microseconds);
        } else if self.counters.len() < COUNTERS {
            self.counters.insert(key, counter);
        }
    }
}
