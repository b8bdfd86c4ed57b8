//! Descriptors kept back, so that a worker can be replaced and an agent heard when workloads have taken all others.

use std::os::fd::{AsFd, OwnedFd};

/// A start takes two socket pairs, a pipe to learn whether it worked, and /dev/null; a connection of the agent takes
/// one, and a descriptor that comes with a request another.
const KEPT: usize = 12;

#[derive(Debug)]
pub struct Reserve {
    kept: Vec<OwnedFd>,
}

impl Reserve {
    pub fn new() -> Self {
        let mut reserve = Self { kept: Vec::with_capacity(KEPT) };
        reserve.refill();
        reserve
    }

    /// Does `task` with so many descriptors free; takes back what is left of them.
    pub fn lend<T>(&mut self, task: impl FnOnce() -> T) -> T {
        self.kept.clear();
        let result = task();
        self.refill();
        result
    }

    fn refill(&mut self) {
        while self.kept.len() < KEPT {
            match std::io::stdin().as_fd().try_clone_to_owned() {
                Ok(descriptor) => self.kept.push(descriptor),
                // What is left is kept all the same, and the next time may bring more.
                Err(_) => return,
            }
        }
    }
}
