//! stdin, which holds the network configuration.

use std::fmt;
use std::io::{self, IsTerminal, Read};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::config::Config;
use crate::deadline::Deadline;
use crate::error::{CniError, Code};

/// A pod's annotations, which Kubernetes holds to 256 KiB in all, and results of plugins before: a tenth of this.
pub const LONGEST: usize = 4 * 1024 * 1024;

/// A runtime writes a configuration in one go as it starts a plugin.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A pipe's size (pipe(7)).
const PIECE: usize = 64 * 1024;

/// What has come, and why it is not all.
#[derive(Debug)]
pub struct Input {
    pub bytes: Vec<u8>,
    pub fault: Option<Fault>,
}

#[derive(Debug)]
pub enum Fault {
    NotClosed,
    TooLong,
    Unreadable(io::Error),
}

impl Fault {
    pub fn to_cni(&self) -> CniError {
        let (code, remedy) = match self {
            Self::NotClosed | Self::Unreadable(_) => (Code::InputOutput, "see what the container runtime says of it"),
            Self::TooLong => (Code::InvalidConfig, "shorten the network's configuration or the pod's annotations"),
        };
        CniError { code, message: self.to_string(), remedy }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotClosed => formatter.write_str("stdin was not closed in time after the network configuration"),
            Self::TooLong => formatter.write_str("the network configuration on stdin is longer than 4 MiB"),
            Self::Unreadable(error) => write!(formatter, "stdin can't be read: {error}"),
        }
    }
}

impl Input {
    /// Reads this process's stdin to its end. A terminal counts as empty: nobody types a configuration.
    pub fn of_this_process(deadline: &mut Deadline) -> Self {
        if io::stdin().is_terminal() {
            return Self { bytes: Vec::new(), fault: None };
        }
        Self::read(io::stdin(), deadline)
    }

    /// Reads what of this process's stdin comes at once: for what is answered in any case, a version is worth no more.
    ///
    /// A person's shell may hold stdin open without ever writing to it (`ssh node …`).
    pub fn at_once(deadline: &Deadline) -> Self {
        let mut soon = *deadline;
        soon.shorten(AT_ONCE);
        Self::of_this_process(&mut soon)
    }

    /// Reads `source` to its end.
    ///
    /// A shorter limit that the configuration names holds from when it is there, not only once `source` has been closed.
    fn read(source: impl Read + Send + 'static, deadline: &mut Deadline) -> Self {
        let mut bytes = Vec::new();
        let (sender, receiver) = mpsc::channel();
        if let Err(error) = thread::Builder::new().spawn(move || send_pieces(source, &sender)) {
            return Self { bytes, fault: Some(Fault::Unreadable(error)) };
        }
        let fault = loop {
            let left = deadline.left_to_answer();
            if left.is_zero() {
                break Some(Fault::NotClosed);
            }
            match receiver.recv_timeout(left) {
                Ok(Ok(piece)) => bytes.extend_from_slice(&piece),
                Ok(Err(error)) => break Some(Fault::Unreadable(error)),
                Err(RecvTimeoutError::Timeout) => break Some(Fault::NotClosed),
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            if bytes.len() > LONGEST {
                break Some(Fault::TooLong);
            }
            if may_be_whole(&bytes)
                && let Ok(config) = Config::read(&bytes)
            {
                deadline.shorten(config.deadline);
            }
        };
        Self { bytes, fault }
    }
}

/// Spares a long document from being read anew after each of its pieces.
fn may_be_whole(bytes: &[u8]) -> bool {
    bytes.trim_ascii_end().last() == Some(&b'}')
}

fn send_pieces(mut source: impl Read, sender: &Sender<io::Result<Vec<u8>>>) {
    let mut piece = vec![0; PIECE];
    let mut sent = 0;
    while sent <= LONGEST {
        let result = match source.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => {
                sent += length;
                Ok(piece.get(..length).unwrap_or_default().to_vec())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = result.is_err();
        // Nobody listens any more once the deadline is over.
        if sender.send(result).is_err() || failed {
            return;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Gives its bytes, one a time, and then an error, an end, or nothing more.
    struct Drip(Vec<u8>, End);

    enum End {
        Error,
        Closed,
        Open(mpsc::Receiver<()>),
    }

    impl Read for Drip {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return match &self.1 {
                    End::Error => Err(io::ErrorKind::PermissionDenied.into()),
                    End::Closed => Ok(0),
                    End::Open(never) => never.recv().map(|()| 0).map_err(io::Error::other),
                };
            }
            into[0] = self.0.remove(0);
            Ok(1)
        }
    }

    fn open() -> (mpsc::Sender<()>, End) {
        let (sender, receiver) = mpsc::channel();
        (sender, End::Open(receiver))
    }

    #[test]
    fn all_is_read_however_it_comes() {
        let input = Input::read(Drip(b"{} \0\xff".to_vec(), End::Closed), &mut Deadline::start());
        assert_eq!(input.bytes, b"{} \0\xff");
        assert!(input.fault.is_none());
    }

    #[test]
    fn the_configurations_limit_holds_before_stdin_is_closed() {
        let (_held, end) = open();
        let mut deadline = Deadline::start();
        let input = Input::read(Drip(br#"{"deadlineSeconds": 0.01}"#.to_vec(), end), &mut deadline);
        assert!(matches!(input.fault, Some(Fault::NotClosed)));
        assert_eq!(deadline.limit(), Duration::from_millis(10));
    }

    #[test]
    fn what_came_before_a_fault_is_kept() {
        let input = Input::read(Drip(b"{\"a\"".to_vec(), End::Error), &mut Deadline::start());
        assert_eq!(input.bytes, b"{\"a\"");
        assert_eq!(input.fault.unwrap().to_cni().code, Code::InputOutput);
    }

    #[test]
    fn an_endless_stdin_is_left_at_its_limit() {
        let input = Input::read(io::repeat(b' '), &mut Deadline::start());
        assert!(input.bytes.len() <= LONGEST + PIECE);
        assert_eq!(input.fault.unwrap().to_cni().code, Code::InvalidConfig);
    }
}
