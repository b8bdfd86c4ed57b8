//! The control protocol: messages, and their framing over Unix sockets.

pub mod frame;
pub mod message;
mod network;

pub use frame::{Frame, FrameError, Link};
pub use network::NetworkError;
