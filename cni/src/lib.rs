//! The CNI plugin `jfe`, and `jfe-retired`, which an uninstall leaves in its place.
//!
//! `jfe` decides nothing that concerns a container. It takes a call of the container runtime (CNI SPEC 1.1.0, section 2)
//! as it is to the node's agent and prints what the agent answers; while there is no agent, it says so in the way that
//! each command asks for. All of it ends within one deadline.

pub mod agent;
pub mod answer;
pub mod call;
pub mod command;
pub mod config;
pub mod deadline;
pub mod environment;
pub mod error;
pub mod input;
pub mod json;
pub mod outcome;
pub mod request;
pub mod retired;
pub mod version;
