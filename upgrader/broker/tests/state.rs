//! What the broker does about what it is told, without doing it.
#![allow(clippy::unwrap_used)]

use jfe_broker::state::{Action, State, check};
use jfe_control::message::{
    AnswerResult, FailureKind, FromWorker, Identity, Listeners, Mode, Name, Object, Settings, Shape, ToWorker, Word,
    Workload,
};

const LISTENERS: Listeners = Listeners { outbound: 61001, inbound: 61002, ipv6: true };

fn workload(id: &str, key: &str) -> Workload {
    let (certificates, trust_bundle) = (String::new(), String::new());
    Workload {
        id: id.into(),
        shape: Shape::Namespace,
        mode: Mode::Strict,
        identity: Identity { id: "spiffe://d/x".into(), certificates, key: key.into(), trust_bundle },
        mark: 0x40_0000,
        settings: Settings::default(),
    }
}

/// As short text, which is what a test compares.
fn shown(actions: &[Action]) -> Vec<String> {
    actions.iter().map(one_shown).collect()
}

fn one_shown(action: &Action) -> String {
    match action {
        Action::Tell { worker, message, descriptors } => {
            let what = match message {
                ToWorker::Workload { workload, .. } => format!("workload {} {}", workload.id, workload.identity.key),
                ToWorker::RemoveWorkload { id } => format!("remove {id}"),
                ToWorker::Directory { entries } => format!("directory {}", entries.len()),
                ToWorker::RemoveDirectory { keys } => format!("remove directory {}", keys.len()),
                ToWorker::ConnectionEvents { wanted } => format!("events {wanted}"),
                other => format!("{other:?}"),
            };
            format!("{worker}: {what}{}", if *descriptors { " with listeners" } else { "" })
        }
        Action::Supply { worker, id } => format!("{worker}: supply {id}"),
        Action::Answer(answer) => match &answer.result {
            AnswerResult::Done => format!("answer {}: done", answer.seq),
            AnswerResult::Listening(_) => format!("answer {}: listening", answer.seq),
            AnswerResult::Unknown => format!("answer {}: unknown", answer.seq),
            AnswerResult::Failed(failure) => format!("answer {}: {:?}", answer.seq, failure.kind),
        },
        Action::Release { id } => format!("release {id}"),
        Action::Say(_) => "say".into(),
    }
}

fn installed(state: &mut State, worker: u32, id: &str) -> Vec<String> {
    shown(&state.worker_said(worker, FromWorker::Installed { id: id.into() }))
}

fn bad(state: &mut State, worker: u32, id: &str) -> Vec<String> {
    shown(&state.worker_said(worker, FromWorker::BadIdentity { id: id.into(), message: "expired".into() }))
}

/// With two workers, an agent, and `ids` in place.
fn state(ids: &[&str]) -> State {
    let mut state = State::new(2);
    state.worker_started(0);
    state.worker_started(1);
    state.agent_connected();
    for id in ids {
        state.install(1, workload(id, "old"), LISTENERS);
        installed(&mut state, 0, id);
        assert_eq!(installed(&mut state, 1, id), [format!("1: supply {id}"), "answer 1: listening".into()]);
    }
    state
}

