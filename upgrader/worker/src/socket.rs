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

/// None before it is bound.
pub fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    let address = getsockname(socket).ok().and_then(|address| SocketAddr::try_from(address).ok())?;
    (address.port() != 0).then_some(address)
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

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This address and port (0: one that the kernel chooses), or no connection: by its client's address an application
    /// knows whom it serves.
    Exactly(SocketAddr),
    /// This address; where it can't be bound (one of the loopback, towards the network), what the kernel chooses.
    Preferably(SocketAddr),
    /// What the kernel chooses.
    Any,
}

/// From the origin to the destination, with a socket that was neither bound nor connected yet.
pub fn dial(socket: BorrowedFd<'_>, origin: Origin, destination: SocketAddr) -> Dialled {
    match origin {
        Origin::Exactly(source) => match bind(socket, &source) {
            Ok(()) => {}
            // Somebody listens on this port.
            Err(Errno::ADDRINUSE) => return Dialled::PortTaken,
            Err(error) => return Dialled::Failed(why(error)),
        },
        Origin::Preferably(source) => {
            let _ = bind(socket, &source);
        }
        Origin::Any => {}
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
/// (kernel commit 07f4c90062f8), so odd ones are free of them. In an order, so that one is used again as late as can be.
///
/// Workers know nothing of each other, and may serve the same client and server. Each therefore has an order of its own,
/// by chance: with one order for all they would want the same ports at the same time, and with one that differs by its
/// start alone, who comes to a run of ports that another holds would find all of them taken.
#[derive(Debug)]
pub struct ApplicationPorts {
    place: u32,
    step: u32,
}

impl ApplicationPorts {
    /// `ip_local_port_range`'s default is 32768 to 60999 (ip-sysctl.rst).
    const FIRST: u16 = 32769;
    /// As many as are odd: 4 times a prime.
    const COUNT: u32 = 14116;
    /// Past so many that were taken, one after the other, a connection takes what the kernel chooses. Each costs a
    /// fresh socket.
    pub const TRIES: u8 = 16;

    /// `chance`: any number; two that differ give two orders, most likely.
    pub fn new(chance: u64) -> Self {
        let part = |number: u64, of: u32| u32::try_from(number % u64::from(of)).unwrap_or(0);
        let quarter = Self::COUNT / 4;
        // Odd and less than the prime: it has no divisor in common with the count, so all ports have their turn.
        let step = 2 * part(chance / u64::from(Self::COUNT), quarter / 2) + 1;
        Self { place: part(chance, Self::COUNT), step }
    }

    pub fn next(&mut self) -> u16 {
        let port = Self::FIRST + u16::try_from(2 * self.place).unwrap_or(0);
        self.place = (self.place + self.step) % Self::COUNT;
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    /// Of nobody (RFC 5737): no socket here can be bound to it.
    const NOBODYS: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 0);

    fn fresh() -> OwnedFd {
        socket(AddressFamily::INET, SocketType::STREAM, None).unwrap()
    }

    fn application() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn nobody_came(listener: &TcpListener) -> bool {
        listener.accept().is_err()
    }

    #[test]
    fn from_an_address_that_cannot_be_had_nobody_is_called_under_another() {
        let (listener, destination) = application();
        let dialled = dial(fresh().as_fd(), Origin::Exactly(NOBODYS.into()), destination);
        assert_eq!(dialled, Dialled::Failed(Refuse::ConnectUnreachable));
        assert!(nobody_came(&listener));
    }

    #[test]
    fn where_the_address_is_but_a_preference_the_kernel_chooses_another() {
        let (listener, destination) = application();
        assert_eq!(dial(fresh().as_fd(), Origin::Preferably(NOBODYS.into()), destination), Dialled::Connected);
        assert_eq!(listener.accept().unwrap().1.ip(), Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn a_port_that_somebody_has_is_not_silently_another() {
        let ((listener, destination), (_another, listened_on)) = (application(), application());
        assert_eq!(dial(fresh().as_fd(), Origin::Exactly(listened_on), destination), Dialled::PortTaken);
        assert!(nobody_came(&listener));

        let connected = TcpStream::connect(destination).unwrap();
        let (_accepted, connected_from) = listener.accept().unwrap();
        let same = fresh();
        sockopt::set_socket_reuseaddr(&connected, true).unwrap();
        sockopt::set_socket_reuseaddr(&same, true).unwrap();
        assert_eq!(dial(same.as_fd(), Origin::Exactly(connected_from), destination), Dialled::PortTaken);
        assert!(nobody_came(&listener));
    }

    fn order(chance: u64, count: usize) -> Vec<u16> {
        let mut ports = ApplicationPorts::new(chance);
        (0..count).map(|_| ports.next()).collect()
    }

    #[test]
    fn every_odd_port_of_the_kernels_range_has_its_turn_before_one_comes_again() {
        for chance in [0, 1, 14_115, 14_116, 1 << 40, 0x9e37_79b9_7f4a_7c15, u64::MAX] {
            let once = order(chance, 14_116);
            let distinct: HashSet<u16> = once.iter().copied().collect();
            assert_eq!(distinct.len(), once.len(), "{chance}");
            assert!(once.iter().all(|port| port % 2 == 1 && (32768..=60999).contains(port)), "{chance}");
            assert_eq!(order(chance, 14_117).last(), once.first());
        }
    }

    #[test]
    fn what_one_worker_holds_seldom_keeps_another_from_a_port_for_long() {
        let chances: Vec<u64> = (1..=8).map(|worker| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(worker)).collect();
        for (number, &chance) in chances.iter().enumerate() {
            // The others hold a thousand connections each of the same client to the same server.
            let others = chances.iter().enumerate().filter(|(other, _)| *other != number);
            let held: HashSet<u16> = others.flat_map(|(_, &other)| order(other, 1000)).collect();
            let mut taken_in_a_row = 0;
            for port in order(chance, 1000) {
                taken_in_a_row = if held.contains(&port) { taken_in_a_row + 1 } else { 0 };
                assert!(taken_in_a_row < ApplicationPorts::TRIES, "worker {number} at {port}");
            }
        }
    }
}
