//! Lines on standard error.

use std::io::Write;
use std::time::{Duration, Instant};

/// Writes one line. A reader that is gone must not end the broker, which outlives the agent that may have been it.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "jfe-upgrader: {text}");
}

/// Lets one line a second through, where thousands may say the same.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    pub fn allow(&mut self, now: Instant) -> bool {
        let allowed = self.last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1));
        if allowed {
            self.last = Some(now);
        }
        allowed
    }
}
