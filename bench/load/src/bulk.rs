//! One connection, many bytes.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::error::LoadError;
use crate::request::{CHUNK, SINK, SOURCE, connect, with_length};

/// Bytes on a connection of its own before the one that counts: caches and buffers are then as in a long run.
const WARM: u64 = 32 << 20;

/// Time runs from the first byte to the last one's arrival at the far end.
#[allow(clippy::cast_precision_loss)]
pub fn bulk(arguments: &Arguments) -> Result<Value, LoadError> {
    transfer(arguments, WARM)?;
    let start = Instant::now();
    transfer(arguments, arguments.bytes)?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(json!({
        "bytes": arguments.bytes,
        "warm_bytes": WARM,
        "seconds": seconds,
        "megabytes_per_second": arguments.bytes as f64 / 1e6 / seconds,
    }))
}

fn transfer(arguments: &Arguments, bytes: u64) -> Result<(), LoadError> {
    if arguments.down { receive(arguments, bytes) } else { send(arguments, bytes, &AtomicBool::new(false)) }
}

fn receive(arguments: &Arguments, bytes: u64) -> Result<(), LoadError> {
    let mut stream = connect(arguments.address, &with_length(SOURCE, bytes))?;
    let mut chunk = vec![0; CHUNK];
    let mut missing = bytes;
    while missing > 0 {
        match stream.read(&mut chunk).map_err(LoadError::broken("receiving"))? {
            0 => return Err(LoadError::WrongAnswer),
            received => missing = missing.saturating_sub(received as u64),
        }
    }
    Ok(())
}

/// Sends so many bytes, or fewer where `stop` says so.
pub fn send(arguments: &Arguments, bytes: u64, stop: &AtomicBool) -> Result<(), LoadError> {
    let mut stream = connect(arguments.address, &with_length(SINK, bytes))?;
    let chunk = vec![0x5a; CHUNK];
    let mut missing = bytes;
    while missing > 0 {
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let part = usize::try_from(missing).unwrap_or(CHUNK).min(CHUNK);
        stream.write_all(&chunk[..part]).map_err(LoadError::broken("sending"))?;
        missing -= part as u64;
    }
    let mut done = [0];
    stream.read_exact(&mut done).map_err(LoadError::broken("waiting for the receipt"))
}
