//! The fuzzer's corpus, replayed, and a bounded run of random changes to it.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use jfe_decide::Hello;
use jfe_decide::hello::{HELLO_MAX, classify};
use proptest::prelude::*;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/hello");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// As the target in `fuzz/fuzz_targets/hello.rs`.
fn verdict_stays(bytes: &[u8]) {
    let whole = classify(bytes);
    let mut seen = bytes.len().min(1);
    while let Hello::Partial { need } = classify(&bytes[..seen]) {
        assert!(need > seen && need <= HELLO_MAX);
        if need > bytes.len() {
            return;
        }
        seen = need;
    }
    assert_eq!(classify(&bytes[..seen]), whole);
}

#[test]
fn every_input_of_the_corpus_keeps_its_verdict() {
    let corpus = corpus();
    assert!(!corpus.is_empty());
    for bytes in corpus {
        verdict_stays(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inputs_of_the_corpus_with_bytes_changed_cut_and_spliced_keep_their_verdict(
        bytes in prop::sample::select(corpus()),
        other in prop::sample::select(corpus()),
        splice in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = bytes;
        bytes.truncate(splice.index(bytes.len() + 1));
        bytes.extend_from_slice(&other[splice.index(other.len() + 1)..]);
        for (at, value) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        verdict_stays(&bytes);
    }
}
