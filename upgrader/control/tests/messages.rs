//! The JSON of the control protocol, as the agent writes and reads it.
#![allow(clippy::unwrap_used)]

use jfe_control::Frame;
use jfe_control::message::{
    Answer, AnswerResult, Connection, Cover, Direction, Event, Failure, FailureKind, FromWorker, Listeners, Network,
    Object, Phase, Request, ToWorker, Word,
};

fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let frame = Frame { body: text.as_bytes().to_vec(), descriptors: Vec::new(), descriptors_lost: false };
    frame.parse().map_err(|error| error.to_string())
}

const WORKLOAD: &str = r#"{"id":"w1","shape":"namespace","mode":"strict","mark":4194304,
    "identity":{"id":"spiffe://d/x","certificates":"C","key":"SECRET","trust_bundle":"T"},
    "settings":{"excluded_outbound_networks":["10.0.0.0/8"]}}"#;

#[test]
fn a_workload_is_added() {
    let text = format!(r#"{{"seq":1,"word":"add","object":{{"workload":{WORKLOAD}}}}}"#);
    let request: Request = parsed(&text).unwrap();
    let Word::Add { object: Object::Workload(workload) } = request.word else { panic!("{request:?}") };
    assert_eq!((request.seq, workload.id.as_str(), workload.mark), (1, "w1", 4_194_304));
    assert_eq!(workload.settings.excluded_outbound_networks[0].to_string(), "10.0.0.0/8");
    assert!(!format!("{workload:?}").contains("SECRET"));
}

#[test]
fn a_directory_is_added() {
    let request: Request = parsed(
        r#"{"seq":2,"word":"add","object":{"directory":[
            {"network":"10.2.0.9/32","port":null,"identity":"spiffe://d/x","cover":"covered","excluded_ports":[]},
            {"network":"fd00::/64","port":80,"cover":"wished"}]}}"#,
    )
    .unwrap();
    let Word::Add { object: Object::Directory(entries) } = request.word else { panic!("{request:?}") };
    assert_eq!((entries[0].key.port, entries[0].cover), (None, Cover::Covered));
    assert_eq!((entries[1].key.port, entries[1].identity.as_deref()), (Some(80), None));
}

#[test]
fn each_other_word_is_read() {
    for text in [
        r#"{"seq":3,"word":"keep","workload":"w1"}"#,
        r#"{"seq":4,"word":"snapshot_sent"}"#,
        r#"{"seq":5,"word":"del","name":{"workload":"w1"}}"#,
        r#"{"seq":6,"word":"del","name":{"directory":[{"network":"10.2.0.9/32","port":null}]}}"#,
        r#"{"seq":7,"word":"add","object":"connection_events"}"#,
        r#"{"seq":8,"word":"del","name":"connection_events"}"#,
    ] {
        let request: Request = parsed(text).unwrap();
        let again: serde_json::Value = serde_json::to_value(&request).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}

#[test]
fn answers_carry_the_number_of_their_request() {
    let listeners = Listeners { outbound: 61001, inbound: 61002, ipv6: true };
    let failure = Failure { kind: FailureKind::BadIdentity, message: "no".into() };
    for (result, text) in [
        (AnswerResult::Done, r#"{"seq":1,"answer":"done"}"#),
        (AnswerResult::Unknown, r#"{"seq":1,"answer":"unknown"}"#),
        (
            AnswerResult::Listening(listeners),
            r#"{"seq":1,"answer":"listening","outbound":61001,"inbound":61002,"ipv6":true}"#,
        ),
        (AnswerResult::Failed(failure), r#"{"seq":1,"answer":"failed","kind":"bad_identity","message":"no"}"#),
    ] {
        assert_eq!(serde_json::to_string(&Answer { seq: 1, result }).unwrap(), text);
        parsed::<Answer>(text).unwrap();
    }
}

#[test]
fn a_worker_forwards_events() {
    let connection = Connection {
        number: 1 << 48,
        phase: Phase::Open,
        workload: "w1".into(),
        direction: Direction::Outbound,
        source: "[fd00::1]:1".parse().unwrap(),
        destination: "10.0.0.1:80".parse().unwrap(),
        decision: None,
        reason: None,
        peer: None,
        tls: None,
        bytes_sent: u64::MAX,
        bytes_received: 0,
        handshake_microseconds: None,
        dialled_from: None,
        carried: None,
    };
    let text = serde_json::to_string(&FromWorker::Event(Event::Connection(Box::new(connection)))).unwrap();
    assert!(text.starts_with(r#"{"from_worker":"event","event":"connection","number":281474976710656,"#), "{text}");
    let FromWorker::Event(Event::Connection(again)) = parsed(&text).unwrap() else { panic!("{text}") };
    assert_eq!(again.bytes_sent, u64::MAX);
    parsed::<FromWorker>(r#"{"from_worker":"want_sockets","id":"w1","kind":"application4","count":3}"#).unwrap();
    parsed::<FromWorker>(r#"{"from_worker":"event","event":"counters","counters":[]}"#).unwrap();
}

#[test]
fn a_worker_is_told() {
    let text = format!(
        r#"{{"to_worker":"workload","workload":{WORKLOAD},"listeners":{{"outbound":1,"inbound":2,"ipv6":false}}}}"#
    );
    let ToWorker::Workload { workload, listeners } = parsed(&text).unwrap() else { panic!("{text}") };
    assert_eq!((workload.id.as_str(), listeners.inbound), ("w1", 2));
}

#[test]
fn a_wrong_message_is_named_without_what_stands_in_it() {
    let misplaced = WORKLOAD.replace("4194304", r#""-----BEGIN PRIVATE KEY-----""#);
    let text = format!(r#"{{"seq":1,"word":"add","object":{{"workload":{misplaced}}}}}"#);
    let error = parsed::<Request>(&text).unwrap_err();
    assert!(error.contains("expected u32") && !error.contains("PRIVATE"), "{error}");
    let error = parsed::<Request>(&text.replace(r#""mark""#, r#""marc""#)).unwrap_err();
    assert!(error.contains("marc"), "{error}");
    assert!(parsed::<Request>(r#"{"seq":1,"word":"ad"#).is_err());
    assert!(parsed::<Request>(r#"{"seq":1,"word":"sing"}"#).unwrap_err().contains("sing"));
}

#[test]
fn networks_are_read_strictly() {
    let network = |text: &str| text.parse::<Network>().map_err(|error| error.to_string());
    for good in ["0.0.0.0/0", "10.2.0.9/32", "::/0", "fd00::/64", "fd00::1/128"] {
        assert_eq!(network(good).unwrap().to_string(), good);
    }
    for bad in ["10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "x/8", "10.0.0.0/8/8", "::/-1"] {
        network(bad).unwrap_err();
    }
    assert!(network("10.2.0.9/24").unwrap_err().ends_with("write 10.2.0.0/24"));
    let inner = network("10.2.0.0/15").unwrap();
    assert!(inner.contains("10.3.255.255".parse().unwrap()) && !inner.contains("10.4.0.0".parse().unwrap()));
    assert!(!network("::/0").unwrap().contains("10.3.255.255".parse().unwrap()));
    assert!(network("0.0.0.0/0").unwrap().contains("10.3.255.255".parse().unwrap()));
}
