//! The table under *Modes* in the architecture, row by row.

use std::net::SocketAddr;

use jfe_decide::outbound::{FirstBytes, outbound_first_bytes};
use jfe_decide::{
    Application, Cover, Directory, Entry, Expect, Hello, Inbound, InboundNext, Mode, Network, Outbound, PassThrough,
    Policy, Refuse, Side, inbound, outbound,
};

use Application::{Plaintext, SpeaksTls, Unknown, Unlearnable};
use InboundNext::{Await, ConnectApplicationAndWatch, Learn, Mutual, Terminate};
use Mode::{Permissive, Strict};

const STRANGERS_HELLO: Hello<'static> = Hello::Stranger { server_name: None };
const HALF_A_HELLO: Hello<'static> = Hello::Partial { need: 300 };

const fn pass(why: PassThrough) -> InboundNext {
    InboundNext::PassThrough(why)
}

const fn refuse(why: Refuse) -> InboundNext {
    InboundNext::Refuse(why)
}

fn next(policy: &Policy, hello: Hello<'_>, application: Application, covered: bool, spoke: bool) -> InboundNext {
    inbound(&Inbound { policy, port: 5432, source_covered: covered, hello, application, application_spoke: spoke })
}

#[test]
fn inbound_table() {
    let stranger = false;
    let covered = true;
    #[rustfmt::skip]
    let table = [
        // arrives                from      application  permissive                              strict
        (Hello::Jfe,              stranger, Unknown,     Mutual,                                 Mutual),
        (Hello::Jfe,              covered,  SpeaksTls,   Mutual,                                 Mutual),
        (STRANGERS_HELLO,         stranger, SpeaksTls,   pass(PassThrough::ApplicationTls),      pass(PassThrough::ApplicationTls)),
        (STRANGERS_HELLO,         covered,  SpeaksTls,   pass(PassThrough::ApplicationTls),      pass(PassThrough::ApplicationTls)),
        (STRANGERS_HELLO,         stranger, Plaintext,   Terminate,                              refuse(Refuse::StrangerTls)),
        (STRANGERS_HELLO,         stranger, Unknown,     Learn,                                  Learn),
        (STRANGERS_HELLO,         stranger, Unlearnable, pass(PassThrough::ApplicationUnknown),  refuse(Refuse::ApplicationUnknown)),
        (Hello::NotTls,           covered,  Unknown,     refuse(Refuse::PlaintextFromCovered),   refuse(Refuse::PlaintextFromCovered)),
        (Hello::NotTls,           stranger, Unknown,     pass(PassThrough::Plaintext),           refuse(Refuse::Plaintext)),
        (Hello::NotTls,           stranger, SpeaksTls,   pass(PassThrough::Plaintext),           refuse(Refuse::Plaintext)),
        (Hello::Nothing,          stranger, Unknown,     ConnectApplicationAndWatch,             Await),
        (Hello::Nothing,          covered,  Unknown,     Await,                                  Await),
        (HALF_A_HELLO,            stranger, Unknown,     Await,                                  Await),
        (HALF_A_HELLO,            covered,  Unknown,     Await,                                  Await),
        (Hello::Malformed,        stranger, SpeaksTls,   pass(PassThrough::ApplicationTls),      refuse(Refuse::HelloMalformed)),
        (Hello::Malformed,        stranger, Plaintext,   refuse(Refuse::HelloMalformed),         refuse(Refuse::HelloMalformed)),
        (Hello::Malformed,        stranger, Unknown,     refuse(Refuse::HelloMalformed),         refuse(Refuse::HelloMalformed)),
        (Hello::TooLarge,         stranger, SpeaksTls,   refuse(Refuse::HelloTooLarge),          refuse(Refuse::HelloTooLarge)),
    ];
    for (arrives, source, application, permissive, strict) in table {
        let row = format!("{arrives:?}, source covered: {source}, {application:?}");
        assert_eq!(
            next(&Policy::new(Permissive), arrives, application, source, false),
            permissive,
            "permissive: {row}"
        );
        assert_eq!(next(&Policy::new(Strict), arrives, application, source, false), strict, "strict: {row}");
    }
}

