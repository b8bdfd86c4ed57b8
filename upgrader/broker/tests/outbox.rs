//! Events for an agent that is away, slow, or there.
#![allow(clippy::unwrap_used)]

use jfe_broker::outbox::{Outbox, QUEUED};
use jfe_broker::output::Output;
use jfe_control::message::{Connection, Counter, Direction, Event, Phase};

fn counters(reason: &str, connections: u64) -> Event {
    let counter = Counter {
        workload: "w1".into(),
        direction: Direction::Inbound,
        decision: "refuse".into(),
        reason: reason.into(),
        connections,
        bytes_sent: 10,
        bytes_received: u64::MAX,
        handshakes: 0,
        handshake_microseconds: 0,
    };
    Event::Counters { counters: vec![counter] }
}

fn connection() -> Event {
    let address = "10.0.0.1:1".parse().unwrap();
    Event::Connection(Box::new(Connection {
        number: 1,
        phase: Phase::Open,
        workload: "w1".into(),
        direction: Direction::Inbound,
        source: address,
        destination: address,
        decision: None,
        reason: None,
        peer: None,
        tls: None,
        bytes_sent: 0,
        bytes_received: 0,
        handshake_microseconds: None,
        dialled_from: None,
        carried: None,
    }))
}

#[test]
fn counters_are_summed_until_somebody_reads_them() {
    let mut outbox = Outbox::default();
    for _ in 0..5 {
        outbox.take(counters("silent", 2), false, 0);
        outbox.take(counters("plaintext", 1), false, 0);
    }
    assert!(outbox.drain(QUEUED).is_empty());
    let events = outbox.drain(0);
    let [Event::Counters { counters }] = events.as_slice() else { panic!("{events:?}") };
    let silent = counters.iter().find(|counter| counter.reason == "silent").unwrap();
    assert_eq!((silent.connections, silent.bytes_sent, silent.bytes_received), (10, 50, u64::MAX));
    assert_eq!(counters.len(), 2);
    assert!(outbox.drain(0).is_empty());
}

#[test]
fn connection_events_are_lost_and_counted_when_nobody_reads_them_in_time() {
    let mut outbox = Outbox::default();
    outbox.take(connection(), true, QUEUED - 1);
    outbox.take(connection(), true, QUEUED);
    // Once one is lost none is sent before that is said.
    outbox.take(connection(), true, 0);
    assert!(matches!(outbox.drain(QUEUED).as_slice(), [Event::Connection(_)]));
    assert!(matches!(outbox.drain(0).as_slice(), [Event::ConnectionEventsLost { count: 2 }]));
    outbox.take(connection(), true, 0);
    assert!(matches!(outbox.drain(0).as_slice(), [Event::Connection(_)]));
}

#[test]
fn connection_events_are_dropped_where_nobody_wants_them() {
    let mut outbox = Outbox::default();
    outbox.take(connection(), false, 0);
    outbox.take(connection(), true, 0);
    outbox.agent_gone();
    assert!(outbox.drain(0).is_empty());
}

#[test]
fn a_replaced_worker_is_told_to_the_agent_that_comes_next() {
    let mut outbox = Outbox::default();
    outbox.take(Event::WorkerReplaced { worker: 3 }, false, 0);
    outbox.agent_gone();
    assert!(matches!(outbox.drain(0).as_slice(), [Event::WorkerReplaced { worker: 3 }]));
}

#[test]
fn what_a_worker_writes_becomes_bounded_lines_of_printable_text() {
    let mut output = Output::default();
    assert!(output.take(b"half ").is_empty());
    assert_eq!(output.take(b"a line\n\x1b[31mred\xff\n\n"), ["half a line", "?[31mred?"]);
    assert!(output.take(&[b'x'; 9000]).is_empty());
    assert_eq!(output.end().unwrap().len(), 2000);
    assert_eq!(output.take(&b"again\n".repeat(500)).len(), 97);
}
