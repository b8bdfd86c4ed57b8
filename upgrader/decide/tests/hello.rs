//! Hellos as real programs send them, and as nobody should.

#![allow(clippy::unwrap_used)]

mod wire;

use jfe_decide::Hello;
use jfe_decide::hello::{HELLO_MAX, classify};
use wire::{ALPN, SNI, alpn, extension, hello, in_records, sni};

const STRANGER: Hello<'static> = Hello::Stranger { server_name: None };

macro_rules! recorded {
    ($name:literal) => {
        ($name, include_bytes!(concat!("hellos/", $name)).as_slice())
    };
}

#[test]
fn recorded_hellos_are_known_for_what_they_are() {
    let named = |name| Hello::Stranger { server_name: Some(name) };
    let table = [
        (recorded!("openssl-3.0"), named("server.example")),
        (recorded!("openssl-3.0-no-name"), STRANGER),
        (recorded!("openssl-3.0-tls1.2"), named("server.example")),
        (recorded!("openssl-3.0-split-records"), named("server.example")),
        (recorded!("curl-7.88-http2"), named("server.example")),
        (recorded!("python-3.11-ssl"), named("server.example")),
        (recorded!("python-3.11-ssl-other-alpn"), named("server.example")),
        (recorded!("python-3.11-ssl-jfe"), Hello::Jfe),
        (recorded!("python-3.11-ssl-jfe-second"), Hello::Jfe),
        (recorded!("chrome131-grease"), named("localhost")),
        (recorded!("safari18_0-grease"), named("localhost")),
        (recorded!("firefox133"), named("localhost")),
        (recorded!("rustls-0.23-mlkem"), named("server.example")),
        (recorded!("rustls-0.23-mlkem-jfe"), Hello::Jfe),
    ];
    for ((name, bytes), expected) in table {
        assert_eq!(classify(bytes), expected, "{name}");
        for cut in 1..bytes.len() {
            assert!(
                matches!(classify(&bytes[..cut]), Hello::Partial { need } if need > cut && need <= bytes.len()),
                "{name} {cut}"
            );
        }
    }
}

