//! What holds whatever bytes come on stdin, in the environment, or from the socket.
#![allow(clippy::unwrap_used)]

mod stage;

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use jfe_cni_plugin::answer::Answer;
use jfe_cni_plugin::config::Config;
use jfe_cni_plugin::json::{Object, Value, quoted};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use stage::{Call, PLUGIN};

/// Nearly JSON: what a fault in the reader would need to show.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        8 => prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\"a\"", "\"agentSocket\"", "\"deadlineSeconds\"", "\"cniVersion\"",
            "null", "true", "false", "nul", "0", "-", "1", ".", "e", "E+", "\\u00", "\\n", "\\x", "u", " ", "\n", "\u{1}",
            "\u{e9}", "\"/a\"", "{\"a\":1}", "{\"a\":", "[[",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(token, 0..30).prop_map(|tokens| tokens.concat())
}

fn any_document() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        soup(),
        soup().prop_map(|soup| [b"{", soup.as_slice(), b"}"].concat()),
        soup().prop_map(|soup| [b"{\"a\":", soup.as_slice(), b"}"].concat()),
        vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    // Names alone are kept: what is compared is whether there is an object.
    #[allow(clippy::zero_sized_map_values)]
    #[test]
    fn the_reader_takes_for_an_object_what_serde_does(document in any_document()) {
        // What serde ignores it does not hold to UTF-8.
        let theirs = std::str::from_utf8(&document)
            .is_ok_and(|text| serde_json::from_str::<HashMap<String, IgnoredAny>>(text).is_ok());
        prop_assert_eq!(Object::read(&document).is_ok(), theirs);
    }

    #[test]
    fn a_configuration_that_is_read_has_what_can_be_used(document in any_document()) {
        if let Ok(config) = Config::read(&document) {
            prop_assert!(config.agent_socket.starts_with('/'));
            prop_assert!(!config.deadline.is_zero());
        }
    }

    #[test]
    fn a_string_is_written_and_read_as_serde_does(text in any::<String>()) {
        let ours = quoted(&text);
        prop_assert_eq!(&serde_json::from_str::<String>(&ours).unwrap(), &text);
        let theirs = serde_json::to_string(&text).unwrap();
        for written in [ours, theirs] {
            let document = format!("{{\"a\":{written}}}");
            let object = Object::read(document.as_bytes()).unwrap();
            prop_assert_eq!(object.get("a"), Some(&Value::String(text.clone())));
        }
    }

    #[test]
    fn an_answer_is_the_same_however_much_of_it_is_there(
        head in prop::sample::select(vec!["HTTP/1.1 200 OK\r\n", "HTTP/1.1 422\r\n", "HTTP/1.", "", "HTTP/1.1 2"]),
        fields in vec(prop::sample::select(vec![
            "Content-Length: 3\r\n", "content-length:0\r\n", "A: b\r\n", "nothing\r\n", "\r\n", "Transfer-Encoding: x\r\n",
        ]), 0..5),
        rest in vec(any::<u8>(), 0..20),
    ) {
        let bytes = [head.as_bytes(), fields.concat().as_bytes(), &rest].concat();
        let mut decided = None;
        for length in 0..=bytes.len() {
            let now = Answer::read(&bytes[..length]);
            if decided.is_none() {
                decided = Some(now).filter(|now| *now != Ok(None));
            } else {
                prop_assert_eq!(decided.as_ref(), Some(&now), "changed at byte {}", length);
            }
        }
    }
}

proptest! {
    // Each case starts the program.
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_ends_with_an_error_object_or_well(
        input in any_document(),
        arguments in vec(1_u8.., 0..50),
        command in prop::sample::select(vec!["ADD", "CHECK", "STATUS"]),
    ) {
        // A document of chance names no agent's socket of this host; the usual one is asked for by none that is read.
        prop_assume!(!matches!(Config::read(&input), Ok(config) if config.agent_socket.starts_with("/run")));
        let ended = Call::of(PLUGIN, command).with("CNI_ARGS", OsString::from_vec(arguments)).run(&input);
        let (code, message) = ended.error();
        prop_assert!([6, 7, 11, 50].contains(&code), "{}", message);
    }
}

#[test]
fn what_is_no_configuration_is_undecodable() {
    let deep = "{\"a\":".repeat(500_000);
    let inputs: [&[u8]; 6] = [b"", b"no", b"[]", b"{\"cniVersion\": \"1.0.0\"", b"\xef\xbb\xbf{}", deep.as_bytes()];
    for input in inputs {
        for command in ["ADD", "CHECK", "STATUS"] {
            let (code, message) = Call::of(PLUGIN, command).run(input).error();
            assert_eq!(code, 6, "{message}");
            assert!(message.starts_with("stdin holds no network configuration: "), "{message}");
        }
        for command in ["DEL", "GC"] {
            let ended = Call::of(PLUGIN, command).run(input);
            assert!(ended.remark().contains("no network configuration"), "{ended:?}");
        }
    }
}

#[test]
fn fields_of_the_plugins_own_that_can_not_be_meant_are_refused() {
    for (field, value) in [("agentSocket", "\"agent.sock\""), ("deadlineSeconds", "0"), ("deadlineSeconds", "\"9\"")] {
        let input = format!(r#"{{"cniVersion": "0.4.0", "{field}": {value}}}"#);
        let (code, message) = Call::of(PLUGIN, "ADD").run(input.as_bytes()).error();
        assert_eq!(code, 7);
        assert!(message.starts_with(field), "{message}");
    }
}

#[test]
fn a_configuration_that_is_too_long_is_refused() {
    let input = format!("{{\"a\":\"{}\"}}", "a".repeat(5_000_000));
    let (code, message) = Call::of(PLUGIN, "ADD").run(input.as_bytes()).error();
    assert_eq!((code, message.as_str()), (7, "the network configuration on stdin is longer than 4 MiB"));
}
