//! Connections as dialogues: what each side says, and what the other then hears.

#![allow(clippy::unwrap_used)]

mod decisions;
mod endings;
mod world;
