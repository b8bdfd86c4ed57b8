//! What a client says first: one byte for what it wants, then what that takes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::error::LoadError;

/// All that follows comes back.
pub const ECHO: u8 = b'e';
/// A length (u64, big-endian) and that many bytes follow; one byte is answered at their end.
pub const SINK: u8 = b's';
/// A length (u64, big-endian) follows; that many bytes are answered.
pub const SOURCE: u8 = b'g';
/// [`QUESTION`] bytes in all; [`ANSWER`] bytes are answered, and the server closes.
pub const ASK: u8 = b'r';

pub const QUESTION: usize = 64;
pub const ANSWER: usize = 128;
pub const LENGTH: usize = 8;
/// What a bulk transfer reads or writes at once.
pub const CHUNK: usize = 256 << 10;

pub fn connect(address: SocketAddr, wish: &[u8]) -> Result<TcpStream, LoadError> {
    let stream = TcpStream::connect(address).map_err(|error| LoadError::Connect { address, error })?;
    stream.set_nodelay(true).map_err(LoadError::broken("setting TCP_NODELAY"))?;
    (&stream).write_all(wish).map_err(LoadError::broken("asking"))?;
    Ok(stream)
}

/// An echo that is known to work: everything on the way has been set up.
pub fn echo(address: SocketAddr) -> Result<TcpStream, LoadError> {
    let stream = connect(address, &[ECHO, b'!'])?;
    let mut first = [0];
    (&stream).read_exact(&mut first).map_err(LoadError::broken("the first echo"))?;
    if first == *b"!" { Ok(stream) } else { Err(LoadError::WrongAnswer) }
}

pub fn with_length(wish: u8, length: u64) -> [u8; 1 + LENGTH] {
    let mut bytes = [wish; 1 + LENGTH];
    bytes[1..].copy_from_slice(&length.to_be_bytes());
    bytes
}
