//! What an application's answer to our own hello teaches, and how long that holds.

use std::time::{Duration, Instant};

use jfe_decide::learn::{KNOWLEDGE_LIFE, KNOWLEDGE_PORTS};
use jfe_decide::{Answer, Application, Knowledge, Taught, judge_answer};

#[test]
fn only_a_tls_record_says_yes_and_only_other_bytes_or_a_clean_close_say_no() {
    #[rustfmt::skip]
    let table = [
        (Answer::Bytes(b"\x16\x03\x03\x00\x7a\x02"), Taught::SpeaksTls),
        (Answer::Bytes(b"\x15\x03\x01\x00\x02\x02"), Taught::SpeaksTls),
        (Answer::Bytes(b"\x16\x03\x03\x00\x7a\x01"), Taught::Plaintext),
        (Answer::Bytes(b"\x16\x03\x03\x00\x7a"),     Taught::MoreBytes),
        (Answer::Bytes(b"\x16\x03"),                 Taught::MoreBytes),
        (Answer::Bytes(b""),                         Taught::MoreBytes),
        (Answer::Bytes(b"\x16"),                     Taught::MoreBytes),
        (Answer::Bytes(b"\x15"),                     Taught::MoreBytes),
        (Answer::Bytes(b"\x16\x02"),                 Taught::Plaintext),
        (Answer::Bytes(b"\x17\x03\x03"),             Taught::Plaintext),
        (Answer::Bytes(b"SSH-2.0-"),                 Taught::Plaintext),
        (Answer::Bytes(b"HTTP/1.1 400 Bad Request"), Taught::Plaintext),
        (Answer::Closed,                             Taught::Plaintext),
        (Answer::Refused,                            Taught::Nothing),
        (Answer::Reset,                              Taught::Nothing),
        (Answer::Silent,                             Taught::Nothing),
    ];
    for (answer, taught) in table {
        assert_eq!(judge_answer(answer), taught, "{answer:?}");
    }
}

#[test]
fn what_was_learnt_holds_for_one_port_and_for_its_time() {
    let (mut knowledge, start) = (Knowledge::new(), Instant::now());
    assert_eq!(knowledge.learn(443, Taught::SpeaksTls, start), Application::SpeaksTls);
    assert_eq!(knowledge.learn(80, Taught::Plaintext, start), Application::Plaintext);
    let last = start + KNOWLEDGE_LIFE.saturating_sub(Duration::from_millis(1));
    assert_eq!(knowledge.of(443, last), Application::SpeaksTls);
    assert_eq!(knowledge.of(80, last), Application::Plaintext);
    assert_eq!(knowledge.of(81, last), Application::Unknown);
    assert_eq!(knowledge.of(443, start + KNOWLEDGE_LIFE), Application::Unknown);
}

#[test]
fn a_probe_that_taught_nothing_leaves_what_is_known() {
    let (mut knowledge, now) = (Knowledge::new(), Instant::now());
    assert_eq!(knowledge.learn(80, Taught::Nothing, now), Application::Unlearnable);
    assert_eq!(knowledge.of(80, now), Application::Unknown);
    knowledge.learn(80, Taught::Plaintext, now);
    assert_eq!(knowledge.learn(80, Taught::Nothing, now), Application::Unlearnable);
    assert_eq!(knowledge.of(80, now), Application::Plaintext);
}

#[test]
fn knowledge_is_bounded_and_the_oldest_goes_first() {
    let (mut knowledge, start) = (Knowledge::new(), Instant::now());
    for port in 0..2000_u16 {
        knowledge.learn(port, Taught::Plaintext, start + Duration::from_millis(port.into()));
    }
    let now = start + Duration::from_secs(3);
    assert_eq!(knowledge.len(), KNOWLEDGE_PORTS);
    assert_eq!(knowledge.of(1999, now), Application::Plaintext);
    assert_eq!(knowledge.of(0, now), Application::Unknown);
    let later = start + 2 * KNOWLEDGE_LIFE;
    knowledge.learn(5000, Taught::SpeaksTls, later);
    assert_eq!((knowledge.len(), knowledge.of(5000, later)), (1, Application::SpeaksTls));
    knowledge.forget();
    assert!(knowledge.is_empty());
}
