//! Descriptors, threads and heap of this process. The crate's only `unsafe` code.
#![allow(unsafe_code)]

use std::io;

use crate::{SandboxError, Step};

/// Bytes of heap that a worker may ever use: the largest step that mallopt(3) takes. Untouched pages cost nothing.
const HEAP: i32 = i32::MAX & !0xffff;

/// Where memory may not be promised that is not there (`vm.overcommit_memory=2`), less is asked for, down to this.
const LEAST_HEAP: i32 = 64 << 20;

/// Closes all descriptors from 3 on: what the broker's own parent may have left open.
pub fn close_inherited() -> Result<(), SandboxError> {
    // SAFETY: called first in `main`, when no object of this process owns a descriptor but 0 to 2.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(Step::CloseInherited.refused()(io::Error::last_os_error())) }
}

/// The allocator has all the memory that it will ever have, and asks the kernel for no more (mallopt(3), brk(2)): a
/// worker that would need more is killed by its filter, as it would be by the kernel's own limits.
pub fn take_heap() -> Result<(), SandboxError> {
    for (option, value) in [(libc::M_MMAP_MAX, 0), (libc::M_ARENA_MAX, 1), (libc::M_TRIM_THRESHOLD, i32::MAX)] {
        set_allocator(option, value)?;
    }
    // Huge pages would make resident what is untouched.
    // SAFETY: PR_SET_THP_DISABLE takes integers and changes nothing that this process has mapped so far.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    let mut size = HEAP;
    while size >= LEAST_HEAP {
        set_allocator(libc::M_TOP_PAD, size)?;
        if heap_grows() {
            return set_allocator(libc::M_TOP_PAD, 0);
        }
        size /= 2;
    }
    Err(SandboxError::Heap)
}

fn set_allocator(option: i32, value: i32) -> Result<(), SandboxError> {
    // SAFETY: mallopt takes two integers and has no precondition; no other thread runs this early in `main`.
    if unsafe { libc::mallopt(option, value) } == 1 { Ok(()) } else { Err(SandboxError::Heap) }
}

/// Allocates more than a young heap has left, so that it must grow, by `M_TOP_PAD` more than is needed.
fn heap_grows() -> bool {
    const MORE: usize = 1 << 20;
    // SAFETY: sbrk(0) only looks; what malloc gives is freed unused, and `black_box` keeps the pair from being removed.
    unsafe {
        let before = libc::sbrk(0) as usize;
        let block = std::hint::black_box(libc::malloc(MORE));
        let grown = (libc::sbrk(0) as usize).saturating_sub(before);
        libc::free(block);
        !block.is_null() && grown > MORE
    }
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
