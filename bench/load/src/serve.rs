//! The application at the far end: small exchanges on one event loop, each bulk transfer on a thread of its own, so
//! that what is measured beside a bulk transfer is the way and not this server.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use serde_json::Value;

use crate::error::LoadError;
use crate::request::{ANSWER, ASK, CHUNK, ECHO, LENGTH, QUESTION, SINK, SOURCE};

const LISTENER: Token = Token(0);

enum Wish {
    Unknown,
    Echo,
    /// Bytes of the question still to come.
    Question(usize),
}

struct Conversation {
    stream: TcpStream,
    wish: Wish,
}

enum Then {
    GoesOn,
    Over,
    Bulk { down: bool },
}

pub fn serve(address: SocketAddr) -> Result<Value, LoadError> {
    let failed = LoadError::broken("serving");
    let mut listener = TcpListener::bind(address).map_err(|error| LoadError::Listen { address, error })?;
    let mut poll = Poll::new().map_err(&failed)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(&failed)?;
    let mut events = Events::with_capacity(1024);
    let mut conversations: HashMap<Token, Conversation> = HashMap::new();
    let mut next = 1;
    loop {
        poll.poll(&mut events, None).map_err(&failed)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Some(mut stream) = accept(&listener).map_err(&failed)? {
                    stream.set_nodelay(true).map_err(&failed)?;
                    let token = Token(next);
                    next += 1;
                    poll.registry().register(&mut stream, token, Interest::READABLE).map_err(&failed)?;
                    conversations.insert(token, Conversation { stream, wish: Wish::Unknown });
                }
                continue;
            }
            let Some(conversation) = conversations.get_mut(&event.token()) else { continue };
            match conversation.turn() {
                Ok(Then::GoesOn) => {}
                // A client that breaks off has its own complaint.
                Ok(Then::Over) | Err(_) => {
                    conversations.remove(&event.token());
                }
                Ok(Then::Bulk { down }) => {
                    if let Some(mut conversation) = conversations.remove(&event.token()) {
                        poll.registry().deregister(&mut conversation.stream).map_err(&failed)?;
                        let stream = blocking(conversation.stream).map_err(&failed)?;
                        thread::spawn(move || if down { source(stream) } else { sink(stream) });
                    }
                }
            }
        }
    }
}

fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Conversation {
    /// Reads until there is no more: events come once for each arrival.
    fn turn(&mut self) -> io::Result<Then> {
        let mut bytes = [0; 4096];
        loop {
            // A bulk transfer's bytes belong to its thread.
            let most = if matches!(self.wish, Wish::Unknown) { 1 } else { bytes.len() };
            let received = match self.stream.read(&mut bytes[..most]) {
                Ok(0) => return Ok(Then::Over),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Then::GoesOn),
                Err(error) => return Err(error),
            };
            match self.wish {
                Wish::Unknown => match bytes[0] {
                    ECHO => self.wish = Wish::Echo,
                    ASK => self.wish = Wish::Question(QUESTION - 1),
                    SINK => return Ok(Then::Bulk { down: false }),
                    SOURCE => return Ok(Then::Bulk { down: true }),
                    _ => return Ok(Then::Over),
                },
                Wish::Echo => self.stream.write_all(&bytes[..received])?,
                Wish::Question(missing) if received < missing => self.wish = Wish::Question(missing - received),
                Wish::Question(_) => {
                    self.stream.write_all(&[b'a'; ANSWER])?;
                    return Ok(Then::Over);
                }
            }
        }
    }
}

fn blocking(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    let stream = std::net::TcpStream::from(OwnedFd::from(stream));
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn length(stream: &mut std::net::TcpStream) -> io::Result<u64> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

fn sink(mut stream: std::net::TcpStream) -> io::Result<()> {
    let mut missing = length(&mut stream)?;
    let mut chunk = vec![0; CHUNK];
    while missing > 0 {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            received => missing = missing.saturating_sub(received as u64),
        }
    }
    stream.write_all(b".")
}

fn source(mut stream: std::net::TcpStream) -> io::Result<()> {
    let mut missing = length(&mut stream)?;
    let chunk = vec![0x5a; CHUNK];
    while missing > 0 {
        let part = usize::try_from(missing).unwrap_or(CHUNK).min(CHUNK);
        stream.write_all(&chunk[..part])?;
        missing -= part as u64;
    }
    Ok(())
}
