//! What must be finished in time. Each kind of wait has one length, so a queue in order of arrival is in order of time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Deadlines<T> {
    length: Duration,
    queue: VecDeque<(Instant, T)>,
}

impl<T> Deadlines<T> {
    pub fn new(length: Duration) -> Self {
        Self { length, queue: VecDeque::new() }
    }

    pub fn set(&mut self, item: T, now: Instant) {
        self.queue.push_back((now + self.length, item));
    }

    /// The next one that is over; what it was set for may have ended long ago.
    pub fn due(&mut self, now: Instant) -> Option<T> {
        let (when, _) = self.queue.front()?;
        if *when > now {
            return None;
        }
        self.queue.pop_front().map(|(_, item)| item)
    }

    pub fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(when, _)| *when)
    }
}
