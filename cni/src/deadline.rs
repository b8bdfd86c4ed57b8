//! The one deadline of a run.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// Where the configuration names none. Of the two minutes that kubelet gives a runtime for a whole pod, a part.
pub const DEFAULT: Duration = Duration::from_secs(20);

/// Of a run's time, what is kept for printing and ending: a tenth, and no more than this.
const MOST_KEPT: Duration = Duration::from_millis(200);
const LEAST_TO_PRINT: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    started: Instant,
    limit: Duration,
}

impl Deadline {
    /// [`DEFAULT`] from now on.
    pub fn start() -> Self {
        Self { started: Instant::now(), limit: DEFAULT }
    }

    /// Sets another limit, counted from the same start.
    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// Sets a shorter limit, counted from the same start; a longer one changes nothing.
    pub fn shorten(&mut self, limit: Duration) {
        self.limit = self.limit.min(limit);
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Until the process must have ended, with a little added where that is over: on a host that is out of breath an
    /// answer is still printed, and only a runtime that does not read it takes the time.
    pub fn left_to_print(&self) -> Duration {
        self.left().max(LEAST_TO_PRINT)
    }

    /// Until the answer must be there.
    pub fn left_to_answer(&self) -> Duration {
        self.left().saturating_sub(MOST_KEPT.min(self.limit / 10))
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.started.elapsed())
    }
}

/// Does `work` and returns what it returns, unless that takes longer.
///
/// What is still going on then goes on, and ends with the process. The work has a thread of its own because no other
/// limit holds for all of it: `connect` to a Unix socket with a full backlog waits for ever, and a limit on each read
/// is none on a peer that sends a byte now and then.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`]; else those of `work`, and of starting a thread.
pub fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    // Nobody listens any more once the time is over.
    thread::Builder::new().spawn(move || drop(sender.send(work())))?;
    receiver.recv_timeout(time).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => io::Error::other("the thread ended without a result"),
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_left_alone() {
        let (_open, never) = mpsc::channel::<()>();
        let error = within(Duration::from_millis(1), move || Ok(never.recv())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn work_that_ends_gives_its_result() {
        assert_eq!(within(DEFAULT, || Ok(7)).unwrap(), 7);
        let error = within(DEFAULT, || Err::<(), _>(io::ErrorKind::NotFound.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_part_of_the_time_is_kept_for_printing() {
        let mut deadline = Deadline::start();
        assert!(deadline.left_to_answer() <= DEFAULT.checked_sub(MOST_KEPT).unwrap());
        deadline.set_limit(Duration::from_millis(100));
        assert!(deadline.left_to_answer() <= Duration::from_millis(90));
        deadline.set_limit(Duration::ZERO);
        assert_eq!(deadline.left_to_answer(), Duration::ZERO);
        assert_eq!(deadline.left_to_print(), LEAST_TO_PRINT);
    }
}
