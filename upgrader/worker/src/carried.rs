//! What the kernel counts of a connection, which no library here asks for. The crate's only `unsafe` code.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use jfe_control::message::Carried;

/// Bytes of `struct tcp_info` (`include/uapi/linux/tcp.h`) up to `tcpi_bytes_retrans`, which Linux has had since 4.19.
const LENGTH: usize = 208;
const OPTIONS: usize = 5;
const BYTES_RECEIVED: usize = 128;
const SEGMENTS_OUT: usize = 136;
const SEGMENTS_IN: usize = 140;
const BYTES_SENT: usize = 200;
/// Of the options: each segment has the twelve bytes of a timestamp (RFC 7323, section 3.2, padded).
const TIMESTAMPS: u8 = 1;

/// Of a TCP socket, connected or no more; none where the kernel does not tell. Octets count headers as the connection's
/// segments have them: those of SYNs, and of selective acknowledgements, are a few bytes longer.
pub fn by(socket: BorrowedFd<'_>, ipv6: bool) -> Option<Carried> {
    let information = information(socket)?;
    let header = if ipv6 { 40 } else { 20 } + if information[OPTIONS] & TIMESTAMPS == 0 { 20 } else { 32 };
    let packets_sent = u64::from(u32_at(&information, SEGMENTS_OUT));
    let packets_received = u64::from(u32_at(&information, SEGMENTS_IN));
    Some(Carried {
        packets_sent,
        packets_received,
        octets_sent: u64_at(&information, BYTES_SENT).saturating_add(packets_sent * header),
        octets_received: u64_at(&information, BYTES_RECEIVED).saturating_add(packets_received * header),
    })
}

fn information(socket: BorrowedFd<'_>) -> Option<[u8; LENGTH]> {
    let mut information = [0_u8; LENGTH];
    let mut length = libc::socklen_t::try_from(LENGTH).ok()?;
    // SAFETY: the kernel writes no more than `length` bytes at `information`, which outlives the call, as `length` does.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_INFO,
            information.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (result == 0 && usize::try_from(length) == Ok(LENGTH)).then_some(information)
}

fn u32_at(information: &[u8; LENGTH], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&information[at..at + 4]);
    u32::from_ne_bytes(bytes)
}

fn u64_at(information: &[u8; LENGTH], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&information[at..at + 8]);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_a_connection_has_carried_each_way_is_told_while_it_lives_and_after_the_peers_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        let before = by(client.as_fd(), false).unwrap();
        client.write_all(&vec![1; 100_000]).unwrap();
        let mut taken = vec![0; 100_000];
        served.read_exact(&mut taken).unwrap();
        served.write_all(&[2; 300]).unwrap();
        drop(served);
        client.read_to_end(&mut taken).unwrap();
        let after = by(client.as_fd(), false).unwrap();
        let sent = after.octets_sent - before.octets_sent;
        let received = after.octets_received - before.octets_received;
        let (packets_sent, packets_received) =
            (after.packets_sent - before.packets_sent, after.packets_received - before.packets_received);
        assert!(packets_sent >= 2 && packets_received >= 2);
        // Timestamps are a host's choice: 40 or 52 octets a packet.
        assert!(sent == 100_000 + packets_sent * 40 || sent == 100_000 + packets_sent * 52, "{after:?}");
        // The FIN is counted as the byte that it takes of the sequence, or not.
        assert!((300..400 + packets_received * 52).contains(&received), "{after:?}");
    }

    #[test]
    fn of_what_is_no_connection_nothing_is_told() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert_eq!(by(socket.as_fd(), false), None);
    }
}
