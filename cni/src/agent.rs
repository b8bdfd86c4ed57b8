//! The node's agent, behind its Unix socket.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::answer::{Answer, Malformed};
use crate::deadline::{Deadline, within};

const PIECE: usize = 64 * 1024;

/// Sends one request and returns the answer, within the deadline.
pub fn ask(socket: &str, request: Vec<u8>, deadline: &Deadline) -> Result<Answer, Down> {
    let path = socket.to_owned();
    let exchanged = within(deadline.left_to_answer(), move || Ok(exchange(&path, &request)));
    exchanged.unwrap_or_else(|error| match error.kind() {
        ErrorKind::TimedOut => Err(Down::Silent { seconds: deadline.limit().as_secs_f64() }),
        _ => Err(Down::Failed(error)),
    })
}

fn exchange(socket: &str, request: &[u8]) -> Result<Answer, Down> {
    let mut stream = UnixStream::connect(socket).map_err(Down::from_connect)?;
    // An agent that refuses a request early answers and closes without reading the rest: the answer counts.
    let sent = stream.write_all(request);
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Err(sent.err().map_or(Down::Ended, Down::from_exchange)),
            Ok(length) => bytes.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Down::from_exchange(error)),
        }
        if let Some(answer) = Answer::read(&bytes).map_err(Down::Malformed)? {
            // The answer is whole; that the agent learns of it late or never changes nothing.
            drop(stream.shutdown(Shutdown::Both));
            return Ok(answer);
        }
    }
}

/// Why there is no answer. Written as the end of a sentence that names the socket.
#[derive(Debug)]
pub enum Down {
    NoSocket,
    Refused,
    Silent { seconds: f64 },
    Ended,
    Malformed(Malformed),
    Status(u16),
    Failed(io::Error),
}

impl Down {
    fn from_connect(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::NoSocket,
            ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Failed(error),
        }
    }

    fn from_exchange(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Self::Ended,
            _ => Self::Failed(error),
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSocket => formatter.write_str("the socket does not exist"),
            Self::Refused => formatter.write_str("connection refused, nobody listens there"),
            Self::Silent { seconds } => write!(formatter, "no answer within {seconds} s"),
            Self::Ended => formatter.write_str("the agent ended before it answered"),
            Self::Malformed(Malformed(why)) => write!(formatter, "what answers there is not the agent: {why}"),
            Self::Status(status) => write!(formatter, "the agent answered with HTTP status {status}"),
            Self::Failed(error) => error.fmt(formatter),
        }
    }
}
