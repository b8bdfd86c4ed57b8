//! Who is let in, who is not, and who is told why.

use std::net::IpAddr;
use std::sync::Arc;

use jfe_tls::{Endpoint, Expectation, HandshakeError, IdentityError, RecordError, RememberedCertificates};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};

use crate::authority::{Authority, CLIENT, Credentials, Leaf, SERVER};
use crate::memory::{Outcome, shake};

fn identity(id: &str) -> Expectation {
    Expectation::Identity(id.parse().unwrap())
}

/// A client that expects [`SERVER`] meets whoever holds these credentials.
fn meet_server(authority: &Authority, credentials: &Credentials, id: &str) -> Outcome {
    let server = credentials.endpoint(id, &authority.bundle()).unwrap();
    shake(authority.endpoint(CLIENT).connect(identity(SERVER)), server.accept_mutual())
}

#[test]
fn a_server_of_another_identity_is_refused_before_it_learns_who_called() {
    let authority = Authority::new("root");
    let outcome = meet_server(&authority, &authority.issue(&Leaf::of("spiffe://test/other")), "spiffe://test/other");
    let expected = HandshakeError::PeerIdentity {
        expected: SERVER.parse().unwrap(),
        found: "spiffe://test/other".parse().unwrap(),
    };
    assert_eq!(outcome.client.err(), Some(expected));
    let told = outcome.server.err().unwrap();
    assert_eq!(told.reason(), "handshake-failed");
    assert!(told.to_string().contains("alert"), "{told}");
}

#[test]
fn a_server_is_accepted_at_the_addresses_that_its_certificate_names_and_no_other() {
    let authority = Authority::new("root");
    let dial = |address: &str| {
        let expectation = Expectation::Address(address.parse().unwrap());
        shake(authority.endpoint(CLIENT).connect(expectation), authority.endpoint(SERVER).accept_mutual()).client
    };
    for address in ["127.0.0.1", "fd00::1", "::ffff:127.0.0.1"] {
        assert!(dial(address).is_ok(), "{address}");
    }
    let error = dial("127.0.0.2").err().unwrap();
    assert_eq!(error.reason(), "peer-address");
    assert!(error.to_string().contains("127.0.0.2"), "{error}");
}

#[test]
fn another_trust_domain_is_refused_even_below_the_same_root() {
    let authority = Authority::new("root");
    let credentials = authority.issue(&Leaf::of("spiffe://elsewhere/server"));
    let outcome = meet_server(&authority, &credentials, "spiffe://elsewhere/server");
    let error = outcome.client.err().unwrap();
    assert_eq!(error.reason(), "peer-untrusted");
    assert!(error.to_string().contains("elsewhere"), "{error}");
}

#[test]
fn a_server_below_another_root_is_refused() {
    let (authority, other) = (Authority::new("root"), Authority::new("root"));
    let outcome = meet_server(&authority, &other.issue(&Leaf::of(SERVER)), SERVER);
    assert_eq!(outcome.client.err().unwrap().reason(), "peer-untrusted");
}

#[test]
fn a_client_below_another_root_is_refused_and_learns_it_from_its_opener() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let both = authority.bundle() + &other.bundle();
    let client = other.issue(&Leaf::of(CLIENT)).endpoint(CLIENT, &both).unwrap();
    let outcome = shake(client.connect(identity(SERVER)), authority.endpoint(SERVER).accept_mutual());
    assert_eq!(outcome.server.err().unwrap().reason(), "peer-untrusted");
    assert_eq!(outcome.client.unwrap().receive(), Err(RecordError::PeerAlert(48))); // unknown_ca
}

#[test]
fn while_a_root_is_replaced_leaves_of_both_are_accepted() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let both = old.bundle() + &new.bundle();
    for (client, server) in [(&old, &new), (&new, &old), (&new, &new)] {
        let client = client.issue(&Leaf::of(CLIENT)).endpoint(CLIENT, &both).unwrap();
        let server = server.issue(&Leaf::of(SERVER)).endpoint(SERVER, &both).unwrap();
        let outcome = shake(client.connect(identity(SERVER)), server.accept_mutual());
        assert!(outcome.client.is_ok() && outcome.server.is_ok());
    }
}

#[test]
fn leaves_below_an_intermediate_are_accepted() {
    let root = Authority::new("root");
    let middle = root.intermediate("middle", 1800);
    let credentials = middle.issue(&Leaf::of(SERVER)).below(&middle);
    assert!(meet_server(&root, &credentials, SERVER).client.is_ok());
}

