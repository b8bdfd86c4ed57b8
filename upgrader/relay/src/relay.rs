//! Moving bytes between two connected sockets, both ways, until each way has had its FIN.

use jfe_tls::{Opener, RecordError, Sealer};

use crate::action::{Action, End, PARTS, Parts, Received, Sent, Side};
use crate::buffer::{Buffer, Pool};
use crate::inward::{Broken, Inward, Noticed};
use crate::outward::Outward;

/// What epoll said of a socket, edge by edge.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// A FIN or an error has come: a short read does not mean that nothing follows it.
    pub hangup: bool,
}

/// What one direction would do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Receive,
    Send,
    Shutdown,
    /// Waits for its sockets.
    Idle,
    /// Its share of this turn is spent.
    Yield,
    Done,
}

/// What both directions have in common: bytes wait to be sent, or else more are read, until the source has ended.
#[derive(Debug, Default)]
pub struct Flow {
    pub head: Vec<u8>,
    pub head_sent: usize,
    pub buffer: Option<Buffer>,
    /// Of the buffer's ranges, how many are sent.
    ranges_sent: usize,
    /// The source has ended: once nothing is pending, the sink gets its FIN.
    pub ending: bool,
    pub done: bool,
    /// The last read filled its buffer: the next one gets a large buffer.
    pub large: bool,
    pub turn_left: usize,
    /// Plaintext bytes moved.
    pub bytes: u64,
}

impl Flow {
    pub fn new(head: Vec<u8>) -> Self {
        Self { head, ..Self::default() }
    }

    pub fn only_head(&self) -> bool {
        self.head_sent < self.head.len() && self.ranges_left() == 0
    }

    fn ranges_left(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.ranges.len() - self.ranges_sent)
    }

    pub fn pending(&self) -> bool {
        self.head_sent < self.head.len() || self.ranges_left() > 0
    }

    pub fn step(&self, source: Ready, sink: Ready) -> Step {
        if self.done {
            Step::Done
        } else if self.pending() {
            if sink.writable { Step::Send } else { Step::Idle }
        } else if self.ending {
            Step::Shutdown
        } else if !source.readable {
            Step::Idle
        } else if self.turn_left == 0 {
            Step::Yield
        } else {
            Step::Receive
        }
    }

    pub fn borrow(&mut self, pool: &mut Pool) -> &mut Buffer {
        let large = self.large;
        self.buffer.get_or_insert_with(|| pool.take(large))
    }

    pub fn release(&mut self, pool: &mut Pool) {
        self.ranges_sent = 0;
        if let Some(buffer) = self.buffer.take() {
            pool.give_back(buffer);
        }
    }

    pub fn account(&mut self, count: usize, capacity: usize) {
        self.large = count == capacity;
        self.turn_left = self.turn_left.saturating_sub(count);
    }

    pub fn parts(&self) -> Parts<'_> {
        let (bytes, ranges) = match &self.buffer {
            Some(buffer) => (&*buffer.bytes, &buffer.ranges[self.ranges_sent..]),
            None => (&[][..], &[][..]),
        };
        Parts { head: &self.head[self.head_sent..], buffer: bytes, ranges }
    }

    /// `count` bytes of [`Flow::parts`] are sent.
    pub fn sent(&mut self, mut count: usize) {
        let head = count.min(self.head.len() - self.head_sent);
        self.head_sent += head;
        count -= head;
        if self.head_sent == self.head.len() {
            self.head = Vec::new();
            self.head_sent = 0;
        }
        let Some(buffer) = &mut self.buffer else { return };
        while count > 0 && self.ranges_sent < buffer.ranges.len() {
            let (start, len) = &mut buffer.ranges[self.ranges_sent];
            let part = count.min(*len as usize);
            let step = u32::try_from(part).unwrap_or(0);
            (*start, *len) = (*start + step, *len - step);
            count -= part;
            self.ranges_sent += usize::from(*len == 0);
        }
        if self.ranges_sent == buffer.ranges.len() {
            buffer.ranges.clear();
            self.ranges_sent = 0;
        }
    }
}

/// The keys of an established connection; without them bytes pass as they are.
#[derive(Debug)]
pub struct Keys {
    pub sealer: Sealer,
    pub opener: Opener,
}

#[derive(Debug)]
pub struct Relay {
    outward: Outward,
    inward: Inward,
    keys: Option<Box<Keys>>,
    /// Bytes asked for by the last receive.
    asked: usize,
    reset: bool,
    broken: Option<Broken>,
}

impl Relay {
    /// `outward` and `inward`: what was read from application and wire before the decision.
    pub fn plain(outward: Vec<u8>, inward: Vec<u8>) -> Self {
        let bytes = outward.len() as u64;
        let mut outward = Outward::new(outward, false);
        outward.flow().bytes = bytes;
        Self::new(outward, Inward::new(inward, Vec::new(), false), None)
    }

