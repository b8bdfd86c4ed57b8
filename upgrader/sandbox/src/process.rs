//! Descriptors, threads and heap of this process. The crate's only `unsafe` code.
#![allow(unsafe_code)]

use std::io;

use crate::{SandboxError, Step};

/// Bytes by which the heap grows at least, so that a burst of connections makes few calls.
const HEAP_STEP: i32 = 4 << 20;

/// Unused bytes at the heap's end from which they are given back.
const HEAP_SPARE: i32 = 64 << 20;

/// Closes all descriptors from 3 on: what the broker's own parent may have left open.
pub fn close_inherited() -> Result<(), SandboxError> {
    // SAFETY: called first in `main`, when no object of this process owns a descriptor but 0 to 2.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(Step::CloseInherited.refused()(io::Error::last_os_error())) }
}

/// The allocator takes memory by `brk` alone (mallopt(3)).
pub fn heap_by_brk() -> Result<(), SandboxError> {
    let options = [
        (libc::M_MMAP_MAX, 0),
        (libc::M_ARENA_MAX, 1),
        (libc::M_TOP_PAD, HEAP_STEP),
        (libc::M_TRIM_THRESHOLD, HEAP_SPARE),
    ];
    for (option, value) in options {
        // SAFETY: mallopt takes two integers and has no precondition; no other thread runs this early in `main`.
        if unsafe { libc::mallopt(option, value) } != 1 {
            return Err(SandboxError::Heap);
        }
    }
    Ok(())
}

/// User and filter are those of a thread, so there must be one only.
pub fn check_threads() -> Result<(), SandboxError> {
    let threads = std::fs::read_dir("/proc/self/task").map_err(Step::ReadProc.refused())?.count();
    if threads == 1 { Ok(()) } else { Err(SandboxError::Threads(threads)) }
}

pub fn check_descriptors(kept: &[i32]) -> Result<(), SandboxError> {
    let entries = std::fs::read_dir("/proc/self/fd").map_err(Step::ReadProc.refused())?;
    let mut open = Vec::new();
    for entry in entries {
        let name = entry.map_err(Step::ReadProc.refused())?.file_name();
        open.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    // The descriptor by which the list was read is in the list, and is closed by now.
    open.retain(|number| !kept.contains(number) && is_open(*number));
    if open.is_empty() { Ok(()) } else { Err(SandboxError::Descriptors(open)) }
}

fn is_open(number: i32) -> bool {
    // SAFETY: F_GETFD only looks; a number that is not open is an error that it reports.
    (unsafe { libc::fcntl(number, libc::F_GETFD) }) != -1
}
