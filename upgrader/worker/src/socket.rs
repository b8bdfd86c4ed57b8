//! The system calls of a connection, each once: all that the sandbox leaves.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use jfe_control::message::Shape;
use jfe_decide::Refuse;
use jfe_relay::{Received, Sent};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, acceptfrom_with, bind,
    connect, connect_unspec, getsockname, recvmsg, sendmsg, shutdown, sockopt,
};

pub fn receive(socket: BorrowedFd<'_>, into: &mut [IoSliceMut<'_>]) -> Received {
    loop {
        return match recvmsg(socket, into, &mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT) {
            Ok(message) if message.bytes == 0 => Received::End,
            Ok(message) => Received::Bytes(message.bytes),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Received::WouldBlock,
            Err(_) => Received::Reset,
        };
    }
}

/// `more`: a FIN follows at once; the kernel waits for it with an incomplete segment (`MSG_MORE`, tcp(7)).
pub fn send(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], more: bool) -> Sent {
    let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    flags.set(SendFlags::MORE, more);
    loop {
        return match sendmsg(socket, parts, &mut SendAncillaryBuffer::default(), flags) {
            Ok(count) => Sent::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Sent::WouldBlock,
            Err(_) => Sent::Reset,
        };
    }
}

/// FIN. An error means that the connection is gone, which the next read tells better.
pub fn finish(socket: BorrowedFd<'_>) {
    let _ = shutdown(socket, Shutdown::Write);
}

/// RST, whatever is queued: `connect` to `AF_UNSPEC` disconnects (`tcp_disconnect`, net/ipv4/tcp.c), and needs neither
/// `setsockopt` nor a linger time.
pub fn reset(socket: OwnedFd) {
    let _ = connect_unspec(&socket);
    drop(socket);
}

pub struct Accepted {
    pub socket: OwnedFd,
    pub source: SocketAddr,
    /// What the other end dialled.
    pub destination: SocketAddr,
    /// The listener itself was dialled.
    pub own_listener: bool,
}

/// Takes one connection; `Ok(None)` where one came that is gone already.
pub fn accept(listener: BorrowedFd<'_>, outbound: bool, shape: Shape, port: u16) -> Result<Option<Accepted>, Errno> {
    let (socket, source) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let (Some(Ok(source)), Ok(Ok(local))) =
        (source.map(SocketAddr::try_from), getsockname(&socket).map(SocketAddr::try_from))
    else {
        return Ok(None);
    };
    let dialled_us = local.ip().is_loopback() && local.port() == port;
    let destination = match shape {
        Shape::Host if outbound => original_destination(&socket, local).unwrap_or(local),
        Shape::Host | Shape::Namespace => local,
    };
    let own_listener = dialled_us && destination == local;
    Ok(Some(Accepted { socket, source, destination, own_listener }))
}

/// What NAT's redirect has replaced; none where no NAT was.
fn original_destination(socket: &OwnedFd, local: SocketAddr) -> Option<SocketAddr> {
    match local {
        SocketAddr::V4(_) => sockopt::ip_original_dst(socket).ok().map(SocketAddr::V4),
        SocketAddr::V6(_) => sockopt::ipv6_original_dst(socket).ok().map(SocketAddr::V6),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialled {
    Connected,
    UnderWay,
    /// Another connection has this port already, or had it a moment ago: another socket with port 0 may do.
    PortTaken,
    Failed(Refuse),
}

/// From the given address and port (0: one that the kernel chooses) to the destination.
pub fn dial(socket: BorrowedFd<'_>, source: SocketAddr, destination: SocketAddr) -> Dialled {
    // What can't be bound (a loopback address towards the network; a port on which somebody listens) is left to the
    // kernel to replace.
    if !source.ip().is_unspecified() && bind(socket, &source).is_err() && source.port() != 0 {
        let _ = bind(socket, &SocketAddr::new(source.ip(), 0));
    }
    match connect(socket, &destination) {
        Ok(()) => Dialled::Connected,
        Err(Errno::INPROGRESS) => Dialled::UnderWay,
        Err(Errno::ADDRNOTAVAIL | Errno::ADDRINUSE) => Dialled::PortTaken,
        Err(error) => Dialled::Failed(why(error)),
    }
}

/// Ports for connections to applications, which carry the client's address: odd ones of the kernel's default range.
///
/// The client's connection on the wire ends on this host as (server, client, port P). Were P chosen for the last leg
/// too, the application's end of it would be the same four-tuple, and its SYN would meet the wire's socket. Clients'
/// ports come from `connect`, which takes those of the range's lower end's parity, even ones, while there are any
/// (kernel commit 07f4c90062f8), so odd ones are free of them. In order, so that one is used again as late as can be.
#[derive(Debug)]
pub struct ApplicationPorts(u16);

impl ApplicationPorts {
    /// `ip_local_port_range`'s default (ip-sysctl.rst).
    const RANGE: (u16, u16) = (32768, 60999);

    pub fn new() -> Self {
        Self(Self::RANGE.0 + 1)
    }

    pub fn next(&mut self) -> u16 {
        let port = self.0;
        self.0 = if port + 2 > Self::RANGE.1 { Self::RANGE.0 + 1 } else { port + 2 };
        port
    }
}

/// What became of a dial that was under way, after epoll has told of it.
pub fn dialled(socket: BorrowedFd<'_>) -> Dialled {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Dialled::Connected,
        Ok(Err(error)) | Err(error) => Dialled::Failed(why(error)),
    }
}

fn why(error: Errno) -> Refuse {
    match error {
        Errno::CONNREFUSED | Errno::CONNRESET => Refuse::ConnectRefused,
        Errno::TIMEDOUT => Refuse::ConnectTimeout,
        Errno::NOBUFS | Errno::NOMEM => Refuse::Exhausted,
        // Unreachable, forbidden by a filter (EPERM, EACCES), or a kind of destination nobody can be connected to.
        _ => Refuse::ConnectUnreachable,
    }
}
