//! `classify` on bytes of a peer: no panic, and a verdict that stays whatever follows.

#![no_main]

use jfe_decide::Hello;
use jfe_decide::hello::{HELLO_MAX, classify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = classify(bytes);
    let mut seen = bytes.len().min(1);
    let last = loop {
        match classify(&bytes[..seen]) {
            Hello::Partial { need } => {
                assert!(need > seen && need <= HELLO_MAX);
                if need > bytes.len() {
                    break Hello::Nothing;
                }
                seen = need;
            }
            verdict => break verdict,
        }
    };
    if last != Hello::Nothing {
        assert_eq!(last, whole);
    }
});
