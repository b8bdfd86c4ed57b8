//! The one socket option that no library here knows. The crate's only `unsafe` code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Binding to port 0 takes no port until the connection is made (ip(7), `IP_BIND_ADDRESS_NO_PORT`), so that one
/// address serves more connections than it has ports. Works on IPv6 sockets at the same level.
pub fn set_bind_address_no_port(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel reads `length` bytes at `on`, which lives through the call, and the descriptor is borrowed.
    let result = unsafe {
        libc::setsockopt(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
