//! 64 bytes there and back, on one connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::bulk;
use crate::error::LoadError;
use crate::quantile::microseconds;
use crate::request::echo;

const MESSAGE: usize = 64;
/// Trips before those that count.
const WARM: u32 = 200;
/// Time for the bulk transfer to fill every buffer on the way.
const FILL: Duration = Duration::from_millis(500);

pub fn ping_pong(arguments: &Arguments) -> Result<Value, LoadError> {
    let mut stream = echo(arguments.address)?;
    for _ in 0..WARM {
        trip(&mut stream)?;
    }
    let mut times = (0..arguments.trips).map(|_| trip(&mut stream)).collect::<Result<Vec<_>, _>>()?;
    Ok(told(&mut times))
}

/// Round trips while a bulk transfer takes the same way.
pub fn ping_pong_under_bulk(arguments: &Arguments) -> Result<Value, LoadError> {
    let mut stream = echo(arguments.address)?;
    for _ in 0..WARM {
        trip(&mut stream)?;
    }
    let stop = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        let bulk = scope.spawn(|| bulk::send(arguments, u64::MAX, &stop));
        thread::sleep(FILL);
        let start = Instant::now();
        let mut times = Vec::new();
        let measured = loop {
            match trip(&mut stream) {
                Ok(time) => times.push(time),
                Err(error) => break Err(error),
            }
            if start.elapsed() >= arguments.time {
                break Ok(times);
            }
        };
        stop.store(true, Ordering::Relaxed);
        bulk.join().map_err(|_| LoadError::ThreadLost)??;
        measured
    })?;
    Ok(told(&mut times))
}

fn trip(stream: &mut TcpStream) -> Result<Duration, LoadError> {
    let (message, mut answer) = ([0x50; MESSAGE], [0; MESSAGE]);
    let start = Instant::now();
    stream.write_all(&message).map_err(LoadError::broken("a round trip"))?;
    stream.read_exact(&mut answer).map_err(LoadError::broken("a round trip"))?;
    let time = start.elapsed();
    if answer == message { Ok(time) } else { Err(LoadError::WrongAnswer) }
}

fn told(times: &mut [Duration]) -> Value {
    times.sort_unstable();
    json!({
        "trips": times.len(),
        "p50_microseconds": microseconds(times, 0.5),
        "p99_microseconds": microseconds(times, 0.99),
    })
}
