//! The control protocol: messages, and their framing over Unix sockets.

pub mod message;
