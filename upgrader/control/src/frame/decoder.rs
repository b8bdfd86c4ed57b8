//! Bytes in, frames out, without I/O.

use super::{FrameError, MAX_LENGTH};

/// Asks for exactly the bytes that it lacks, so that nobody reads into the next frame: what a read of a Unix socket
/// brings along in descriptors then belongs to the frame being read.
#[derive(Debug, Default)]
pub struct Decoder {
    header: Vec<u8>,
    length: usize,
    body: Vec<u8>,
}

impl Decoder {
    /// Bytes of a frame's length.
    pub const HEADER: usize = 4;

    /// How many bytes are lacking, at least 1: first to the end of the length, then to the end of the frame.
    pub fn wanted(&self) -> usize {
        if self.header.len() < Self::HEADER { Self::HEADER - self.header.len() } else { self.length - self.body.len() }
    }

    /// Whether the next byte is a frame's first.
    pub fn between_frames(&self) -> bool {
        self.header.is_empty()
    }

    /// Takes up to [`wanted`](Self::wanted) bytes from the front of `bytes`: how many, and the frame's body if it is
    /// whole now.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Vec<u8>>), FrameError> {
        let taken = self.wanted().min(bytes.len());
        let bytes = &bytes[..taken];
        if self.header.len() == Self::HEADER {
            // Grows with what arrives, not with what is announced: 4 bytes must not cost 16 MiB.
            self.body.extend_from_slice(bytes);
        } else {
            self.header.extend_from_slice(bytes);
            if let Ok(header) = <[u8; Self::HEADER]>::try_from(self.header.as_slice()) {
                self.length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
                if self.length > MAX_LENGTH {
                    return Err(FrameError::TooLong(self.length));
                }
            }
        }
        let whole = self.header.len() == Self::HEADER && self.body.len() == self.length;
        Ok((taken, whole.then(|| self.start_anew())))
    }

    fn start_anew(&mut self) -> Vec<u8> {
        self.header.clear();
        self.length = 0;
        std::mem::take(&mut self.body)
    }
}
