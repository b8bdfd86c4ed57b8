//! A worker's process: started, watched by its link, started anew when it ended.

use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use jfe_control::Link;
use jfe_control::message::Event;

use crate::log;
use crate::output::Output;

/// Wait before the second start in a row; doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// A worker that lived this long ended by chance: its successor is not waited for.
const LONG_LIFE: Duration = Duration::from_secs(10);

/// Reads at most of what an ended process left behind: more than a socket holds.
const READS: u32 = 100;

/// Bits of a connection's number that a worker gives itself. Above them: 8 for its process, 16 for its number.
const OWN_BITS: u32 = 40;

/// One of the upgrader's workers, by number; its process may change.
#[derive(Debug)]
pub struct Worker {
    pub number: u32,
    pub process: Option<Process>,
    started: u64,
    failures: u32,
    next_start: Instant,
}

#[derive(Debug)]
pub struct Process {
    pub link: Link,
    child: Child,
    stderr: Option<UnixStream>,
    output: Output,
    since: Instant,
}

impl Worker {
    pub fn new(number: u32, now: Instant) -> Self {
        Self { number, process: None, started: 0, failures: 0, next_start: now }
    }

    /// When to call [`start`](Self::start); none while it runs.
    pub fn next_start(&self) -> Option<Instant> {
        self.process.is_none().then_some(self.next_start)
    }

    /// True: runs now, and has nothing yet.
    pub fn start(&mut self, binary: &Path, now: Instant) -> bool {
        match Process::start(binary, now) {
            Ok(process) => {
                self.process = Some(process);
                self.started += 1;
                true
            }
            Err(error) => {
                log::line(&format!("worker {} can't be started from {}: {error}", self.number, binary.display()));
                self.wait(now);
                false
            }
        }
    }

    /// Whether this start replaced a process that had run.
    pub fn was_replaced(&self) -> bool {
        self.started > 1
    }

    /// Ends the process, if it has not ended by itself, and says how.
    pub fn end(&mut self, why: &str, now: Instant) {
        let Some(mut process) = self.process.take() else { return };
        // It has no right to refuse, so waiting for it takes no time.
        let ended = process.child.kill().and_then(|()| process.child.wait());
        self.say(process.rest());
        let ended = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        log::line(&format!("worker {} ended: {why}; {ended}", self.number));
        if now.duration_since(process.since) >= LONG_LIFE {
            self.failures = 0;
        }
        self.wait(now);
    }

    /// Passes on what it wrote on its standard error.
    pub fn hear(&mut self) {
        let lines = self.process.as_mut().map(Process::hear).unwrap_or_default();
        self.say(lines);
    }

    /// Makes a connection's number unique, and its worker's own: a worker can't speak of another's connections.
    pub fn sign(&self, event: Event) -> Event {
        match event {
            Event::Connection(mut connection) => {
                let process = self.started & 0xff;
                let own = connection.number & ((1 << OWN_BITS) - 1);
                connection.number = (u64::from(self.number) << 48) | (process << OWN_BITS) | own;
                Event::Connection(connection)
            }
            Event::WorkerReplaced { .. } => Event::WorkerReplaced { worker: self.number },
            other => other,
        }
    }

    fn say(&self, lines: Vec<String>) {
        for text in lines {
            log::line(&format!("worker {}: {text}", self.number));
        }
    }

    fn wait(&mut self, now: Instant) {
        let wait = FIRST_WAIT.saturating_mul(1_u32.checked_shl(self.failures.saturating_sub(1)).unwrap_or(u32::MAX));
        self.next_start = if self.failures == 0 { now } else { now + wait.min(LONGEST_WAIT) };
        self.failures = self.failures.saturating_add(1).min(16);
    }
}

impl Process {
    fn start(binary: &Path, now: Instant) -> io::Result<Self> {
        let (link, other) = UnixStream::pair()?;
        let (stderr, other_stderr) = UnixStream::pair()?;
        stderr.set_nonblocking(true)?;
        // It needs nothing of the environment, and the allocator's tunables in it could make it map memory.
        let child = Command::new(binary)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(other)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(OwnedFd::from(other_stderr)))
            .spawn()?;
        let link = Link::new(link.into());
        Ok(Self { link, child, stderr: Some(stderr), output: Output::default(), since: now })
    }

    pub fn stderr(&self) -> Option<&UnixStream> {
        self.stderr.as_ref()
    }

    fn hear(&mut self) -> Vec<String> {
        let Some(stderr) = &mut self.stderr else { return Vec::new() };
        let mut bytes = [0; 4096];
        match stderr.read(&mut bytes) {
            Ok(read) if read > 0 => self.output.take(&bytes[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Vec::new(),
            Ok(_) | Err(_) => {
                self.stderr = None;
                Vec::new()
            }
        }
    }

    /// What a process that has ended left unread.
    fn rest(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..READS {
            lines.extend(self.hear());
            if self.stderr.is_none() {
                break;
            }
        }
        lines.extend(self.output.end());
        lines
    }
}
