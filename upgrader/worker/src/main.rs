//! `jfe-upgrader-worker`: takes connections of workloads, and relays them as was decided. Started by the broker, with
//! the link to it as descriptor 0; closes its sandbox before it reads a byte from anybody else.

mod accept;
mod carried;
mod connections;
mod deadlines;
mod drive;
mod lingering;
mod orders;
mod probe;
mod report;
mod socket;
mod worker;
mod workload;

use std::error::Error;
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;

use mio::Poll;
use rustix::rand::GetRandomFlags;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jfe-upgrader-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let opened = jfe_sandbox::open()?;
    let poll = Poll::new()?;
    warm_up();
    let chance = chance()?;
    let descriptor_limit = jfe_sandbox::descriptor_limit();
    let link = std::io::stdin().as_fd().try_clone_to_owned()?;
    jfe_sandbox::close(&opened, &[link.as_raw_fd(), poll.as_raw_fd()])?;
    let worker = worker::Worker::new(poll, link, descriptor_limit, chance)?;
    // Past this point the filter lets no process end itself: where the broker is lost, trying to exit is the end.
    match worker.run() {
        Ok(()) | Err(worker::BrokerLost) => Ok(()),
    }
}

/// By which this worker differs from its siblings.
fn chance() -> Result<u64, Box<dyn Error>> {
    let mut bytes = [0; 8];
    // Eight bytes come whole, once the kernel has gathered enough to give any (getrandom(2)).
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What the cryptographic library opens, maps and asks of the kernel once, it does now.
fn warm_up() {
    drop(jfe_tls::probe_hello());
}
