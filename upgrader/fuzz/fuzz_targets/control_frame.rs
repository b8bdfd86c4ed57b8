//! The control protocol on bytes of whoever reached its socket: no panic, and frames that do not depend on how the
//! stream is cut. The first byte says into pieces of which size.

#![no_main]

use jfe_control::Frame;
use jfe_control::frame::{Decoder, encode};
use jfe_control::message::{Answer, Event, FromWorker, Request, ToWorker};
use libfuzzer_sys::fuzz_target;

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

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let bodies = frames(bytes, usize::from(piece) + 1);
    assert_eq!(bodies, frames(bytes, bytes.len().max(1)));
    for body in bodies {
        let frame = Frame { body, descriptors: Vec::new(), descriptors_lost: false };
        if let Ok(request) = frame.parse::<Request>() {
            encode(&request).expect("what was read can be written");
        }
        let _ = frame.parse::<Answer>();
        let _ = frame.parse::<Event>();
        let _ = frame.parse::<ToWorker>();
        let _ = frame.parse::<FromWorker>();
    }
});
