//! A workload's listeners, on loopback in its namespace, on ports that are in nobody's way.

use std::fs::read_to_string;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use jfe_control::message::Listeners;
use socket2::{Domain, Socket, TcpKeepalive};

use crate::error::OpenError;
use crate::socket::{KEEPALIVE_IDLE, stream};

/// Connections that wait to be accepted; the kernel bounds it by net.core.somaxconn, 4096 by default since 5.4.
const BACKLOG: i32 = 4096;

/// Ports below are for privileged services, whatever `ip_unprivileged_port_start` says.
const LOWEST: u16 = 1024;

/// These speak of the namespace of the task that reads them (ip-sysctl.rst).
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const IPV6_DISABLED: &str = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Two listening ports in the namespace of this thread, and their sockets in the order of
/// [`ToWorker::Workload`](jfe_control::message::ToWorker).
pub fn open() -> Result<(Listeners, Vec<OwnedFd>), OpenError> {
    let (low, high) = port_range()?;
    let with_ipv6 = ipv6_is_there();
    let reserved = reserved_ports(&read_to_string(RESERVED).unwrap_or_default());
    let mut ports =
        candidates(low, high).filter(|port| !reserved.iter().any(|(first, last)| (first..=last).contains(&port)));
    let mut pair =
        || ports.find_map(|port| pair_on(port, with_ipv6).transpose()).unwrap_or(Err(OpenError::NoPort { low, high }));
    let (outbound, inbound) = (pair()?, pair()?);
    let ipv6 = outbound.ipv6.is_some() && inbound.ipv6.is_some();
    let listeners = Listeners { outbound: outbound.port, inbound: inbound.port, ipv6 };
    let sixes = outbound.ipv6.zip(inbound.ipv6).map_or(Vec::new(), |(outbound, inbound)| vec![outbound, inbound]);
    let sockets = [outbound.ipv4, inbound.ipv4].into_iter().chain(sixes).map(OwnedFd::from);
    Ok((listeners, sockets.collect()))
}

struct Pair {
    port: u16,
    ipv4: Socket,
    ipv6: Option<Socket>,
}

/// None: the port is taken in one of the families.
fn pair_on(port: u16, ipv6: bool) -> Result<Option<Pair>, OpenError> {
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    let refused = OpenError::refused("listen");
    let ipv4 = match listener(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        Err(error) if taken(&error) => return Ok(None),
        other => other.map_err(&refused)?,
    };
    let ipv6 = match ipv6.then(|| listener(SocketAddr::from((Ipv6Addr::LOCALHOST, port)))) {
        Some(Err(error)) if taken(&error) => return Ok(None),
        other => other.transpose().map_err(&refused)?,
    };
    Ok(Some(Pair { port, ipv4, ipv6 }))
}

/// Whether loopback has IPv6 in the namespace of this thread. A bind does not tell: a transparent socket may bind any
/// address, and loopback may be down while a workload is being made.
fn ipv6_is_there() -> bool {
    read_to_string(IPV6_DISABLED).is_ok_and(|disabled| disabled.trim() == "0")
}

fn listener(address: SocketAddr) -> io::Result<Socket> {
    let socket = stream(Domain::for_address(address))?;
    // A listener takes what `tproxy` gives it only if it is transparent.
    if address.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
    }
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    // What is accepted has the application's own port, and would keep it from listening there again. Nobody can share
    // the listener all the same: while it listens, SO_REUSEADDR admits none (net/ipv4/inet_connection_sock.c).
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn port_range() -> Result<(u16, u16), OpenError> {
    let text = read_to_string(PORT_RANGE).map_err(OpenError::refused("read ip_local_port_range"))?;
    let mut ports = text.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(low)), Some(Ok(high))) => Ok((low, high)),
        _ => Err(OpenError::refused("read ip_local_port_range")(io::ErrorKind::InvalidData.into())),
    }
}

/// Above the range, then downwards from below it: least likely to be an application's.
pub fn candidates(low: u16, high: u16) -> impl Iterator<Item = u16> {
    (high..=u16::MAX).skip(1).chain((LOWEST..low).rev())
}

/// Ranges that the host keeps for its applications: `8080,30000-30010`.
pub fn reserved_ports(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.trim().split(',').filter_map(range).collect()
}