#[test]
fn plaintext_is_known_by_the_first_byte_that_is_no_tls() {
    #[rustfmt::skip]
    let table: [(&[u8], Hello<'_>); 9] = [
        (b"",                       Hello::Nothing),
        (b"G",                      Hello::NotTls),
        (b"\x16",                   Hello::Partial { need: 2 }),
        (b"\x16\x02",               Hello::NotTls),
        (b"\x16\x03",               Hello::Partial { need: 3 }),
        (b"\x16\x03\x01\x01",       Hello::Partial { need: 5 }),
        (b"\x16\x03\x01\x01\0",     Hello::Partial { need: 6 }),
        (b"\x16\x03\x01\x01\0\x02", Hello::NotTls),
        (b"\x80\x2e\x01\x03\x01",   Hello::NotTls),
    ];
    for (bytes, expected) in table {
        assert_eq!(classify(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn every_record_version_from_1_0_to_1_3_is_taken() {
    for minor in 0..=255 {
        let mut bytes = in_records(&hello(&[]), 16384);
        bytes[2] = minor;
        let expected = if (1..=4).contains(&minor) { STRANGER } else { Hello::Malformed };
        assert_eq!(classify(&bytes), expected, "minor version {minor}");
    }
}

#[test]
fn a_hello_cut_into_records_of_any_size_is_the_same_hello() {
    let message = hello(&[extension(SNI, &sni(b"db.example")), extension(ALPN, &alpn(&[b"h2", b"jfe/1"]))]);
    for size in 1..message.len() {
        assert_eq!(classify(&in_records(&message, size)), Hello::Jfe, "records of {size} bytes");
    }
}

#[test]
fn what_follows_a_hello_does_not_change_it() {
    let mut bytes = in_records(&hello(&[extension(ALPN, &alpn(&[b"jfe/1"]))]), 16384);
    bytes.extend_from_slice(b"\x17\x03\x03\xff\xffanything");
    assert_eq!(classify(&bytes), Hello::Jfe);
}

#[test]
fn only_the_whole_protocol_name_counts() {
    for other in [b"jfe".as_slice(), b"jfe/", b"jfe/10", b"jfe/2", b"JFE/1", b"xjfe/1"] {
        let bytes = in_records(&hello(&[extension(ALPN, &alpn(&[other]))]), 16384);
        assert_eq!(classify(&bytes), STRANGER, "{other:?}");
    }
}

#[test]
fn a_name_that_is_not_safe_to_log_is_not_told() {
    for name in [b"a\nb".as_slice(), b"\x1b[2J", b"\xff\xfe", b"a b"] {
        let bytes = in_records(&hello(&[extension(SNI, &sni(name))]), 16384);
        assert_eq!(classify(&bytes), STRANGER, "{name:?}");
    }
}

#[test]
fn grease_and_unknown_extensions_are_stepped_over() {
    let bytes = in_records(
        &hello(&[
            extension(0x2a2a, b""),
            extension(ALPN, &alpn(&[b"\x5a\x5a", b"jfe/1"])),
            extension(0xfafa, b"\0"),
            extension(0xffff, &[7; 300]),
        ]),
        16384,
    );
    assert_eq!(classify(&bytes), Hello::Jfe);
}

#[test]
fn hostile_lengths_are_malformed() {
    let twice = [extension(ALPN, &alpn(&[b"h2"])), extension(ALPN, &alpn(&[b"jfe/1"]))];
    let unknown_twice = [extension(0x1234, b""), extension(0x1234, b"")];
    let mut odd_suites = hello(&[]);
    odd_suites[4 + 2 + 32 + 1 + 1] = 3;
    let mut long_session = hello(&[]);
    long_session[4 + 2 + 32] = 33;
    let mut version_2 = hello(&[]);
    version_2[4] = 2;
    let mut extensions_too_long = hello(&[extension(0x1234, b"")]);
    let at = extensions_too_long.len() - 5;
    extensions_too_long[at] += 1;
    let table = [
        ("ALPN twice", hello(&twice)),
        ("an unknown extension twice", hello(&unknown_twice)),
        ("an empty ALPN list", hello(&[extension(ALPN, b"\0\0")])),
        ("an ALPN list longer than its extension", hello(&[extension(ALPN, b"\0\x09\x05jfe/1")])),
        ("an ALPN list shorter than its extension", hello(&[extension(ALPN, b"\0\x06\x05jfe/1x")])),
        ("an empty protocol", hello(&[extension(ALPN, b"\0\x07\0\x05jfe/1")])),
        ("a protocol longer than its list", hello(&[extension(ALPN, b"\0\x06\xffjfe/1")])),
        ("an empty name", hello(&[extension(SNI, &sni(b""))])),
        ("a name longer than its list", hello(&[extension(SNI, b"\0\x04\0\xff\xffx")])),
        ("an extension cut off", hello(&[vec![0x12, 0x34, 0xff, 0xff]])),
        ("an extension without a length", hello(&[vec![0x12, 0x34]])),
        ("an odd list of suites", odd_suites),
        ("a session id of 33 bytes", long_session),
        ("version 2", version_2),
        ("extensions longer than the hello", extensions_too_long),
        ("an empty hello", vec![1, 0, 0, 0]),
    ];
    for (what, message) in table {
        assert_eq!(classify(&in_records(&message, 16384)), Hello::Malformed, "{what}");
        assert_eq!(classify(&in_records(&message, 3)), Hello::Malformed, "{what}, in records of 3 bytes");
    }
}

#[test]
fn bad_records_are_malformed() {
    let whole = in_records(&hello(&[]), 20);
    let second = 5 + 20;
    assert_eq!(classify(b"\x16\x03\x01\0\0"), Hello::Malformed, "an empty record");
    assert_eq!(classify(b"\x16\x03\x01\x40\x01"), Hello::Malformed, "a record over 2^14 bytes");
    for (at, value) in [(second, 23), (second + 1, 2), (second + 2, 9), (second + 3, 0xff)] {
        let mut bytes = whole.clone();
        bytes[at] = value;
        assert_eq!(classify(&bytes), Hello::Malformed, "byte {at} of the second record's header");
    }
}

#[test]
fn a_hello_may_fill_64_kib_and_no_more() {
    let of = |payload: usize, record: usize| in_records(&hello(&[extension(0x1234, &vec![0; payload])]), record);
    let overhead = of(0, 16384).len();
    let most = HELLO_MAX - overhead - 3 * 5;
    assert_eq!(of(most, 16384).len(), HELLO_MAX);
    assert_eq!(classify(&of(most, 16384)), STRANGER);
    assert_eq!(classify(&of(most + 1, 16384)), Hello::TooLarge);
    assert_eq!(classify(&of(most + 1, 16384)[..9]), Hello::TooLarge, "known from the length alone");
    assert_eq!(classify(&of(most / 2, 1)), Hello::TooLarge, "records of one byte fill the bound with headers");
}

#[test]
fn a_hello_in_records_of_one_byte_is_looked_at_few_times() {
    let bytes = in_records(&hello(&[extension(0x1234, &[0; 10_000])]), 1);
    assert!(bytes.len() < HELLO_MAX);
    let (mut seen, mut looks) = (1, 0);
    while let Hello::Partial { need } = classify(&bytes[..seen]) {
        assert!(need > seen);
        seen = need;
        looks += 1;
    }
    assert_eq!((classify(&bytes), seen), (STRANGER, bytes.len()));
    assert!(looks < 80, "{looks}");
}
