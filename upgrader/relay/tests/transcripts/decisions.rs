//! Who gets what, before the first byte is moved.

use jfe_decide::{Application, Cover, Mode, Refuse};
use jfe_relay::{Connection, End};

use crate::world::{Authority, CLIENT, CLIENT_ID, Half, Pair, SERVER, SERVER_ID, Stream};

fn stranger_calls(mode: Mode) -> (Half, Stream, Stream) {
    let server = Half::inbound(Authority::new().node(mode, SERVER_ID, SERVER));
    (server, Stream::default(), Stream::default())
}

#[test]
fn a_silent_strangers_permissive_server_speaks_first() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Permissive);
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!(server.asked, ["dial"]);
    assert!(server.connection.bounded_wait().is_none(), "a silent stranger may wait for ever");
    server.connection.connected();
    server.from_application.bytes.extend(b"220 mail ready");
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!(wire_out.text(), "220 mail ready");
    assert_eq!(server.reason(), "server-first");
}

#[test]
fn a_hello_that_came_with_the_connection_is_seen_before_the_banner() {
    let mut pair = Authority::new().pair();
    pair.server.node = Authority::new().node(Mode::Permissive, SERVER_ID, SERVER);
    // The client's hello is on the wire before the server's upgrader has looked.
    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    pair.client.connection.connected();
    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    pair.server.from_application.bytes.extend(b"220 mail ready");
    pair.server.run(&mut pair.to_server, &mut pair.to_client);
    let first = pair.to_client.bytes.front().copied();
    assert_eq!(first, Some(22), "a handshake record, not a banner");
}

#[test]
fn a_hello_in_two_parts_is_not_answered_with_the_banner_that_came_between() {
    let authority = Authority::new();
    let mut pair = authority.pair();
    pair.server.node = authority.node(Mode::Permissive, SERVER_ID, SERVER);
    // The peer is silent at first, so the application is connected.
    pair.server.run(&mut pair.to_server, &mut pair.to_client);
    assert_eq!(pair.server.asked.pop(), Some("dial"));
    pair.server.connection.connected();

    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    pair.client.asked.clear();
    pair.client.connection.connected();
    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    let rest = pair.to_server.bytes.split_off(100);
    pair.server.from_application.bytes.extend(b"220 mail ready");
    pair.server.run(&mut pair.to_server, &mut pair.to_client);
    assert!(pair.to_client.bytes.is_empty(), "no byte before the hello is whole");
    assert!(pair.server.connection.bounded_wait().is_some(), "it is not waited for without end");

    pair.to_server.bytes.extend(rest);
    pair.settle();
    assert_eq!((pair.server.reason(), pair.client.to_application.text().as_str()), ("mutual", "220 mail ready"));
}

#[test]
fn half_a_hello_is_ended_in_time_though_the_application_has_spoken() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Permissive);
    server.run(&mut wire_in, &mut wire_out);
    server.connection.connected();
    wire_in.bytes.extend(&jfe_tls::probe_hello()[..100]);
    server.from_application.bytes.extend(b"220 mail ready");
    server.run(&mut wire_in, &mut wire_out);
    let wait = server.connection.bounded_wait().unwrap();
    server.connection.expired(wait);
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!((server.end, server.reason()), (Some(End::Reset), "handshake-timeout"));
    assert!(wire_out.bytes.is_empty());
}

#[test]
fn a_stranger_that_only_listens_hears_plaintext_for_a_reason() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Permissive);
    server.run(&mut wire_in, &mut wire_out);
    wire_in.fin = true;
    server.run(&mut wire_in, &mut wire_out);
    server.connection.connected();
    server.run(&mut wire_in, &mut wire_out);
    assert!(server.connection.is_settled() && server.to_application.fin);
    assert_eq!(server.reason(), "plaintext");
    server.from_application.bytes.extend(b"220 mail ready");
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!((wire_out.text().as_str(), server.reason()), ("220 mail ready", "plaintext"));
}

#[test]
fn a_silent_stranger_of_a_strict_server_is_ended_in_time_and_the_application_never_called() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Strict);
    server.run(&mut wire_in, &mut wire_out);
    assert!(server.asked.is_empty());
    let wait = server.connection.bounded_wait().unwrap();
    server.connection.expired(wait);
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!((server.end, server.reason()), (Some(End::Reset), "silent"));
}

#[test]
fn a_deadline_of_a_wait_that_is_over_ends_nothing() {
    let mut pair = Authority::new().pair();
    pair.server.run(&mut pair.to_server, &mut pair.to_client);
    let wait = pair.server.connection.bounded_wait().unwrap();
    pair.client.from_application.bytes.extend(b"hello");
    pair.settle();
    pair.server.connection.expired(wait);
    pair.settle();
    assert_eq!((pair.server.end, pair.server.reason()), (None, "mutual"));
}

