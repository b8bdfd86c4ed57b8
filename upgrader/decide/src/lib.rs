//! What happens to a connection: upgrade, pass through (reason) or refuse (reason).
//!
//! Pure: no I/O and no clock. The caller brings bytes, addresses and the time, and does what the answer says.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod directory;
pub mod hello;
mod hello_body;
pub mod inbound;
pub mod learn;
pub mod limits;
pub mod network;
pub mod outbound;
pub mod policy;
pub mod reason;

pub use directory::{Cover, Directory, Entry};
pub use hello::{Hello, classify};
pub use inbound::{Application, Inbound, InboundNext, inbound, unfinished};
pub use learn::{Answer, Knowledge, Taught, judge_answer};
pub use limits::Admission;
pub use network::{BadNetwork, Network};
pub use outbound::{Expect, FirstBytes, Outbound, Side, outbound, outbound_first_bytes};
pub use policy::{Mode, Policy};
pub use reason::{Decision, PassThrough, Refuse, Upgrade};
