//! Listeners and sockets in a fresh network namespace, and what the kernel says of them. Run as root.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

use jfe_broker::error::OpenError;
use jfe_broker::listener::{candidates, reserved_ports};
use jfe_broker::namespace::{Home, same};
use jfe_broker::{listener, socket};
use jfe_control::message::{Listeners, SocketKind};
use rustix::net::sockopt;
use socket2::Socket;

/// A network namespace without a name; it is gone with its last descriptor.
fn namespace(setting: &str) -> File {
    let script = format!("ip link set lo up; {setting}; echo; read wait");
    let mut command = Command::new("unshare");
    command.args(["--net", "/bin/sh", "-c", &script]);
    let (stdin, stdout) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let mut child = command.stdin(stdin).stdout(stdout).spawn().unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let namespace = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    namespace
}

fn within<T>(namespace: &File, task: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    Home::new().unwrap().within(namespace.as_fd(), task)
}

fn open_in(namespace: &File) -> Result<(Listeners, Vec<OwnedFd>), OpenError> {
    within(namespace, listener::open)
}

fn closed_on_exec(socket: &Socket) -> bool {
    rustix::io::fcntl_getfd(socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC)
}

fn own_namespace() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

#[test]
fn listeners_take_ports_outside_the_range_of_their_namespace_on_both_loopback_addresses() {
    let namespace = namespace("sysctl -qw net.ipv4.ip_local_port_range='20000 65000'");
    let (listeners, sockets) = open_in(&namespace).unwrap();
    assert_eq!(listeners, Listeners { outbound: 65001, inbound: 65002, ipv6: true });
    let sockets: Vec<Socket> = sockets.into_iter().map(Socket::from).collect();
    let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap().as_socket().unwrap().to_string());
    assert_eq!(addresses.collect::<Vec<_>>(), ["127.0.0.1:65001", "127.0.0.1:65002", "[::1]:65001", "[::1]:65002"]);
    for (number, socket) in sockets.iter().enumerate() {
        assert!(socket.nonblocking().unwrap() && socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert!(socket.reuse_address().unwrap() && closed_on_exec(socket));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), socket::UNSENT);
        assert_eq!(sockopt::tcp_keepidle(socket).unwrap(), socket::KEEPALIVE_IDLE);
        assert!(if number < 2 { socket.ip_transparent_v4() } else { socket.ip_transparent_v6() }.unwrap());
    }
}

#[test]
fn nobody_shares_a_listener_though_its_connections_let_an_application_listen_again() {
    let namespace = namespace("true");
    let (listeners, _sockets) = open_in(&namespace).unwrap();
    let share = || {
        let rival = Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        rival.set_reuse_address(true).unwrap();
        let address = std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, listeners.inbound));
        Ok(rival.bind(&address.into()).unwrap_err().kind())
    };
    assert_eq!(within(&namespace, share).unwrap(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn an_accepted_connection_inherits_the_options_of_its_listener() {
    let namespace = namespace("true");
    let (listeners, sockets) = open_in(&namespace).unwrap();
    let connect = || Ok(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, listeners.outbound)).unwrap());
    let _client = within(&namespace, connect).unwrap();
    let accepted = TcpListener::from(sockets.into_iter().next().unwrap()).accept().unwrap().0;
    assert!(accepted.nodelay().unwrap() && sockopt::socket_keepalive(&accepted).unwrap());
    assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), socket::KEEPALIVE_IDLE);
}

#[test]
fn a_taken_or_reserved_port_is_left_to_its_owner() {
    let namespace = namespace("sysctl -qw net.ipv4.ip_local_reserved_ports=61002");
    let taken = || Ok(TcpListener::bind("[::1]:61000").unwrap());
    let _taken = within(&namespace, taken).unwrap();
    let (listeners, _sockets) = open_in(&namespace).unwrap();
    assert_eq!((listeners.outbound, listeners.inbound), (61001, 61003));
    let (others, _more) = open_in(&namespace).unwrap();
    assert_eq!((others.outbound, others.inbound), (61004, 61005));
}