#[test]
fn plaintext_to_a_strict_server_is_refused_before_the_application_is_called() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Strict);
    wire_in.bytes.extend(b"GET / HTTP/1.1");
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!((server.end, server.reason()), (Some(End::Reset), "plaintext"));
    assert!(server.asked.is_empty());
    assert_eq!(server.connection.bytes(), (0, 0));
}

#[test]
fn plaintext_to_a_permissive_server_passes_through() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Permissive);
    wire_in.bytes.extend(b"GET / HTTP/1.1");
    server.run(&mut wire_in, &mut wire_out);
    server.connection.connected();
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!((server.to_application.text().as_str(), server.reason()), ("GET / HTTP/1.1", "plaintext"));
}

#[test]
fn two_bytes_of_a_record_and_then_fin_are_plaintext() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Permissive);
    wire_in.bytes.extend([22, 3]);
    wire_in.fin = true;
    server.run(&mut wire_in, &mut wire_out);
    server.connection.connected();
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!(server.reason(), "plaintext");
    assert_eq!(server.to_application.bytes, [22, 3]);
    assert!(server.to_application.fin);
}

#[test]
fn a_strangers_hello_waits_until_the_application_is_known() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Permissive);
    wire_in.bytes.extend(jfe_tls::probe_hello());
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!(server.asked, ["learn"]);
    server.answer_learning(Application::Plaintext);
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!((server.reason(), wire_out.bytes.front()), ("terminated", Some(&22)));
}

#[test]
fn an_application_that_waits_on_a_silent_connection_is_called_anew_after_it_was_asked() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Permissive);
    server.run(&mut wire_in, &mut wire_out);
    server.connection.connected();
    wire_in.bytes.extend(jfe_tls::probe_hello());
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!(server.asked, ["dial", "learn"]);
    server.connection.hung_up();
    server.answer_learning(Application::SpeaksTls);
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!(server.asked, ["dial", "learn", "dial"]);
}

#[test]
fn a_strangers_hello_to_an_application_that_speaks_tls_passes_through_untouched() {
    let (mut server, mut wire_in, mut wire_out) = stranger_calls(Mode::Strict);
    let hello = jfe_tls::probe_hello();
    wire_in.bytes.extend(&hello);
    server.run(&mut wire_in, &mut wire_out);
    server.answer_learning(Application::SpeaksTls);
    server.run(&mut wire_in, &mut wire_out);
    server.connection.connected();
    server.run(&mut wire_in, &mut wire_out);
    assert_eq!(server.reason(), "application-tls");
    assert_eq!(server.to_application.bytes, hello);
}

#[test]
fn an_enrolled_peer_that_answers_plaintext_is_an_error_and_never_a_fall_back() {
    let mut pair = Authority::new().pair();
    pair.client.from_application.bytes.extend(b"my password");
    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    pair.client.connection.connected();
    pair.to_client.bytes.extend(b"220 I speak no TLS\r\n");
    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    assert_eq!((pair.client.end.is_some(), pair.client.reason()), (true, "peer-not-tls"));
    let wire: Vec<u8> = pair.to_server.bytes.iter().copied().collect();
    assert!(!wire.windows(8).any(|bytes| bytes == b"password"));
    assert_eq!(pair.client.to_application.text(), "");
}

#[test]
fn a_peer_of_another_identity_is_refused_by_the_client_that_knows() {
    let authority = Authority::new();
    let mut client = authority.node(Mode::Strict, CLIENT_ID, CLIENT);
    client.knows(SERVER, Some("spiffe://test/somebody-else"), Cover::Covered);
    let mut pair = Pair::new(client, authority.node(Mode::Strict, SERVER_ID, SERVER));
    pair.client.from_application.bytes.extend(b"secret");
    pair.settle();
    assert_eq!(pair.client.reason(), "peer-identity");
    assert_eq!(pair.server.to_application.text(), "");
}

#[test]
fn a_peer_without_a_known_identity_must_name_the_address_dialled() {
    let authority = Authority::new();
    let mut client = authority.node(Mode::Strict, CLIENT_ID, CLIENT);
    client.knows(SERVER, None, Cover::Covered);
    let mut pair = Pair::new(client, authority.node(Mode::Strict, SERVER_ID, "10.2.0.77:1"));
    pair.settle();
    assert_eq!(pair.client.reason(), "peer-address");
}

#[test]
fn a_client_from_an_address_that_its_certificate_does_not_name_is_refused_by_the_server_that_knows() {
    let authority = Authority::new();
    let mut client = authority.node(Mode::Strict, CLIENT_ID, "10.9.9.9:1");
    client.knows(SERVER, Some(SERVER_ID), Cover::Covered);
    let mut server = authority.node(Mode::Strict, SERVER_ID, SERVER);
    server.policy.verify_source = true;
    let mut pair = Pair::new(client, server);
    pair.client.from_application.bytes.extend(b"secret");
    pair.settle();
    assert_eq!(pair.server.reason(), "peer-address");
    assert_eq!(pair.server.to_application.text(), "");
    assert_eq!(pair.client.reason(), "handshake-failed");
    assert!(pair.client.to_application.reset);
}

