//! Connect, one small request, its answer, close; by many clients, again and again.

use std::io::Read;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::error::LoadError;
use crate::quantile::microseconds;
use crate::request::{ANSWER, ASK, QUESTION, connect};

/// One of so many may fail.
const FEW: usize = 100;
/// After so many failures a client gives up.
const PATIENCE: usize = 10;

struct Client {
    times: Vec<Duration>,
    failures: Vec<LoadError>,
}

#[allow(clippy::cast_precision_loss)]
pub fn connections(arguments: &Arguments) -> Result<Value, LoadError> {
    let start = Instant::now();
    let end = start + arguments.time;
    let clients = thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.clients).map(|_| scope.spawn(|| client(arguments.address, end))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| LoadError::ThreadLost))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let (mut times, mut failures) = (Vec::new(), Vec::new());
    for client in clients {
        times.extend(client.times);
        failures.extend(client.failures);
    }
    let failed = failures.len();
    // A few are for the reader of the results to see; many mean that something else was measured.
    match failures.pop() {
        Some(last) if failed * FEW > times.len() => {
            return Err(LoadError::SomeFailed { failed, tried: failed + times.len(), last: Box::new(last) });
        }
        _ => {}
    }
    times.sort_unstable();
    Ok(json!({
        "connections": times.len(),
        "failed": failed,
        "seconds": seconds,
        "connections_per_second": times.len() as f64 / seconds,
        "p50_microseconds": microseconds(&times, 0.5),
        "p99_microseconds": microseconds(&times, 0.99),
    }))
}

fn client(address: SocketAddr, end: Instant) -> Client {
    let mut client = Client { times: Vec::new(), failures: Vec::new() };
    loop {
        let start = Instant::now();
        if start >= end {
            return client;
        }
        match ask(address) {
            Ok(()) => client.times.push(start.elapsed()),
            Err(error) => {
                client.failures.push(error);
                if client.failures.len() == PATIENCE {
                    return client;
                }
            }
        }
    }
}

/// The server closes first: where the client does, its ports are used up within seconds (`TIME_WAIT`).
fn ask(address: SocketAddr) -> Result<(), LoadError> {
    let mut stream = connect(address, &[ASK; QUESTION])?;
    let mut answer = [0; ANSWER + 1];
    let mut received = 0;
    loop {
        match stream.read(&mut answer[received..]).map_err(LoadError::broken("reading the answer"))? {
            0 => break,
            more => received += more,
        }
    }
    if received == ANSWER { Ok(()) } else { Err(LoadError::WrongAnswer) }
}
