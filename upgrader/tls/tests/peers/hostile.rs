//! Peers that mean no good, or do not know what they say.

use jfe_tls::{Expectation, HEADER, Handshake, HandshakeError, Opened, Progress, RecordError, TAIL, probe_hello};
use proptest::prelude::*;

use crate::authority::{Authority, CLIENT, SERVER};
use crate::memory::{carry, connection, shake};

fn client(authority: &Authority) -> Handshake {
    authority.endpoint(CLIENT).connect(Expectation::Identity(SERVER.parse().unwrap()))
}

fn hello_of(handshake: &mut Handshake) -> Vec<u8> {
    assert_eq!(handshake.step(), Ok(Progress::WantsInput));
    std::mem::take(handshake.output())
}

#[test]
fn an_answer_in_plaintext_is_known_by_its_first_byte_and_gets_none_back() {
    let authority = Authority::new("root");
    for answer in [&b"H"[..], b"SSH-2.0-OpenSSH", b"220 mail ESMTP", &[22, 2], &[22, 3, 3, 0xff, 0xff]] {
        let mut client = client(&authority);
        hello_of(&mut client);
        client.input().extend(answer);
        assert_eq!(client.step(), Err(HandshakeError::PeerNotTls), "{answer:?}");
        assert_eq!(client.step(), Err(HandshakeError::PeerNotTls));
        assert!(client.output().is_empty());
        assert!(client.finish().is_err());
    }
}

#[test]
fn a_handshake_goes_through_a_byte_at_a_time() {
    let authority = Authority::new("root");
    let (mut client, mut server) = (client(&authority), authority.endpoint(SERVER).accept_mutual());
    let mut to_server = hello_of(&mut client);
    let mut steps = (Progress::WantsInput, Progress::WantsInput);
    while steps != (Progress::Complete, Progress::Complete) {
        for byte in to_server.drain(..) {
            server.input().push(byte);
            steps.1 = server.step().unwrap();
        }
        let to_client: Vec<u8> = server.output().drain(..).collect();
        for byte in to_client {
            client.input().push(byte);
            steps.0 = client.step().unwrap();
        }
        to_server.append(client.output());
    }
    assert!(client.finish().is_ok() && server.finish().is_ok());
}

#[test]
fn data_and_close_in_one_read_with_the_last_of_the_handshake_are_not_lost() {
    let authority = Authority::new("root");
    let (mut client, mut server) = (client(&authority), authority.endpoint(SERVER).accept_mutual());
    server.input().extend(hello_of(&mut client));
    assert_eq!(server.step(), Ok(Progress::WantsInput));
    let flight = std::mem::take(server.output());
    client.input().extend(flight);
    assert_eq!(client.step(), Ok(Progress::Complete));

    // The client never flushes on its own: its last flight, data, a key update and its close come at once.
    let mut finished = client.finish().unwrap();
    let mut all = std::mem::take(&mut finished.last_flight);
    assert!(!all.is_empty());
    let mut record = [0; HEADER + 2 + TAIL];
    record[HEADER..HEADER + 2].copy_from_slice(b"hi");
    finished.sealer.seal_data(&mut record, 2);
    all.extend(record);
    finished.sealer.key_update(false, &mut all);
    finished.sealer.close_notify(&mut all);

    server.input().extend(&all);
    assert_eq!(server.step(), Ok(Progress::Complete));
    let server = server.finish().unwrap();
    assert!(server.early.is_empty() && !server.closed);
    let mut opener = server.opener;
    let mut unread = server.unread;
    let mut all_opened = Vec::new();
    while let Some(length) = jfe_tls::whole_record(&unread).unwrap() {
        let mut record: Vec<u8> = unread.drain(..length).collect();
        all_opened.push(opener.open(&mut record).unwrap());
    }
    let data = Opened::Data(HEADER..HEADER + 2);
    assert_eq!(all_opened, [data, Opened::KeyUpdate { answer_requested: false }, Opened::CloseNotify]);
}

#[test]
fn a_handshake_that_never_ends_is_bounded() {
    let authority = Authority::new("root");
    let mut server = authority.endpoint(SERVER).accept_stranger();
    // A hello said to be 64 KiB long, in records of one byte.
    let mut error = None;
    let mut sent = 0;
    for byte in [1, 0, 255, 255].into_iter().chain(std::iter::repeat(0)) {
        server.input().extend([22, 3, 1, 0, 1, byte]);
        sent += 6;
        if let Err(failed) = server.step() {
            error = Some(failed);
            break;
        }
        assert!(sent < 80_000);
    }
    assert_eq!(error.unwrap().reason(), "handshake-failed");
}

#[test]
fn a_server_that_does_not_know_our_protocol_is_refused_and_told() {
    let authority = Authority::new("root");
    let outcome = shake(client(&authority), authority.endpoint(SERVER).accept_stranger());
    assert!(outcome.client.err().unwrap().to_string().contains("jfe/1"));
    assert_eq!(outcome.server.unwrap().receive(), Err(RecordError::PeerAlert(120)));
}

