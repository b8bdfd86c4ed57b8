//! What a workload allows.

use std::net::SocketAddr;

use crate::network::Network;

/// `off` has no upgrader, and so no mode here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Permissive,
    Strict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub mode: Mode,
    pub excluded_inbound_ports: Vec<u16>,
    pub excluded_outbound_ports: Vec<u16>,
    pub excluded_outbound_networks: Vec<Network>,
    /// Ports whose application is known to speak TLS itself, set by hand.
    pub application_tls_ports: Vec<u16>,
    /// Ports whose application is known not to speak TLS, set by hand.
    pub application_plaintext_ports: Vec<u16>,
    /// Ports on which nothing is sent to a stranger before its hello.
    pub await_hello_ports: Vec<u16>,
    /// Strict only: terminate a stranger's TLS where the application has none.
    pub strangers_tls: bool,
    /// Whether a peer's certificate must name the address it comes from (no NAT lies between).
    pub verify_source: bool,
}

impl Policy {
    /// A policy of this mode with no exception.
    pub const fn new(mode: Mode) -> Self {
        Self {
            mode,
            excluded_inbound_ports: Vec::new(),
            excluded_outbound_ports: Vec::new(),
            excluded_outbound_networks: Vec::new(),
            application_tls_ports: Vec::new(),
            application_plaintext_ports: Vec::new(),
            await_hello_ports: Vec::new(),
            strangers_tls: false,
            verify_source: false,
        }
    }

    /// What was set by hand: whether the application on this port speaks TLS itself.
    pub fn application_by_hand(&self, port: u16) -> Option<bool> {
        if self.application_tls_ports.contains(&port) {
            Some(true)
        } else if self.application_plaintext_ports.contains(&port) {
            Some(false)
        } else {
            None
        }
    }

    pub fn excludes_outbound(&self, destination: SocketAddr) -> bool {
        self.excluded_outbound_ports.contains(&destination.port())
            || self.excluded_outbound_networks.iter().any(|network| network.contains(destination.ip()))
    }
}
