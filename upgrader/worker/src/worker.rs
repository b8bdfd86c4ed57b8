//! The event loop: what epoll, the broker and the clock say is handed to those who know what to do.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jfe_control::frame::Link;
use jfe_control::message::{self, FromWorker};
use jfe_decide::{Admission, Directory};
use jfe_relay::{Pool, Side};
use jfe_tls::RememberedCertificates;
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::connections::{Entry, Slots, Source};
use crate::deadlines::Deadlines;
use crate::lingering::Lingering;
use crate::probe::Probes;
use crate::report::{self, Report};
use crate::socket::ApplicationPorts;
use crate::workload::Workload;

/// How long a handshake, a strict workload's silent stranger or a wait for cover may take.
const BOUNDED_WAIT: Duration = Duration::from_secs(10);
/// Events taken from epoll at once.
const EVENTS: usize = 256;
/// A connection at rest for so long starts again with short records.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a long connection's bytes are counted.
const COUNT_BYTES: Duration = Duration::from_secs(5);
/// While descriptors are exhausted and none is given back, `accept` is tried so often.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Bytes queued to the broker past which connection events are dropped (and counted as lost).
const LINK_QUEUE: usize = 1 << 20;

#[derive(Debug)]
pub struct Worker {
    pub poll: Poll,
    pub link: Link,
    /// Frames could not be written whole: epoll tells when to go on.
    pub workloads: Slots<Box<Workload>>,
    pub connections: Slots<Box<Entry>>,
    pub directory: Directory,
    /// Peers' certificates once verified, for all workloads.
    pub remembered: Arc<RememberedCertificates>,
    pub admission: Admission,
    pub pool: Pool,
    pub probes: Probes,
    pub lingering: Lingering,
    pub report: Report,
    /// (index, number, bounded wait) of connections that must get on.
    pub deadlines: Deadlines<(usize, u64, u32)>,
    /// Connections that have spent their turn.
    pub again: Vec<usize>,
    /// Some listener may have more to accept.
    pub accept_pending: bool,
    pub descriptors_exhausted: bool,
    /// What is left is kept for the broker's orders until a connection ends.
    pub descriptors_low: bool,
    /// `RLIMIT_NOFILE`.
    pub descriptor_limit: u64,
    pub next_number: u64,
    pub application_ports: ApplicationPorts,
    pub events_lost: u64,
    pub now: Instant,
    counted: Instant,
}

/// Registers both directions, edge-triggered, once and for all.
pub fn register(registry: &Registry, socket: BorrowedFd<'_>, source: Source) -> io::Result<()> {
    let interest = Interest::READABLE | Interest::WRITABLE;
    registry.register(&mut SourceFd(&socket.as_raw_fd()), Token::from(source), interest)
}

/// The link to the broker is gone, or what came over it makes no sense: a worker has no other purpose.
#[derive(Debug)]
pub struct BrokerLost;

impl Worker {
    /// `descriptor_limit`: `RLIMIT_NOFILE`; `chance`: a random number of this worker's own.
    pub fn new(poll: Poll, link: OwnedFd, descriptor_limit: u64, chance: u64) -> io::Result<Self> {
        let link = Link::new(link);
        register(poll.registry(), link.as_fd(), Source::Broker)?;
        let now = Instant::now();
        Ok(Self {
            poll,
            link,
            workloads: Slots::default(),
            connections: Slots::default(),
            directory: Directory::new(),
            remembered: Arc::default(),
            admission: Admission::default(),
            pool: Pool::default(),
            probes: Probes::default(),
            lingering: Lingering::default(),
            report: Report::default(),
            deadlines: Deadlines::new(BOUNDED_WAIT),
            again: Vec::new(),
            accept_pending: false,
            descriptors_exhausted: false,
            descriptors_low: false,
            descriptor_limit,
            next_number: 0,
            application_ports: ApplicationPorts::new(chance),
            events_lost: 0,
            now,
            counted: now,
        })
    }

