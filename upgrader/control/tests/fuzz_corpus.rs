//! The fuzzer's corpus, replayed, and a bounded run of random changes to it.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use jfe_control::Frame;
use jfe_control::frame::{Decoder, encode};
use jfe_control::message::{Answer, Event, FromWorker, Request, ToWorker};
use proptest::prelude::*;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/control_frame");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn frames(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::default();
    let mut bodies = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while !piece.is_empty() {
            let Ok((taken, body)) = decoder.take(piece) else { return bodies };
            piece = &piece[taken..];
            bodies.extend(body);
        }
    }
    bodies
}

/// As the target in `fuzz/fuzz_targets/control_frame.rs`: the number of bodies that some message's form fits.
fn understood(bytes: &[u8]) -> usize {
    let Some((&piece, bytes)) = bytes.split_first() else { return 0 };
    let bodies = frames(bytes, usize::from(piece) + 1);
    assert_eq!(bodies, frames(bytes, bytes.len().max(1)));
    let fits = |body| {
        let frame = Frame { body, descriptors: Vec::new(), descriptors_lost: false };
        let request = frame.parse::<Request>().map(|request| encode(&request).unwrap()).is_ok();
        let others = [
            frame.parse::<Answer>().is_ok(),
            frame.parse::<Event>().is_ok(),
            frame.parse::<ToWorker>().is_ok(),
            frame.parse::<FromWorker>().is_ok(),
        ];
        request || others.contains(&true)
    };
    bodies.into_iter().map(fits).filter(|&fits| fits).count()
}

#[test]
fn every_input_of_the_corpus_is_taken_or_refused_and_some_are_messages() {
    let messages: usize = corpus().iter().map(|bytes| understood(bytes)).sum();
    assert!(messages >= 9, "{messages}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn inputs_of_the_corpus_with_bytes_changed_and_spliced_are_taken_or_refused(
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
        understood(&bytes);
    }
}