#[test]
fn a_strict_workload_that_allows_strangers_tls_terminates_it_and_still_refuses_plaintext() {
    let policy = Policy { strangers_tls: true, ..Policy::new(Strict) };
    assert_eq!(next(&policy, STRANGERS_HELLO, Plaintext, false, false), Terminate);
    assert_eq!(next(&policy, STRANGERS_HELLO, SpeaksTls, false, false), pass(PassThrough::ApplicationTls));
    assert_eq!(next(&policy, Hello::NotTls, Plaintext, false, false), refuse(Refuse::Plaintext));
}

#[test]
fn an_application_that_speaks_before_a_silent_stranger_gives_it_plaintext() {
    let policy = Policy::new(Permissive);
    assert_eq!(next(&policy, Hello::Nothing, Unknown, false, true), pass(PassThrough::ServerFirst));
}

#[test]
fn an_application_that_speaks_into_half_a_hello_is_not_heard_before_its_end() {
    assert_eq!(next(&Policy::new(Permissive), HALF_A_HELLO, Unknown, false, true), Await);
}

#[test]
fn an_application_that_speaks_first_does_not_stand_in_the_way_of_a_whole_hello() {
    let policy = Policy::new(Permissive);
    assert_eq!(next(&policy, Hello::Jfe, Unknown, false, true), Mutual);
    assert_eq!(next(&policy, STRANGERS_HELLO, Plaintext, false, true), Terminate);
}

#[test]
fn a_banner_is_for_strangers_of_permissive_workloads_only() {
    for hello in [Hello::Nothing, HALF_A_HELLO] {
        assert_eq!(next(&Policy::new(Strict), hello, Unknown, false, true), Await);
        assert_eq!(next(&Policy::new(Permissive), hello, Unknown, true, true), Await);
    }
}

#[test]
fn where_a_hello_is_awaited_nothing_is_sent_before_it_and_plaintext_is_judged_as_ever() {
    let policy = Policy { await_hello_ports: vec![5432], ..Policy::new(Permissive) };
    assert_eq!(next(&policy, Hello::Nothing, Unknown, false, false), Await);
    assert_eq!(next(&policy, Hello::Nothing, Unknown, false, true), Await);
    assert_eq!(next(&policy, Hello::NotTls, Unknown, false, false), pass(PassThrough::Plaintext));
    assert_eq!(next(&policy, Hello::NotTls, Unknown, true, false), refuse(Refuse::PlaintextFromCovered));
}

#[test]
fn an_excluded_inbound_port_is_passed_through_unread() {
    for mode in [Permissive, Strict] {
        let policy = Policy { excluded_inbound_ports: vec![5432], ..Policy::new(mode) };
        for hello in [Hello::Nothing, Hello::Jfe, Hello::NotTls, Hello::Malformed] {
            assert_eq!(next(&policy, hello, Unknown, true, false), pass(PassThrough::Excluded));
        }
    }
}

#[test]
fn what_is_set_by_hand_goes_before_what_was_learnt() {
    let speaks = Policy { application_tls_ports: vec![5432], ..Policy::new(Permissive) };
    let plain = Policy { application_plaintext_ports: vec![5432], ..Policy::new(Permissive) };
    for learnt in [Unknown, SpeaksTls, Plaintext, Unlearnable] {
        assert_eq!(next(&speaks, STRANGERS_HELLO, learnt, false, false), pass(PassThrough::ApplicationTls));
        assert_eq!(next(&plain, STRANGERS_HELLO, learnt, false, false), Terminate);
        assert_eq!(next(&speaks, Hello::Malformed, learnt, false, false), pass(PassThrough::ApplicationTls));
        assert_eq!(next(&plain, Hello::Malformed, learnt, false, false), refuse(Refuse::HelloMalformed));
    }
}

#[test]
fn a_strict_workload_never_gets_plaintext_and_its_application_is_never_called_before_a_hello() {
    let hellos = [Hello::Nothing, HALF_A_HELLO, Hello::Jfe, STRANGERS_HELLO, Hello::NotTls, Hello::Malformed];
    for hello in hellos {
        for application in [Unknown, SpeaksTls, Plaintext, Unlearnable] {
            for (covered, spoke) in [(false, false), (false, true), (true, false), (true, true)] {
                let got = next(&Policy::new(Strict), hello, application, covered, spoke);
                assert_ne!(got, ConnectApplicationAndWatch);
                if let InboundNext::PassThrough(why) = got {
                    assert_eq!((why, hello), (PassThrough::ApplicationTls, STRANGERS_HELLO));
                }
            }
        }
    }
}

