//! One message a frame: its length (u32, big-endian, at most [`MAX_LENGTH`]), then that many bytes of JSON.
//! Descriptors (`SCM_RIGHTS`, unix(7)) travel with the frame's first byte.

mod decoder;
mod link;

use std::io;
use std::os::fd::OwnedFd;

use serde::{Serialize, de::DeserializeOwned};

pub use decoder::Decoder;
pub use link::Link;

/// Bytes of JSON in a frame: a directory of 100,000 entries fits.
pub const MAX_LENGTH: usize = 16 << 20;

/// Descriptors with one frame; the kernel allows 253 (`SCM_MAX_FD`, include/net/scm.h).
pub const MAX_DESCRIPTORS: usize = 64;

/// A frame as it arrived. Descriptors that are not taken out are closed with it.
#[derive(Debug)]
pub struct Frame {
    /// JSON, unless the sender is at fault.
    pub body: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
    /// Some descriptors did not arrive, since this process has no number left for them (`RLIMIT_NOFILE`).
    pub descriptors_lost: bool,
}

impl Frame {
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.body).map_err(|error| FrameError::Malformed(without_values(&error)))
    }
}

/// After each of these but `Malformed` the link can't go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    // The other end is gone: connect again.
    #[error("the other end closed the link")]
    Closed,
    #[error("the other end closed the link in the middle of a frame")]
    ClosedWithinFrame,
    // The kernel refused.
    #[error("the link failed: {0}; open it anew")]
    System(#[from] io::Error),
    // The sender is at fault; the same again fails again.
    #[error("a frame of {0} bytes; at most {MAX_LENGTH} are allowed, send less at once")]
    TooLong(usize),
    #[error("{0} descriptors with one frame; at most {MAX_DESCRIPTORS} are allowed, send fewer at once")]
    TooManyDescriptors(usize),
    #[error("descriptors came after a frame's first byte; send them with it")]
    MisplacedDescriptors,
    #[error("not a message of the control protocol: {0}; send what message.rs describes")]
    Malformed(String),
}

/// The bytes of the frame that carries `message`.
pub fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; Decoder::HEADER];
    serde_json::to_writer(&mut bytes, message).map_err(|error| FrameError::Malformed(without_values(&error)))?;
    let length = bytes.len() - Decoder::HEADER;
    let header = u32::try_from(length).ok().filter(|_| length <= MAX_LENGTH).ok_or(FrameError::TooLong(length))?;
    bytes[..Decoder::HEADER].copy_from_slice(&header.to_be_bytes());
    Ok(bytes)
}

/// serde's text for a value of the wrong type quotes the value, which may be a key that stands in the wrong place.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match (text.split_once(':'), text.rfind(", expected")) {
        (Some((kind, _)), Some(expected)) if kind.starts_with("invalid ") => format!("{kind}{}", &text[expected..]),
        _ => text,
    }
}