#[test]
fn the_probe_is_a_hello_that_a_server_answers() {
    let authority = Authority::new("root");
    let mut server = authority.endpoint(SERVER).accept_stranger();
    assert!(!probe_hello().windows(5).any(|window| window == b"jfe/1"));
    assert_ne!(probe_hello(), probe_hello());
    server.input().extend(probe_hello());
    assert_eq!(server.step(), Ok(Progress::WantsInput));
    assert_eq!(server.output()[..2], [22, 3]);
}

#[test]
fn an_unprotected_record_after_the_handshake_is_refused() {
    for record in [&[21, 3, 3, 0, 2, 1, 0][..], &[20, 3, 3, 0, 1, 1], &[22, 3, 3, 0, 4, 0, 0, 0, 0]] {
        let (_, mut server) = connection();
        server.input.extend(record);
        assert_eq!(server.receive(), Err(RecordError::UnexpectedRecord(record[0])));
    }
}

/// The bytes as handshake messages in records of these sizes, over and over.
fn in_records(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut rest, mut records) = (bytes, Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (part, later) = rest.split_at(rest.len().min(*size));
        records.extend([22, 3, 3, 0, u8::try_from(part.len()).unwrap()]);
        records.extend(part);
        rest = later;
    }
    records
}

#[test]
fn a_hello_in_pieces_is_put_together() {
    let authority = Authority::new("root");
    let (mut client, mut server) = (client(&authority), authority.endpoint(SERVER).accept_mutual());
    let hello = hello_of(&mut client);
    server.input().extend(in_records(&hello[HEADER..], &[1, 2, 3, 100]));
    let outcome = shake(client, server);
    assert!(outcome.client.is_ok() && outcome.server.is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics_a_handshake(
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        content in 20..25_u8,
        after in 0..5_usize,
        more: bool,
    ) {
        let authority = Authority::new("root");
        let (mut client, mut server) = (client(&authority), authority.endpoint(SERVER).accept_mutual());
        let hello = hello_of(&mut client);
        server.input().extend(&hello[..hello.len() * after / 4]);
        let mut record = vec![content, 3, 3, 0, 100];
        record.extend(&garbage);
        if more {
            record.extend(record.clone());
        }
        server.input().extend(&record);
        client.input().extend(&record);
        let _ = (server.step(), server.step(), client.step(), client.step());
        prop_assert!(client.finish().is_err() && server.finish().is_err());
    }

    #[test]
    fn altered_flights_in_pieces_never_panic_a_handshake(
        sizes in proptest::collection::vec(1..200_usize, 1..8),
        changes in proptest::collection::vec((0..3000_usize, any::<u8>()), 0..4),
        cut in 0..3000_usize,
        in_pieces: bool,
    ) {
        let authority = Authority::new("root");
        let (mut client, mut server) = (client(&authority), authority.endpoint(SERVER).accept_mutual());
        let hello = hello_of(&mut client);
        let mut flight = if in_pieces { in_records(&hello[HEADER..], &sizes) } else { hello };
        for (place, byte) in &changes {
            if let Some(there) = flight.get_mut(*place) {
                *there = *byte;
            }
        }
        flight.truncate(cut.max(5));
        server.input().extend(flight);
        let _ = server.step();
        // The answer goes back altered, too.
        let mut answer = std::mem::take(server.output());
        for (place, byte) in &changes {
            if let Some(there) = answer.get_mut(place / 2) {
                *there = *byte;
            }
        }
        for part in answer.chunks(sizes[0]) {
            client.input().extend(part);
            if client.step().is_err() {
                break;
            }
        }
        let _ = (client.finish(), server.finish());
    }

    #[test]
    fn garbage_is_never_opened_and_never_panics(
        garbage in proptest::collection::vec(any::<u8>(), 512),
        length in 0..600_usize,
    ) {
        let (_, mut server) = connection();
        let mut record = [&[23, 3, 3, 2, 0][..], &garbage].concat();
        prop_assert!(server.tls.opener.open(&mut garbage.clone()).is_err());
        prop_assert!(server.tls.opener.open(&mut record.clone()).is_err());
        record.truncate(length);
        prop_assert!(server.tls.opener.open(&mut record).is_err());
    }

    #[test]
    fn a_stream_altered_anywhere_yields_nothing_after_the_alteration(place in 0..200_usize, flip in 1..=255_u8) {
        let (mut client, mut server) = connection();
        let starts: Vec<usize> = (0..5_u8).map(|number| {
            client.send(&[number; 20]);
            client.output.len()
        }).collect();
        client.output[place] ^= flip;
        carry(&mut client, &mut server);
        let mut whole = 0;
        while let Ok(Some((opened, _))) = server.open_next() {
            prop_assert!(matches!(opened, Opened::Data(_)));
            whole += 1;
        }
        prop_assert_eq!(whole, starts.iter().filter(|end| **end <= place).count());
    }
}
