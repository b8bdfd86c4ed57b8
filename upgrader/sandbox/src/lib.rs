//! What a worker gives up before it meets the bytes: files, descriptors, capabilities, its user, and all system calls
//! but thirteen. What it tries all the same kills it, and the broker makes another.
//!
//! ```no_run
//! # fn main() -> Result<(), jfe_sandbox::SandboxError> {
//! let opened = jfe_sandbox::open()?; // the first thing in main
//! // Make the poll; fill caches; run one handshake, so that libraries have opened what they open once.
//! let closed = jfe_sandbox::close(&opened, &[])?;
//! // Only now read a byte that comes from a network.
//! # Ok(()) }
//! ```
//!
//! What stays possible for code that an attacker has taken over: to use the connections and keys that this worker
//! holds, to open connections from sockets that the broker gave it, and to end.

mod clock;
mod error;
mod filter;
mod last_words;
mod privilege;
mod process;
mod root;

use std::os::fd::RawFd;

use rustix::process::{Pid, getppid};

pub use error::{SandboxError, Step};
pub use privilege::descriptor_limit;

/// The user and group that a closed worker has: `nobody`, which owns nothing.
pub const NOBODY: u32 = 65534;

/// Proof that the process was prepared before it allocated much: [`close`] takes it.
#[derive(Debug)]
pub struct Opened {
    parent: Option<Pid>,
}

/// What was found out on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed {
    /// The kernel's clock can't be read without a system call here, so `clock_gettime` is allowed as the fourteenth.
    pub clock_by_system_call: bool,
}

/// To be called first in `main`: closes inherited descriptors from 3 on, and takes the heap whole, since no memory can be
/// asked for afterwards.
pub fn open() -> Result<Opened, SandboxError> {
    process::close_inherited()?;
    process::take_heap()?;
    Ok(Opened { parent: getppid() })
}

/// Gives up everything but descriptors 0, 1 and 2 and those in `keep`. Any other that is open is an error, as is any
/// step that the kernel refuses: the process must then end. Needs root, `/proc`, and one thread. What a panic says is
/// sent to descriptor 2 from now on, if that is a socket.
pub fn close(opened: &Opened, keep: &[RawFd]) -> Result<Closed, SandboxError> {
    process::check_threads()?;
    let clock_by_system_call = !clock::is_read_without_system_call();
    let program = filter::program(clock_by_system_call)?;
    last_words::by_sendmsg();
    let kept: Vec<i32> = keep.iter().copied().chain(0..=2).collect();
    process::check_descriptors(&kept)?;
    root::leave_file_system()?;
    privilege::drop_all()?;
    privilege::die_with(opened.parent)?;
    seccompiler::apply_filter(&program).map_err(SandboxError::Filter)?;
    Ok(Closed { clock_by_system_call })
}
