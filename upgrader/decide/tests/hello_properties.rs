//! What holds for `classify` whatever a peer sends.

mod wire;

use jfe_decide::Hello;
use jfe_decide::hello::{HELLO_MAX, classify};
use proptest::collection::vec;
use proptest::prelude::*;
use wire::{ALPN, SNI, alpn, extension, hello, in_records, sni};

const RECORDED: &[&[u8]] = &[
    include_bytes!("hellos/openssl-3.0"),
    include_bytes!("hellos/openssl-3.0-split-records"),
    include_bytes!("hellos/chrome131-grease"),
    include_bytes!("hellos/rustls-0.23-mlkem-jfe"),
];

/// Everything of the verdict that must not change; the name is a matter of where records are cut.
fn kind(hello: Hello<'_>) -> &'static str {
    match hello {
        Hello::Nothing | Hello::Partial { .. } => "undecided",
        Hello::Jfe => "jfe",
        Hello::Stranger { .. } => "stranger",
        Hello::NotTls => "not tls",
        Hello::Malformed => "malformed",
        Hello::TooLarge => "too large",
    }
}

fn check_every_prefix(bytes: &[u8]) -> Result<(), TestCaseError> {
    let whole = kind(classify(bytes));
    let mut decided = "undecided";
    for length in 0..=bytes.len() {
        let now = classify(&bytes[..length]);
        if let Hello::Partial { need } = now {
            prop_assert!(need > length && need <= HELLO_MAX);
        }
        if decided == "undecided" {
            decided = kind(now);
        } else {
            prop_assert_eq!(decided, kind(now), "the verdict changed at byte {}", length);
        }
    }
    prop_assert_eq!(decided, whole);
    // As a caller does it that looks only when there is enough to see.
    let mut seen = bytes.len().min(1);
    while let Hello::Partial { need } = classify(&bytes[..seen]) {
        if need > bytes.len() {
            prop_assert!(whole == "undecided" || whole == "malformed");
            return Ok(());
        }
        seen = need;
    }
    prop_assert_eq!(kind(classify(&bytes[..seen])), whole);
    Ok(())
}

fn extensions() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let one = prop_oneof![
        vec(any::<u8>(), 0..20).prop_map(|data| extension(ALPN, &data)),
        vec(vec(any::<u8>(), 0..6), 0..4)
            .prop_map(|protocols| { extension(ALPN, &alpn(&protocols.iter().map(Vec::as_slice).collect::<Vec<_>>())) }),
        Just(extension(ALPN, &alpn(&[b"h2", b"jfe/1"]))),
        vec(any::<u8>(), 0..20).prop_map(|name| extension(SNI, &sni(&name))),
        (any::<u16>(), vec(any::<u8>(), 0..40)).prop_map(|(kind, data)| extension(kind, &data)),
        vec(any::<u8>(), 0..10),
    ];
    vec(one, 0..6)
}

proptest! {
    #[test]
    fn noise_never_panics_and_its_verdict_stays(bytes in vec(any::<u8>(), 0..200)) {
        check_every_prefix(&bytes)?;
    }

    #[test]
    fn noise_that_begins_as_tls_never_panics_and_its_verdict_stays(
        rest in vec(any::<u8>(), 0..200), minor in 0..6_u8, length in any::<u16>(),
    ) {
        let mut bytes = vec![22, 3, minor];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.push(1);
        bytes.extend(rest);
        check_every_prefix(&bytes)?;
    }

    #[test]
    fn a_hello_one_byte_a_time_is_the_hello_at_once(
        extensions in extensions(), record in 1..400_usize, after in vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = in_records(&hello(&extensions), record);
        bytes.extend(after);
        check_every_prefix(&bytes)?;
        prop_assert!(kind(classify(&bytes)) != "undecided");
    }

    #[test]
    fn a_real_hello_with_bytes_changed_keeps_its_verdict(
        which in 0..RECORDED.len(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = RECORDED[which].to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        check_every_prefix(&bytes)?;
    }
}