#[test]
fn a_client_of_another_identity_than_the_directory_has_is_refused_by_the_server() {
    let authority = Authority::new();
    let mut pair = authority.pair();
    pair.server.node.knows(CLIENT, Some("spiffe://test/somebody-else"), Cover::Covered);
    pair.client.from_application.bytes.extend(b"secret");
    pair.settle();
    assert_eq!(pair.server.reason(), "peer-identity");
    assert_eq!(pair.server.to_application.text(), "");
}

#[test]
fn an_untrusted_client_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut client = theirs.node(Mode::Strict, CLIENT_ID, CLIENT);
    client.knows(SERVER, Some(SERVER_ID), Cover::Covered);
    let mut pair = Pair::new(client, ours.node(Mode::Strict, SERVER_ID, SERVER));
    pair.settle();
    assert_eq!(pair.client.reason(), "peer-untrusted");
}

#[test]
fn a_strict_workloads_hello_to_a_stranger_passes_and_its_plaintext_does_not() {
    for (first, reason) in [(jfe_tls::probe_hello(), "application-tls"), (b"GET /".to_vec(), "plaintext-to-stranger")] {
        let mut client = Half::outbound(Authority::new().node(Mode::Strict, CLIENT_ID, CLIENT));
        let (mut wire_in, mut wire_out) = (Stream::default(), Stream::default());
        client.from_application.bytes.extend(&first);
        client.run(&mut wire_in, &mut wire_out);
        client.connection.connected();
        client.run(&mut wire_in, &mut wire_out);
        assert_eq!(client.reason(), reason);
        assert_eq!(!wire_out.bytes.is_empty(), reason == "application-tls");
    }
}

#[test]
fn a_strangers_plaintext_banner_does_not_reach_a_strict_workload() {
    let mut client = Half::outbound(Authority::new().node(Mode::Strict, CLIENT_ID, CLIENT));
    let (mut wire_in, mut wire_out) = (Stream::default(), Stream::default());
    client.run(&mut wire_in, &mut wire_out);
    client.connection.connected();
    wire_in.bytes.extend(b"220 hello");
    client.run(&mut wire_in, &mut wire_out);
    assert_eq!((client.end, client.reason()), (Some(End::Reset), "plaintext-to-stranger"));
    assert_eq!(client.to_application.text(), "");
}

#[test]
fn a_peer_that_becomes_covered_while_a_strict_workload_waits_is_met_with_tls() {
    let mut client = Half::outbound(Authority::new().node(Mode::Strict, CLIENT_ID, CLIENT));
    client.node.knows(SERVER, Some(SERVER_ID), Cover::Wished);
    let (mut wire_in, mut wire_out) = (Stream::default(), Stream::default());
    client.run(&mut wire_in, &mut wire_out);
    assert!(client.asked.is_empty());
    assert!(client.connection.bounded_wait().is_some());
    client.node.knows(SERVER, Some(SERVER_ID), Cover::Covered);
    client.run(&mut wire_in, &mut wire_out);
    assert_eq!((client.asked, client.connection.decision().is_some()), (vec!["dial"], true));
}

#[test]
fn a_peer_that_is_not_covered_in_time_is_refused() {
    let mut client = Half::outbound(Authority::new().node(Mode::Strict, CLIENT_ID, CLIENT));
    client.node.knows(SERVER, Some(SERVER_ID), Cover::Wished);
    let (mut wire_in, mut wire_out) = (Stream::default(), Stream::default());
    client.run(&mut wire_in, &mut wire_out);
    let wait = client.connection.bounded_wait().unwrap();
    client.connection.expired(wait);
    assert_eq!(client.reason(), "not-covered-yet");
}

#[test]
fn a_refused_connect_reaches_the_application_as_reset() {
    let mut pair = Authority::new().pair();
    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    pair.client.fail_to_connect(Refuse::ConnectRefused);
    pair.client.run(&mut pair.to_client, &mut pair.to_server);
    assert_eq!(pair.client.reason(), "connect-refused");
    assert!(pair.client.to_application.reset);
}

#[test]
fn the_upgraders_own_listener_is_nobodys_destination() {
    let node = || Authority::new().node(Mode::Permissive, CLIENT_ID, CLIENT);
    for mut caller in [Half::outbound(node()), Half::inbound(node())].map(Half::dialled_ourselves) {
        caller.run(&mut Stream::default(), &mut Stream::default());
        assert_eq!((caller.end, caller.reason()), (Some(End::Reset), "own-listener"));
        assert!(caller.asked.is_empty(), "nobody is called");
    }
}

#[test]
fn a_connection_that_relays_is_counted_against_no_source() {
    let mut pair = Authority::new().pair();
    assert!(Connection::inbound().is_unclassified());
    pair.client.from_application.bytes.extend(b"hello");
    pair.settle();
    assert!(!pair.server.connection.is_unclassified());
}