#[test]
fn what_is_ended_for_taking_too_long_says_whether_anything_came() {
    assert_eq!(jfe_decide::unfinished(Hello::Nothing), Refuse::Silent);
    assert_eq!(jfe_decide::unfinished(HALF_A_HELLO), Refuse::HandshakeTimeout);
}

const COVERED: &str = "10.2.0.9:5432";
const BY_ADDRESS: &str = "10.2.0.10:5432";
const WISHED: &str = "10.2.0.11:5432";
const EXCLUDED_THERE: &str = "10.2.0.9:9100";
const STRANGER: &str = "192.0.2.1:443";

fn directory() -> Directory {
    let mut directory = Directory::new();
    for (address, identity, cover) in [
        (COVERED, Some("spiffe://d/x".to_owned()), Cover::Covered),
        (BY_ADDRESS, None, Cover::Covered),
        (WISHED, None, Cover::Wished),
    ] {
        let network = Network::new(at(address).ip(), 32).expect("a network");
        directory.insert(network, None, Entry { identity, cover, excluded_ports: vec![9100] });
    }
    directory
}

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address")
}

#[test]
fn outbound_table() {
    let named = || Outbound::Upgrade(Expect { identity: Some("spiffe://d/x".to_owned()) });
    let by_address = || Outbound::Upgrade(Expect { identity: None });
    let pass = Outbound::PassThrough;
    #[rustfmt::skip]
    let table = [
        // leaves for     permissive                         strict
        (COVERED,         named(),                           named()),
        (BY_ADDRESS,      by_address(),                      by_address()),
        (WISHED,          pass(PassThrough::NotCoveredYet),  Outbound::AwaitCover),
        (EXCLUDED_THERE,  pass(PassThrough::Stranger),       Outbound::AwaitFirstByte),
        (STRANGER,        pass(PassThrough::Stranger),       Outbound::AwaitFirstByte),
    ];
    for (destination, permissive, strict) in table {
        let (directory, to) = (directory(), at(destination));
        assert_eq!(outbound(&Policy::new(Permissive), &directory, false, to), permissive, "permissive: {destination}");
        assert_eq!(outbound(&Policy::new(Strict), &directory, false, to), strict, "strict: {destination}");
    }
}

#[test]
fn outbound_exclusions_go_before_the_directory_and_own_listeners_before_all() {
    for mode in [Permissive, Strict] {
        let by_port = Policy { excluded_outbound_ports: vec![5432], ..Policy::new(mode) };
        let network = Network::new(at(COVERED).ip(), 16).expect("a network");
        let by_network = Policy { excluded_outbound_networks: vec![network], ..Policy::new(mode) };
        for policy in [by_port, by_network] {
            let excluded = Outbound::PassThrough(PassThrough::Excluded);
            assert_eq!(outbound(&policy, &directory(), false, at(COVERED)), excluded);
            let refused = Outbound::Refuse(Refuse::OwnListener);
            assert_eq!(outbound(&policy, &directory(), true, at(COVERED)), refused);
        }
    }
}

#[test]
fn a_strict_workload_s_first_byte_to_a_stranger_must_be_a_hello_of_the_application() {
    let hello = include_bytes!("hellos/openssl-3.0");
    let pass = FirstBytes::PassThrough(PassThrough::ApplicationTls);
    let plaintext = FirstBytes::Refuse(Refuse::PlaintextToStranger);
    #[rustfmt::skip]
    let table: [(Side, &[u8], FirstBytes); 9] = [
        (Side::Application, hello,               pass),
        (Side::Application, b"",                 FirstBytes::Await { need: 1 }),
        (Side::Application, &hello[..100],       FirstBytes::Await { need: hello.len() }),
        (Side::Application, b"G",                plaintext),
        (Side::Application, b"\x16\x03\x01\0\0", FirstBytes::Refuse(Refuse::HelloMalformed)),
        (Side::Application, b"\x16\x03\x01\x40\0\x01\xff\xff\xff", FirstBytes::Refuse(Refuse::HelloTooLarge)),
        (Side::Peer,        b"",                 FirstBytes::Await { need: 1 }),
        (Side::Peer,        b"2",                plaintext),
        (Side::Peer,        hello,               plaintext),
    ];
    for (from, bytes, expected) in table {
        assert_eq!(outbound_first_bytes(from, bytes), expected, "{from:?}: {bytes:?}");
    }
}
