//! Whether an application speaks TLS itself: what its answer to our own hello teaches, and for how long.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::hello::RECORD_HEADER;
use crate::inbound::Application;

/// How long an application has for its answer.
pub const PROBE_TIME: Duration = Duration::from_secs(1);

/// How long what was learnt holds.
pub const KNOWLEDGE_LIFE: Duration = Duration::from_secs(600);

/// Ports remembered for one workload.
pub const KNOWLEDGE_PORTS: usize = 1024;

/// Content types and major version of a record (RFC 8446, 5.1), and the type of the message that we ourselves sent (4).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const MAJOR: u8 = 3;
const CLIENT_HELLO: u8 = 1;

/// What came of our own hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// All bytes so far.
    Bytes(&'a [u8]),
    /// The end of the stream, before the bytes decided.
    Closed,
    Refused,
    Reset,
    /// Nothing that decides within [`PROBE_TIME`].
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taught {
    SpeaksTls,
    Plaintext,
    Nothing,
    /// Too few bytes to tell.
    MoreBytes,
}

/// Only a TLS record means that the application speaks TLS; only bytes that are none, or a clean close, that it does
/// not. An application that is not there, overloaded or slow teaches nothing. No server's TLS begins with a client's
/// hello: who sends ours back echoes whatever it is sent.
pub fn judge_answer(answer: Answer<'_>) -> Taught {
    match answer {
        Answer::Bytes([] | [ALERT | HANDSHAKE]) => Taught::MoreBytes,
        Answer::Bytes([HANDSHAKE, MAJOR, header @ ..]) => match header.get(RECORD_HEADER - 2) {
            None => Taught::MoreBytes,
            Some(&CLIENT_HELLO) => Taught::Plaintext,
            Some(_) => Taught::SpeaksTls,
        },
        Answer::Bytes([ALERT, MAJOR, ..]) => Taught::SpeaksTls,
        Answer::Bytes(_) | Answer::Closed => Taught::Plaintext,
        Answer::Refused | Answer::Reset | Answer::Silent => Taught::Nothing,
    }
}

/// What was learnt of one workload's applications, by port.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    ports: HashMap<u16, Learnt>,
}

#[derive(Debug, Clone, Copy)]
struct Learnt {
    speaks_tls: bool,
    expires: Instant,
}

impl Knowledge {
    pub fn new() -> Self {
        Self::default()
    }

    /// [`Application::Unknown`] where nothing was learnt, or too long ago.
    pub fn of(&self, port: u16, now: Instant) -> Application {
        match self.ports.get(&port) {
            Some(learnt) if learnt.expires > now => {
                if learnt.speaks_tls {
                    Application::SpeaksTls
                } else {
                    Application::Plaintext
                }
            }
            _ => Application::Unknown,
        }
    }

    /// Keeps what a probe taught, and tells what that means for the connection it was made for.
    pub fn learn(&mut self, port: u16, taught: Taught, now: Instant) -> Application {
        let speaks_tls = match taught {
            Taught::SpeaksTls => true,
            Taught::Plaintext => false,
            Taught::Nothing | Taught::MoreBytes => return Application::Unlearnable,
        };
        self.make_room(port, now);
        self.ports.insert(port, Learnt { speaks_tls, expires: now + KNOWLEDGE_LIFE });
        if speaks_tls { Application::SpeaksTls } else { Application::Plaintext }
    }

    pub fn forget(&mut self) {
        self.ports.clear();
    }

    pub fn len(&self) -> usize {
        self.ports.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    fn make_room(&mut self, port: u16, now: Instant) {
        if self.ports.len() < KNOWLEDGE_PORTS || self.ports.contains_key(&port) {
            return;
        }
        self.ports.retain(|_, learnt| learnt.expires > now);
        if self.ports.len() < KNOWLEDGE_PORTS {
            return;
        }
        let oldest = self.ports.iter().min_by_key(|(_, learnt)| learnt.expires).map(|(port, _)| *port);
        if let Some(oldest) = oldest {
            self.ports.remove(&oldest);
        }
    }
}
