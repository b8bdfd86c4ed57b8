//! The upgrader's parent: opens sockets in workloads' namespaces and hands them to its workers, which it feeds,
//! watches and replaces. It parses what the agent and its workers say, and no byte of a network.

pub mod arguments;
pub mod broker;
pub mod control_socket;
pub mod error;
pub mod listener;
pub mod log;
pub mod namespace;
mod option;
pub mod outbox;
pub mod output;
mod reserve;
pub mod socket;
pub mod state;
pub mod worker;
