//! The record layer between two of our ends.

use jfe_tls::{HEADER, MAX_PLAINTEXT, Opened, Opener, RecordError, Sealer, TAIL};

use crate::authority::{Authority, CLIENT, SERVER};
use crate::memory::{carry, connection, shake};

#[test]
fn both_ends_learn_who_the_other_is_and_how_they_are_protected() {
    let (client, server) = connection();
    for (end, peer) in [(&client, SERVER), (&server, CLIENT)] {
        let met = end.tls.peer.as_ref().unwrap();
        assert_eq!(met.identity.as_str(), peer);
        assert_eq!(met.addresses.len(), 2);
        assert_eq!(end.tls.cipher, "TLS_AES_128_GCM_SHA256");
        assert_eq!(end.tls.key_exchange, "X25519MLKEM768");
        assert_eq!(end.tls.version, "TLSv1.3");
    }
}

#[test]
fn data_of_every_size_arrives_both_ways() {
    let (mut client, mut server) = connection();
    for length in [1, 2, 1369, MAX_PLAINTEXT - 1, MAX_PLAINTEXT, MAX_PLAINTEXT + 1, 300_000] {
        let data: Vec<u8> = (0..=250).cycle().take(length).collect();
        client.send(&data);
        carry(&mut client, &mut server);
        assert_eq!(server.receive(), Ok((data.clone(), vec![])));
        server.send(&data);
        carry(&mut server, &mut client);
        assert_eq!(client.receive(), Ok((data, vec![])));
    }
}

#[test]
fn a_record_is_as_long_as_the_constants_say() {
    let (mut client, _) = connection();
    assert_eq!(client.seal(b"abc").len(), HEADER + 3 + TAIL);
}

#[test]
fn keys_are_updated_every_few_records_in_both_directions() {
    let (mut client, mut server) = connection();
    for round in 0..200_u8 {
        for (from, to) in [(true, 3), (false, 5)] {
            let (sender, receiver) = if from { (&mut client, &mut server) } else { (&mut server, &mut client) };
            if round % to == 0 {
                sender.tls.sealer.key_update(round % 2 == 0, &mut sender.output);
            }
            sender.send(&[round; 100]);
            carry(sender, receiver);
            let (data, others) = receiver.receive().unwrap();
            assert_eq!(data, [round; 100]);
            let expected =
                if round % to == 0 { vec![Opened::KeyUpdate { answer_requested: round % 2 == 0 }] } else { vec![] };
            assert_eq!(others, expected);
        }
    }
}

#[test]
fn one_direction_closes_and_the_other_goes_on() {
    let (mut client, mut server) = connection();
    client.send(b"all I have");
    client.tls.sealer.close_notify(&mut client.output);
    carry(&mut client, &mut server);
    assert_eq!(server.receive(), Ok((b"all I have".to_vec(), vec![Opened::CloseNotify])));
    server.send(b"and the answer");
    carry(&mut server, &mut client);
    assert_eq!(client.receive(), Ok((b"and the answer".to_vec(), vec![])));
}

#[test]
fn what_comes_after_a_close_is_ignored() {
    let (mut client, mut server) = connection();
    client.tls.sealer.close_notify(&mut client.output);
    client.send(b"late");
    carry(&mut client, &mut server);
    assert_eq!(server.receive(), Ok((vec![], vec![Opened::CloseNotify, Opened::CloseNotify])));
}

#[test]
fn a_truncated_stream_is_never_taken_for_its_end() {
    let (mut client, mut server) = connection();
    let record = client.seal(b"cut");
    for cut in 0..record.len() {
        server.input = record[..cut].to_vec();
        assert_eq!(server.open_next(), Ok(None), "{cut}");
    }
}

#[test]
fn a_record_altered_in_any_byte_is_refused() {
    for place in 0..HEADER + 3 + TAIL {
        let (mut client, mut server) = connection();
        server.input = client.seal(b"abc");
        server.input[place] ^= 1;
        match server.open_next() {
            Err(_) => {}
            // A greater length waits for bytes that will not fit.
            Ok(None) => assert!((3..5).contains(&place)),
            Ok(opened) => panic!("{opened:?} with byte {place} altered"),
        }
    }
}

#[test]
fn records_lost_repeated_or_reordered_are_refused() {
    let deliver = |order: &[usize]| {
        let (mut client, mut server) = connection();
        let records: Vec<_> = (0..3).map(|number| client.seal(&[number])).collect();
        server.input = order.iter().flat_map(|&number| records[number].clone()).collect();
        server.receive()
    };
    assert!(deliver(&[0, 1, 2]).is_ok());
    for order in [&[1][..], &[0, 0], &[0, 2], &[0, 2, 1]] {
        assert_eq!(deliver(order), Err(RecordError::BadMac), "{order:?}");
    }
}

#[test]
fn an_alert_says_what_it_is() {
    let (mut client, mut server) = connection();
    client.tls.sealer.alert(49, &mut client.output);
    carry(&mut client, &mut server);
    assert_eq!(server.receive(), Err(RecordError::PeerAlert(49)));
    assert_eq!(RecordError::PeerAlert(49).alert(), None);
}

#[test]
fn a_flood_of_records_without_data_is_refused() {
    let (mut client, mut server) = connection();
    for _ in 0..64 {
        client.send(b"x");
        for _ in 0..64 {
            let empty = client.seal(b"");
            client.output.extend(empty);
        }
    }
    carry(&mut client, &mut server);
    assert_eq!(server.receive().unwrap().0.len(), 64);
    for _ in 0..65 {
        client.tls.sealer.key_update(false, &mut client.output);
    }
    carry(&mut client, &mut server);
    assert_eq!(server.receive(), Err(RecordError::Flood(64)));
}

#[test]
fn strangers_need_no_certificate_and_no_protocol() {
    let authority = Authority::new("root");
    let stranger = authority.endpoint(CLIENT).connect(jfe_tls::Expectation::Identity(SERVER.parse().unwrap()));
    let outcome = shake(stranger, authority.endpoint(SERVER).accept_stranger());
    // Our own client insists on jfe/1, and says so; the stranger's side is content.
    assert_eq!(outcome.client.err().unwrap().reason(), "handshake-failed");
    let mut server = outcome.server.unwrap();
    assert_eq!(server.tls.peer, None);
    assert_eq!(server.receive(), Err(RecordError::PeerAlert(120)));
}

#[test]
fn an_idle_connection_keeps_little() {
    let both = size_of::<Sealer>() + size_of::<Opener>();
    assert!(both <= 1536, "{both} bytes");
}
