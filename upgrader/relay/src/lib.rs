//! A connection as a state machine without I/O: what happened to its two sockets goes in, what to do next comes out.
//!
//! The owner of the sockets tells a [`Connection`] what epoll said ([`Connection::ready`]), asks it what to do
//! ([`Connection::next`]), does that one [`Action`] and reports the result ([`Connection::received`],
//! [`Connection::sent`], …), until the action is to wait. Nothing here makes a system call or reads a clock.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`connection`] | the phases from accept to end, and which follows which |
//! | `outbound`, `inbound` | what is decided before the first byte is moved |
//! | `handshaking` | driving a TLS handshake |
//! | `relay`, `outward`, `inward` | moving bytes, half-closes and resets, both ways |
//! | [`buffer`] | the worker's buffers, lent to connections only while there are bytes |

pub mod action;
pub mod buffer;
pub mod connection;
mod handshaking;
mod inbound;
mod intake;
mod inward;
mod outbound;
mod outward;
mod relay;

pub use action::{Action, End, Parts, Received, Sent, Side, Space};
pub use buffer::Pool;
pub use connection::{Connection, Environment, Established};
