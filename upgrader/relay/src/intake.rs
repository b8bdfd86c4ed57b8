//! Bytes gathered before anything is decided about them.

use crate::action::{Received, Space};

/// Grown by this much a read: a hello with a post-quantum key share is about 1.8 KB.
const CHUNK: usize = 4096;

/// Makes room behind what is there.
pub fn room(bytes: &mut Vec<u8>) -> Space<'_> {
    let len = bytes.len();
    bytes.resize(len + CHUNK, 0);
    Space::contiguous(&mut bytes[len..])
}

/// Takes back the room that was not filled. Returns what was asked for.
pub fn settle(bytes: &mut Vec<u8>, received: Received) -> usize {
    let count = match received {
        Received::Bytes(count) => count,
        Received::End | Received::WouldBlock | Received::Reset => 0,
    };
    let former = bytes.len().saturating_sub(CHUNK);
    bytes.truncate(former + count);
    CHUNK
}
