//! What arrives as what: data, half-closes, resets, alerts.

use jfe_relay::End;

use crate::world::Authority;

#[test]
fn what_the_client_says_the_server_hears_and_the_wire_does_not_show() {
    let mut pair = Authority::new().pair();
    pair.client.from_application.bytes.extend(b"SELECT 1");
    pair.settle();
    assert_eq!(pair.server.to_application.text(), "SELECT 1");
    pair.server.from_application.bytes.extend(b"one row");
    pair.server.run(&mut pair.to_server, &mut pair.to_client);
    let wire: Vec<u8> = pair.to_client.bytes.iter().copied().collect();
    assert!(!wire.windows(7).any(|bytes| bytes == b"one row"));
    pair.settle();
    assert_eq!(pair.client.to_application.text(), "one row");
    assert_eq!(pair.client.reason(), "mutual");
    assert_eq!(pair.client.connection.established().unwrap().peer.as_deref(), Some("spiffe://test/server"));
    assert_eq!(pair.server.connection.established().unwrap().key_exchange, "X25519MLKEM768");
}

#[test]
fn the_client_half_closes_and_still_hears_the_answer() {
    let mut pair = Authority::new().pair();
    pair.client.from_application.bytes.extend(b"question");
    pair.client.from_application.fin = true;
    pair.settle();
    assert_eq!(pair.server.to_application.text(), "question");
    assert!(pair.server.to_application.fin);
    assert!(!pair.client.to_application.fin);
    pair.server.from_application.bytes.extend(b"a long answer");
    pair.settle();
    assert_eq!(pair.client.to_application.text(), "a long answer");
    pair.server.from_application.fin = true;
    pair.settle();
    assert!(pair.client.to_application.fin);
    assert_eq!((pair.client.end, pair.server.end), (Some(End::Closed), Some(End::Closed)));
}

#[test]
fn the_server_half_closes_and_still_hears_the_client() {
    let mut pair = Authority::new().pair();
    pair.server.from_application.bytes.extend(b"220 ready");
    pair.server.from_application.fin = true;
    pair.settle();
    assert_eq!(pair.client.to_application.text(), "220 ready");
    assert!(pair.client.to_application.fin);
    pair.client.from_application.bytes.extend(b"late data");
    pair.settle();
    assert_eq!(pair.server.to_application.text(), "late data");
    pair.client.from_application.fin = true;
    pair.settle();
    assert_eq!((pair.client.end, pair.server.end), (Some(End::Closed), Some(End::Closed)));
}

#[test]
fn the_clients_reset_is_a_reset_at_the_server() {
    let mut pair = Authority::new().pair();
    pair.client.from_application.bytes.extend(b"hello");
    pair.settle();
    pair.client.from_application.reset = true;
    pair.settle();
    assert!(pair.server.to_application.reset);
    assert_eq!((pair.client.end, pair.server.end), (Some(End::Reset), Some(End::Reset)));
}

#[test]
fn the_servers_reset_is_a_reset_at_the_client() {
    let mut pair = Authority::new().pair();
    pair.client.from_application.bytes.extend(b"hello");
    pair.settle();
    pair.server.from_application.reset = true;
    pair.settle();
    assert!(pair.client.to_application.reset);
}

#[test]
fn a_wire_cut_without_close_notify_is_a_reset_and_no_end_of_data() {
    let mut pair = Authority::new().pair();
    pair.client.from_application.bytes.extend(b"hello");
    pair.settle();
    pair.to_client.fin = true;
    pair.settle();
    assert!(!pair.client.to_application.fin);
    assert!(pair.client.to_application.reset);
}

#[test]
fn an_altered_record_never_reaches_the_application() {
    let mut pair = Authority::new().pair();
    pair.client.from_application.bytes.extend(b"hello");
    pair.settle();
    pair.server.to_application.text();
    pair.client.from_application.bytes.extend(b"transfer 10");
    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    *pair.to_server.bytes.back_mut().unwrap() ^= 1;
    pair.settle();
    assert_eq!(pair.server.to_application.text(), "");
    assert!(pair.server.to_application.reset);
}

#[test]
fn a_reader_that_takes_little_gets_all_of_it_in_order() {
    let mut pair = Authority::new().pair();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    pair.client.from_application.bytes.extend(&sent);
    pair.client.from_application.fin = true;
    let mut got = Vec::new();
    for step in 0..4000 {
        pair.server.to_application.room = Some(100 + step % 7000);
        pair.to_server.room = Some(70 + step * 3 % 9000);
        pair.settle();
        got.extend(pair.server.to_application.bytes.drain(..));
        if pair.server.to_application.fin {
            break;
        }
    }
    assert_eq!(got.len(), sent.len());
    assert!(got == sent);
    assert!(pair.server.to_application.fin);
}

#[test]
fn a_bulk_transfer_gives_way_after_each_share() {
    let mut pair = Authority::new().pair();
    pair.settle();
    pair.client.from_application.bytes.extend(vec![7; 4 << 20]);
    pair.client.yields = 0;
    pair.settle();
    assert!(pair.client.yields >= 10, "only {} turns for 4 MiB", pair.client.yields);
}

#[test]
fn bytes_are_counted_both_ways() {
    let mut pair = Authority::new().pair();
    pair.client.from_application.bytes.extend(b"12345");
    pair.settle();
    pair.server.from_application.bytes.extend(b"123");
    pair.settle();
    assert_eq!(pair.client.connection.bytes(), (5, 3));
    assert_eq!(pair.server.connection.bytes(), (3, 5));
}
