//! What a panic says, without `write`.

use std::io::{IoSlice, stderr};
use std::panic;

use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

/// From now on a panic is told by `sendmsg` on descriptor 2. Where that is no socket nothing is told: the broker still
/// sees how the worker ended.
pub fn by_sendmsg() {
    panic::set_hook(Box::new(|panic| {
        let text = format!("{panic}\n");
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // The process ends either way, so a failure to tell why can't be told either.
        let _ = sendmsg(stderr(), &[IoSlice::new(text.as_bytes())], &mut SendAncillaryBuffer::default(), flags);
    }));
}