#[test]
fn without_ipv6_there_are_listeners_for_ipv4_alone() {
    let namespace = namespace("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    let (listeners, sockets) = open_in(&namespace).unwrap();
    assert!(!listeners.ipv6);
    assert_eq!(sockets.len(), 2);
}

#[test]
fn a_range_that_leaves_no_port_is_named_with_what_to_do() {
    let namespace = namespace("sysctl -qw net.ipv4.ip_local_port_range='1024 65535'");
    let error = open_in(&namespace).unwrap_err().to_string();
    assert!(error.contains("1024-65535") && error.contains("narrow that range"), "{error}");
}

#[test]
fn the_broker_is_at_home_again_afterwards_also_after_an_error() {
    let before = own_namespace();
    let namespace = namespace("true");
    assert!(!same(before.as_fd(), namespace.as_fd()));
    let inside = within(&namespace, || Ok(own_namespace())).unwrap();
    assert!(same(inside.as_fd(), namespace.as_fd()));
    within(&namespace, || Err::<(), _>(OpenError::NamespaceGone)).unwrap_err();
    assert!(same(own_namespace().as_fd(), before.as_fd()));
}

#[test]
fn a_file_that_is_no_namespace_is_told_from_one() {
    let file = File::open("/proc/self/exe").unwrap();
    assert!(matches!(open_in(&file), Err(OpenError::NamespaceGone)));
}

#[test]
fn sockets_carry_the_options_of_their_kind() {
    let namespace = namespace("true");
    for kind in socket::KINDS {
        let (sockets, error) = within(&namespace, || Ok(socket::open(kind, 3, 0x40_0000))).unwrap();
        assert!(error.is_none() && sockets.len() == 3);
        for socket in sockets.into_iter().map(Socket::from) {
            assert!(socket.nonblocking().unwrap() && socket.tcp_nodelay().unwrap() && closed_on_exec(&socket));
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), socket::UNSENT);
            let application = matches!(kind, SocketKind::Application4 | SocketKind::Application6);
            let transparent =
                if socket::is_ipv6(kind) { socket.ip_transparent_v6() } else { socket.ip_transparent_v4() };
            assert_eq!(transparent.unwrap(), application);
            assert_eq!(socket.mark().unwrap(), if application { 0x40_0000 } else { 0 });
            assert_eq!(socket.keepalive().unwrap(), !application);
            assert_eq!(socket.reuse_address().unwrap(), application);
        }
    }
}

#[test]
fn an_application_socket_speaks_from_an_address_that_is_not_its_own_without_taking_a_port() {
    let namespace = namespace("true");
    for (kind, foreign) in [(SocketKind::Application4, "192.0.2.7:0"), (SocketKind::Application6, "[2001:db8::7]:0")] {
        let (sockets, _) = within(&namespace, || Ok(socket::open(kind, 1, 0x40_0000))).unwrap();
        let socket = Socket::from(sockets.into_iter().next().unwrap());
        let foreign: SocketAddr = foreign.parse().unwrap();
        socket.bind(&foreign.into()).unwrap();
        // IP_BIND_ADDRESS_NO_PORT: else a port would be taken here.
        assert_eq!(socket.local_addr().unwrap().as_socket().unwrap(), foreign);
    }
}

#[test]
fn ports_are_tried_above_the_range_first_and_never_below_1024() {
    assert_eq!(candidates(1026, 65533).collect::<Vec<_>>(), [65534, 65535, 1025, 1024]);
    assert_eq!(candidates(1024, 65535).count(), 0);
    assert_eq!(candidates(32768, 60999).next(), Some(61000));
    assert_eq!(reserved_ports("8080,30000-30010\n"), [(8080, 8080), (30000, 30010)]);
    assert_eq!(reserved_ports("\n"), []);
}
