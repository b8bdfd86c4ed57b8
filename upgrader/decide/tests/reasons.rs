//! The list of reasons is closed, and the same for whoever reads it.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use jfe_decide::Decision;

#[test]
fn every_decision_and_reason_is_in_the_golden_file_and_none_else() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/reasons.txt");
    let golden = std::fs::read_to_string(path).unwrap();
    let ours: Vec<String> = Decision::all().map(|it| format!("{} {}", it.decision_str(), it.reason_str())).collect();
    assert_eq!(ours, golden.lines().collect::<Vec<_>>());
}

#[test]
fn reasons_are_kebab_case() {
    for decision in Decision::all() {
        let reason = decision.reason_str();
        assert!(
            reason.split('-').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())),
            "{reason}"
        );
    }
}
