//! Sockets for workers, who can make none. They carry the broker's cgroup, which is what exempts them.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use jfe_control::message::SocketKind;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::error::OpenError;
use crate::option::set_bind_address_no_port;

/// Idle seconds until a connection on the wire is asked whether it lives: stands in for the application's keepalive.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Data may stay unacknowledged for as long as an idle peer may stay silent: the sum of the three above, as tcp(7) says
/// of `TCP_USER_TIMEOUT`.
const USER_TIMEOUT: Duration = Duration::from_secs(90);

/// Bytes not yet sent that the kernel takes from us (tcp(7)): more in a queue only makes others wait. With 512 KiB a
/// round trip beside a bulk transfer took 0.20 of haproxy's, with 128 KiB 0.11, with this 0.07, and neither the rate of
/// that transfer nor its CPU a byte differed by more than the rounds did (`make bench`, BBR). With 64 KiB they did.
pub const UNSENT: u32 = 96 << 10;

pub const KINDS: [SocketKind; 4] =
    [SocketKind::Wire4, SocketKind::Application4, SocketKind::Wire6, SocketKind::Application6];

pub fn is_ipv6(kind: SocketKind) -> bool {
    matches!(kind, SocketKind::Wire6 | SocketKind::Application6)
}

/// Up to `count` fresh sockets in the namespace of this thread; fewer only if there is an error with them.
pub fn open(kind: SocketKind, count: usize, mark: u32) -> (Vec<OwnedFd>, Option<OpenError>) {
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        match open_one(kind, mark) {
            Ok(socket) => sockets.push(socket.into()),
            Err(error) => return (sockets, Some(OpenError::refused("make a socket")(error))),
        }
    }
    (sockets, None)
}

fn open_one(kind: SocketKind, mark: u32) -> io::Result<Socket> {
    let domain = if is_ipv6(kind) { Domain::IPV6 } else { Domain::IPV4 };
    let socket = stream(domain)?;
    set_bind_address_no_port(&socket)?;
    match kind {
        SocketKind::Wire4 | SocketKind::Wire6 => {
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE);
            socket.set_tcp_keepalive(&keepalive.with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES))?;
            socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        }
        SocketKind::Application4 => socket.set_ip_transparent_v4(true)?,
        SocketKind::Application6 => socket.set_ip_transparent_v6(true)?,
    }
    if matches!(kind, SocketKind::Application4 | SocketKind::Application6) {
        socket.set_mark(mark)?;
        // The worker chooses the port, and may choose one that another connection had to another application.
        socket.set_reuse_address(true)?;
    }
    Ok(socket)
}

/// What all sockets here have in common.
pub fn stream(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT)?;
    if domain == Domain::IPV6 {
        // An IPv4 address never takes the form of an IPv6 one here.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