    pub fn run(mut self) -> Result<(), BrokerLost> {
        self.tell(&FromWorker::Ready)?;
        let mut events = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut events, self.timeout()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(BrokerLost),
            }
            self.now = Instant::now();
            for event in &events {
                self.dispatch(event)?;
            }
            for index in std::mem::take(&mut self.again) {
                self.resume(index);
            }
            self.accept_all();
            self.expire();
            self.tell_counters()?;
            self.connections.recycle();
            self.workloads.recycle();
        }
    }

    /// Until something is due; no time at all where somebody waits for his turn.
    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() || (self.accept_pending && !self.descriptors_exhausted) {
            return Some(Duration::ZERO);
        }
        let accept = self.descriptors_exhausted.then(|| self.now + ACCEPT_AGAIN);
        let dues = [self.deadlines.next(), self.probes.next(), self.lingering.next(), self.report.due(), accept];
        let next = dues.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn dispatch(&mut self, event: &Event) -> Result<(), BrokerLost> {
        match Source::from(event.token()) {
            Source::Broker => self.hear_broker(event.is_writable())?,
            Source::Listener(workload, place) => {
                if let Some(workload) = self.workloads.get_mut(workload)
                    && let Some(listener) = workload.listeners.get_mut(place)
                {
                    listener.pending = true;
                    self.accept_pending = true;
                }
            }
            Source::Socket(index, side) => self.socket_ready(index, side, event),
            Source::Probe(index) => self.probe_ready(index),
            Source::Lingering(index) => self.lingering.ready(index),
        }
        Ok(())
    }

    fn socket_ready(&mut self, index: usize, side: Side, event: &Event) {
        let Some(entry) = self.connections.get_mut(index) else { return };
        let hangup = event.is_read_closed() || event.is_write_closed() || event.is_error();
        if entry.dial_under_way && side == entry.connection.dialled() {
            self.dial_ended(index, hangup);
            // What the edge said of a connected socket's bytes is true too.
        }
        let Some(entry) = self.connections.get_mut(index) else { return };
        entry.connection.ready(side, event.is_readable(), event.is_writable(), hangup);
        self.resume(index);
    }

    /// A new turn for this connection.
    pub fn resume(&mut self, index: usize) {
        let now = self.now;
        let Some(entry) = self.connections.get_mut(index) else { return };
        entry.queued_again = false;
        let paused = now.duration_since(entry.moved) >= PAUSE;
        entry.moved = now;
        entry.connection.begin_turn(paused);
        self.drive(index);
    }

    fn expire(&mut self) {
        while let Some((index, number, wait)) = self.deadlines.due(self.now) {
            if let Some(entry) = self.connections.get_mut(index)
                && entry.number == number
                && entry.connection.bounded_wait() == Some(wait)
            {
                entry.connection.expired(wait);
                self.drive(index);
            }
        }
        self.expire_probes();
        self.lingering.expire(self.now);
    }

    fn tell_counters(&mut self) -> Result<(), BrokerLost> {
        if self.events_lost > 0 && self.link.queued_bytes() < LINK_QUEUE / 2 {
            let count = std::mem::take(&mut self.events_lost);
            self.tell(&FromWorker::Event(message::Event::ConnectionEventsLost { count }))?;
        }
        if self.now.duration_since(self.counted) >= COUNT_BYTES {
            self.counted = self.now;
            for (_, entry) in self.connections.iter_mut() {
                self.report.count(entry, self.now);
            }
        }
        if self.report.due().is_none_or(|due| due > self.now) {
            return Ok(());
        }
        let workloads = &mut self.workloads;
        let mut ids = Vec::new();
        for (index, workload) in workloads.iter_mut() {
            ids.push((index, workload.id.clone()));
        }
        let id_of = |wanted| ids.iter().find(|(index, _)| *index == wanted).map(|(_, id)| id.clone());
        match self.report.take(id_of) {
            Some(message) => self.tell(&message),
            None => Ok(()),
        }
    }

    pub fn tell(&mut self, message: &FromWorker) -> Result<(), BrokerLost> {
        self.link.send(message, Vec::new()).map_err(|_| BrokerLost)?;
        self.link.flush().map(|_| ()).map_err(|_| BrokerLost)
    }

    /// Says something of a connection, where somebody wants to know and the broker keeps up.
    pub fn tell_event(&mut self, entry: &mut Entry, phase: message::Phase) {
        if !self.report.connection_events_wanted {
            return;
        }
        let Some(workload) = self.workloads.get_mut(entry.workload) else { return };
        if self.link.queued_bytes() > LINK_QUEUE {
            self.events_lost += 1;
            return;
        }
        let message = report::event(entry, &workload.id, phase);
        // A lost link is noticed where it is read.
        let _ = self.tell(&message);
    }
}