    pub fn sealed(finished: jfe_tls::Finished, pool: &mut Pool) -> Self {
        let jfe_tls::Finished { sealer, opener, unread, early, last_flight, closed, .. } = finished;
        let mut keys = Box::new(Keys { sealer, opener });
        let outward = Outward::new(last_flight, true);
        let mut inward = Inward::new(early, unread, closed);
        let started = inward.start(&mut keys.opener, pool);
        let mut relay = Self::new(outward, inward, Some(keys));
        relay.notice(started);
        relay
    }

    fn new(mut outward: Outward, mut inward: Inward, keys: Option<Box<Keys>>) -> Self {
        outward.begin_turn();
        inward.begin_turn();
        Self { outward, inward, keys, asked: 0, reset: false, broken: None }
    }

    pub fn begin_turn(&mut self, paused: bool) {
        self.outward.begin_turn();
        self.inward.begin_turn();
        if paused {
            self.outward.resume_short();
        }
    }

    fn notice(&mut self, noticed: Result<Noticed, Broken>) {
        match noticed {
            Ok(noticed) if noticed.answer_key_update => self.outward.answer_key_update(),
            Ok(_) => {}
            Err(error) => {
                self.broken = Some(error);
                self.reset = true;
            }
        }
    }

    pub fn next(&mut self, application: Ready, wire: Ready, pool: &mut Pool) -> Action<'_> {
        if self.reset {
            return Action::End(End::Reset);
        }
        let inward = self.inward.step(wire, application);
        match inward {
            Step::Send => {
                return Action::Send { side: Side::Application, parts: self.inward.parts(), more: false };
            }
            Step::Shutdown => {
                self.inward.flow().done = true;
                // The last FIN goes with the socket.
                let last = self.outward.flow().done;
                return if last { Action::End(End::Closed) } else { Action::Shutdown(Side::Application) };
            }
            Step::Receive => {
                let space = self.inward.space(pool, self.keys.is_some());
                self.asked = space.capacity();
                return Action::Receive { side: Side::Wire, space };
            }
            Step::Idle => self.inward.idle(pool),
            Step::Yield | Step::Done => {}
        }
        let outward = self.outward.step(application, wire, self.keys.as_deref_mut().map(|keys| &mut keys.sealer));
        match outward {
            Step::Send => {
                let more = self.outward.flow().ending;
                Action::Send { side: Side::Wire, parts: self.outward.parts(), more }
            }
            Step::Shutdown => {
                self.outward.flow().done = true;
                if inward == Step::Done { Action::End(End::Closed) } else { Action::Shutdown(Side::Wire) }
            }
            Step::Receive => {
                let space = self.outward.space(pool, self.keys.is_some());
                self.asked = space.capacity();
                Action::Receive { side: Side::Application, space }
            }
            Step::Idle | Step::Yield | Step::Done => match (inward, outward) {
                (Step::Done, Step::Done) => Action::End(End::Closed),
                (Step::Yield, _) | (_, Step::Yield) => Action::Yield,
                _ => Action::Wait,
            },
        }
    }

    pub fn received(&mut self, side: Side, received: Received, pool: &mut Pool) {
        let keys = self.keys.as_deref_mut();
        match side {
            Side::Wire => {
                let noticed = self.inward.received(received, self.asked, keys.map(|keys| &mut keys.opener), pool);
                self.notice(noticed);
            }
            Side::Application => {
                self.outward.received(received, self.asked, keys.map(|keys| &mut keys.sealer), pool);
            }
        }
        self.reset |= received == Received::Reset;
    }

    /// The most that the last receive could have brought.
    pub fn asked(&self) -> usize {
        self.asked
    }

    pub fn sent(&mut self, side: Side, sent: Sent, pool: &mut Pool) {
        match sent {
            Sent::Bytes(count) => match side {
                Side::Application => self.inward.sent(count, pool),
                Side::Wire => {
                    let flow = self.outward.flow();
                    flow.sent(count);
                    if !flow.pending() {
                        flow.release(pool);
                    }
                }
            },
            Sent::WouldBlock => {}
            Sent::Reset => self.reset = true,
        }
    }

    /// RST to both sides, whatever is under way.
    pub fn abort(&mut self) {
        self.reset = true;
    }

    /// The peer has refused us with an alert before it sent a byte: in TLS 1.3 a client is done before the server has
    /// judged its certificate.
    pub fn was_refused(&mut self) -> bool {
        matches!(self.broken, Some(Broken::Record(RecordError::PeerAlert(_)))) && self.inward.flow().bytes == 0
    }

    /// Plaintext bytes (from the workload, to the workload).
    pub fn bytes(&mut self) -> (u64, u64) {
        (self.outward.flow().bytes, self.inward.flow().bytes)
    }

    /// Gives back what is borrowed: the connection is over.
    pub fn release(&mut self, pool: &mut Pool) {
        self.outward.flow().release(pool);
        self.inward.flow().release(pool);
    }
}

const _: () = assert!(PARTS >= 2 * crate::action::RECORDS);