#[test]
fn a_remembered_certificate_says_nothing_under_another_trust_bundle() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let remembered = Arc::new(RememberedCertificates::new());
    let own = new.issue(&Leaf::of(CLIENT));
    let client =
        |bundle: &str| Endpoint::remembering(CLIENT, &own.certificates, &own.key, bundle, &remembered).unwrap();
    let server = old.issue(&Leaf::of(SERVER)).endpoint(SERVER, &(old.bundle() + &new.bundle())).unwrap();
    let meet = |client: Endpoint| shake(client.connect(identity(SERVER)), server.accept_mutual()).client;

    let both = client(&(old.bundle() + &new.bundle()));
    assert!(meet(both.clone()).is_ok());
    assert!(meet(both).is_ok());
    assert_eq!(remembered.len(), 1);
    assert_eq!(meet(client(&new.bundle())).err().unwrap().reason(), "peer-untrusted");
}

#[test]
fn the_expectation_is_checked_for_a_remembered_certificate_too() {
    let authority = Authority::new("root");
    let (client, server) = (authority.endpoint(CLIENT), authority.endpoint(SERVER));
    assert!(shake(client.connect(identity(SERVER)), server.accept_mutual()).client.is_ok());
    let outcome = shake(client.connect(identity("spiffe://test/other")), server.accept_mutual());
    assert_eq!(outcome.client.err().unwrap().reason(), "peer-identity");
}

#[test]
fn certificates_that_are_not_a_workloads_are_refused_with_the_rule_they_break() {
    let authority = Authority::new("root");
    let other = "spiffe://test/other";
    for (leaf, rule) in [
        (Leaf { uris: vec![], ..Leaf::of(SERVER) }, "names 0 URIs"),
        (Leaf { uris: vec![SERVER, other], ..Leaf::of(SERVER) }, "names 2 URIs"),
        (Leaf { uris: vec!["https://test/x"], ..Leaf::of(SERVER) }, "not a SPIFFE id"),
        (Leaf { is_authority: true, ..Leaf::of(SERVER) }, "authority"),
        (Leaf { key_usages: vec![], ..Leaf::of(SERVER) }, "key usage"),
        (
            Leaf {
                key_usages: vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
                ..Leaf::of(SERVER)
            },
            "key usage",
        ),
        (
            Leaf { extended_key_usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Leaf::of(SERVER) },
            "extended key usage",
        ),
    ] {
        let error = authority.issue(&leaf).endpoint(SERVER, &authority.bundle()).unwrap_err();
        assert!(error.to_string().contains(rule), "{error}");
    }
}

#[test]
fn what_an_endpoint_is_made_of_must_fit_together() {
    let authority = Authority::new("root");
    let (good, other) = (authority.issue(&Leaf::of(SERVER)), authority.issue(&Leaf::of(SERVER)));
    let bundle = authority.bundle();
    let make = |id: &str, certificates: &str, key: &str, bundle: &str| {
        Endpoint::from_pem(id, certificates, key, bundle).map(|_| ())
    };
    assert_eq!(make(SERVER, &good.certificates, &good.key, &bundle), Ok(()));
    assert!(matches!(make("server", &good.certificates, &good.key, &bundle), Err(IdentityError::Id { .. })));
    assert_eq!(make(SERVER, "", &good.key, &bundle), Err(IdentityError::NoCertificate));
    assert_eq!(make(SERVER, &good.certificates, &good.key, ""), Err(IdentityError::NoRoot));
    assert_eq!(make(SERVER, &good.certificates, &other.key, &bundle), Err(IdentityError::KeyMismatch));
    assert!(matches!(make(CLIENT, &good.certificates, &good.key, &bundle), Err(IdentityError::OtherIdentity { .. })));
    let broken = good.certificates.replace("MI", "!!");
    for (certificates, key, bundle, part) in [
        (broken.as_str(), good.key.as_str(), bundle.as_str(), "certificate"),
        (&good.certificates, "no key", &bundle, "private key"),
        (&good.certificates, &good.key, &broken, "trust bundle"),
    ] {
        match make(SERVER, certificates, key, bundle) {
            Err(IdentityError::Unreadable { part: found, .. }) => assert_eq!(found, part),
            other => panic!("{other:?} for {part}"),
        }
    }
}

#[test]
fn a_certificate_outside_its_time_makes_no_endpoint() {
    let authority = Authority::new("root");
    let make = |validity| authority.issue(&Leaf { validity, ..Leaf::of(SERVER) }).endpoint(SERVER, &authority.bundle());
    assert!(matches!(make((-7200, -3600)), Err(IdentityError::Expired { seconds: 3599.. })));
    assert!(matches!(make((3600, 7200)), Err(IdentityError::NotYetValid { seconds: ..=3600 })));
}

#[test]
fn addresses_of_the_peer_are_reported_for_the_side_that_was_dialled() {
    let authority = Authority::new("root");
    let outcome =
        shake(authority.endpoint(CLIENT).connect(identity(SERVER)), authority.endpoint(SERVER).accept_mutual());
    let expected: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(outcome.server.unwrap().tls.peer.unwrap().addresses, expected);
}
