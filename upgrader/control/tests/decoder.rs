//! The decoder under any cutting of its input.
#![allow(clippy::unwrap_used)]

use jfe_control::FrameError;
use jfe_control::frame::{Decoder, MAX_LENGTH, encode};
use proptest::prelude::*;

/// All frames in `bytes`, given in pieces of the sizes `cuts` says, over and over.
fn decoded(mut bytes: &[u8], cuts: &[usize]) -> Result<Vec<Vec<u8>>, FrameError> {
    let mut decoder = Decoder::default();
    let mut bodies = Vec::new();
    let mut cuts = cuts.iter().cycle();
    while !bytes.is_empty() {
        let mut piece = &bytes[..bytes.len().min(*cuts.next().unwrap())];
        bytes = &bytes[piece.len()..];
        while !piece.is_empty() {
            let wanted = decoder.wanted();
            let (taken, body) = decoder.take(piece)?;
            assert!(taken >= 1 && taken <= wanted);
            piece = &piece[taken..];
            bodies.extend(body);
        }
    }
    Ok(bodies)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_come_out_as_they_went_in(
        texts in prop::collection::vec(".{0,300}", 0..20),
        cuts in prop::collection::vec(1_usize..100, 1..10),
    ) {
        let bytes: Vec<u8> = texts.iter().flat_map(|text| encode(text).unwrap()).collect();
        let bodies = decoded(&bytes, &cuts).unwrap();
        let again: Vec<String> = bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect();
        prop_assert_eq!(again, texts);
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        bytes in prop::collection::vec(prop_oneof![4 => 0_u8..3, 1 => any::<u8>()], 0..500),
        cuts in prop::collection::vec(1_usize..50, 1..10),
    ) {
        match (decoded(&bytes, &cuts), decoded(&bytes, &[usize::MAX])) {
            (Ok(one), Ok(other)) => prop_assert_eq!(one, other),
            (Err(FrameError::TooLong(one)), Err(FrameError::TooLong(other))) => {
                prop_assert_eq!(one, other);
                prop_assert!(one > MAX_LENGTH);
            }
            (one, other) => prop_assert!(false, "{:?} and {:?}", one, other),
        }
    }
}