fn directory(networks: &[&str]) -> Object {
    let text = networks.iter().map(|network| format!(r#"{{"network":"{network}","cover":"covered"}}"#));
    let entries = format!("[{}]", text.collect::<Vec<_>>().join(","));
    Object::Directory(serde_json::from_str(&entries).unwrap())
}

#[test]
fn a_new_workload_is_answered_when_all_workers_have_it() {
    let mut state = state(&[]);
    let actions = shown(&state.install(7, workload("w1", "k"), LISTENERS));
    assert_eq!(actions, ["0: workload w1 k with listeners", "1: workload w1 k with listeners"]);
    assert_eq!(installed(&mut state, 1, "w1"), ["1: supply w1"]);
    assert_eq!(installed(&mut state, 0, "w1"), ["0: supply w1", "answer 7: listening"]);
}

#[test]
fn of_a_new_workload_with_a_bad_identity_nothing_is_left() {
    let mut state = state(&[]);
    state.install(7, workload("w1", "k"), LISTENERS);
    assert!(bad(&mut state, 0, "w1").is_empty());
    assert_eq!(bad(&mut state, 1, "w1"), ["0: remove w1", "1: remove w1", "release w1", "answer 7: BadIdentity"]);
    assert_eq!(state.listeners("w1"), None);
}

#[test]
fn a_workload_that_is_there_keeps_its_former_identity_when_the_new_one_is_bad() {
    let mut state = state(&["w1"]);
    let actions = shown(&state.install(7, workload("w1", "new"), LISTENERS));
    assert_eq!(actions, ["0: workload w1 new", "1: workload w1 new"]);
    assert!(installed(&mut state, 0, "w1").is_empty());
    let actions = bad(&mut state, 1, "w1");
    assert_eq!(actions, ["0: workload w1 old", "1: workload w1 old", "answer 7: BadIdentity"]);
    // Answers to the former identity are not taken for answers to the next.
    state.install(8, workload("w1", "newer"), LISTENERS);
    assert!(installed(&mut state, 0, "w1").is_empty() && installed(&mut state, 1, "w1").is_empty());
    assert!(installed(&mut state, 0, "w1").is_empty());
    assert_eq!(installed(&mut state, 1, "w1"), ["answer 8: listening"]);
}

#[test]
fn a_later_addition_overtakes_one_that_is_not_in_place() {
    let mut state = state(&[]);
    state.install(7, workload("w1", "a"), LISTENERS);
    let actions = shown(&state.install(8, workload("w1", "b"), LISTENERS));
    assert_eq!(actions, ["answer 7: BadRequest", "0: workload w1 b with listeners", "1: workload w1 b with listeners"]);
    installed(&mut state, 0, "w1");
    installed(&mut state, 1, "w1");
    installed(&mut state, 0, "w1");
    assert_eq!(installed(&mut state, 1, "w1"), ["answer 8: listening"]);
}

#[test]
fn what_a_snapshot_does_not_name_is_removed() {
    let mut state = state(&["w1", "w2"]);
    state.request(2, Word::Add { object: directory(&["10.0.0.1/32", "10.0.0.2/32"]) });
    state.request(3, Word::SnapshotSent);
    state.agent_connected();
    assert_eq!(shown(&state.request(1, Word::Keep { workload: "w2".into() })), ["answer 1: listening"]);
    assert_eq!(shown(&state.request(2, Word::Keep { workload: "w3".into() })), ["answer 2: unknown"]);
    // What is the same already is not sent again.
    assert_eq!(shown(&state.request(3, Word::Add { object: directory(&["10.0.0.2/32"]) })), ["answer 3: done"]);
    let actions = shown(&state.request(4, Word::SnapshotSent));
    let removed = ["0: remove w1", "1: remove w1", "release w1", "0: remove directory 1", "1: remove directory 1"];
    assert_eq!(actions[..5], removed);
    assert_eq!(actions[5..], ["answer 4: done"]);
    assert_eq!(shown(&state.request(5, Word::SnapshotSent)), ["answer 5: done"]);
}

#[test]
fn an_agent_that_ends_takes_nothing_with_it_but_its_wish_for_events() {
    let mut state = state(&["w1"]);
    let add = Word::Add { object: Object::ConnectionEvents };
    assert_eq!(shown(&state.request(2, add)), ["0: events true", "1: events true", "answer 2: done"]);
    assert_eq!(shown(&state.agent_gone()), ["0: events false", "1: events false"]);
    assert!(shown(&state.agent_connected()).is_empty());
    assert_eq!(shown(&state.request(1, Word::Keep { workload: "w1".into() })), ["answer 1: listening"]);
}

#[test]
fn an_answer_for_an_agent_that_is_gone_is_not_given_to_the_next() {
    let mut state = state(&[]);
    state.install(7, workload("w1", "k"), LISTENERS);
    state.agent_gone();
    state.agent_connected();
    installed(&mut state, 0, "w1");
    assert_eq!(installed(&mut state, 1, "w1"), ["1: supply w1"]);
    assert_eq!(shown(&state.request(1, Word::Keep { workload: "w1".into() })), ["answer 1: listening"]);
}

#[test]
fn a_replaced_worker_is_told_everything() {
    let mut state = state(&["w1", "w2"]);
    state.request(2, Word::Add { object: directory(&["10.0.0.1/32"]) });
    state.request(3, Word::Add { object: Object::ConnectionEvents });
    assert!(state.worker_ended(1).is_empty());
    let expected =
        ["1: events true", "1: directory 1", "1: workload w1 old with listeners", "1: workload w2 old with listeners"];
    assert_eq!(shown(&state.worker_started(1)), expected);
    assert_eq!(installed(&mut state, 1, "w1"), ["1: supply w1"]);
}

#[test]
fn a_worker_that_is_replaced_during_an_addition_gets_both_forms_and_is_waited_for() {
    let mut state = state(&["w1"]);
    state.install(7, workload("w1", "new"), LISTENERS);
    state.worker_ended(1);
    assert!(installed(&mut state, 0, "w1").is_empty());
    let actions = shown(&state.worker_started(1));
    assert_eq!(actions[1..], ["1: workload w1 old with listeners", "1: workload w1 new with listeners"]);
    assert_eq!(installed(&mut state, 1, "w1"), ["1: supply w1"]);
    assert_eq!(installed(&mut state, 1, "w1"), ["answer 7: listening"]);
}

#[test]
fn a_workload_that_ends_its_workers_is_given_up() {
    let mut state = state(&[]);
    state.install(7, workload("w1", "k"), LISTENERS);
    for _ in 0..2 {
        assert!(state.worker_ended(1).is_empty());
        state.worker_started(1);
    }
    assert_eq!(shown(&state.worker_ended(1)), ["0: remove w1", "release w1", "answer 7: Kernel"]);
}

#[test]
fn a_removed_workload_can_come_again_with_listeners() {
    let mut state = state(&["w1"]);
    let removal = Word::Del { name: Name::Workload("w1".into()) };
    let actions = shown(&state.request(2, removal.clone()));
    assert_eq!(actions, ["0: remove w1", "1: remove w1", "release w1", "answer 2: done"]);
    assert_eq!(shown(&state.request(3, removal)), ["answer 3: done"]);
    let actions = shown(&state.install(4, workload("w1", "k"), LISTENERS));
    assert_eq!(actions, ["0: workload w1 k with listeners", "1: workload w1 k with listeners"]);
}

#[test]
fn unasked_answers_of_a_worker_change_nothing() {
    let mut state = state(&["w1"]);
    assert!(installed(&mut state, 0, "w1").is_empty());
    assert!(installed(&mut state, 0, "w9").is_empty());
    assert!(bad(&mut state, 0, "w1").is_empty());
    assert!(installed(&mut state, 9, "w1").is_empty());
}

#[test]
fn a_wrong_workload_is_refused_before_anything_is_opened() {
    let kind = |workload: &Workload| check(workload).map_err(|failure| failure.kind);
    assert_eq!(kind(&workload("w-1", "")), Ok(()));
    for id in ["", "W", "a/b", "..", &"x".repeat(65)] {
        assert_eq!(kind(&workload(id, "")), Err(FailureKind::BadRequest));
    }
    for mark in [0, 3] {
        assert_eq!(kind(&Workload { mark, ..workload("w1", "") }), Err(FailureKind::BadRequest));
    }
}
