//! What a worker knows of a workload.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use jfe_control::message::{self, Direction, Listeners, Shape, SocketKind};
use jfe_decide::{Knowledge, Mode, Network, Policy};
use jfe_tls::{Endpoint, IdentityError, RememberedCertificates};

/// Fresh sockets wished for where there has been no load; doubled each time they run out, up to [`MOST_FRESH`].
const FEWEST_FRESH: u16 = 2;
/// One frame carries at most so many descriptors.
const MOST_FRESH: u16 = 64;

#[derive(Debug)]
pub struct Listener {
    pub socket: OwnedFd,
    pub direction: Direction,
    pub port: u16,
    /// More may wait in its queue.
    pub pending: bool,
}

/// Fresh sockets of one kind, and the connections (index, number) that wait for one.
#[derive(Debug, Default)]
pub struct Fresh {
    sockets: Vec<OwnedFd>,
    pub waiting: VecDeque<(usize, u64)>,
    wished: u16,
    under_way: u16,
}

impl Fresh {
    /// A socket, if there is one.
    pub fn take(&mut self) -> Option<OwnedFd> {
        let socket = self.sockets.pop();
        if socket.is_none() {
            self.wished = (self.wished.max(FEWEST_FRESH) * 2).min(MOST_FRESH);
        }
        socket
    }

    /// How many to ask the broker for, now that some are taken.
    pub fn want(&mut self) -> Option<u16> {
        let wished = self.wished.max(FEWEST_FRESH);
        let have = u16::try_from(self.sockets.len()).unwrap_or(u16::MAX);
        // Half of what is wished is a good time to ask: the other half covers the wait.
        if have > wished / 2 || self.under_way > 0 {
            return None;
        }
        let waiting = u16::try_from(self.waiting.len()).unwrap_or(u16::MAX);
        self.under_way = (wished - have).saturating_add(waiting).min(MOST_FRESH);
        Some(self.under_way)
    }

    pub fn arrived(&mut self, sockets: Vec<OwnedFd>) {
        self.sockets.extend(sockets);
        self.under_way = 0;
    }

    pub fn none_came(&mut self) {
        self.under_way = 0;
    }
}

#[derive(Debug)]
pub struct Workload {
    pub id: String,
    pub shape: Shape,
    pub policy: Policy,
    pub endpoint: Endpoint,
    pub knowledge: Knowledge,
    pub listeners: Vec<Listener>,
    fresh: [Fresh; 4],
}

impl Workload {
    pub fn new(
        settings: &message::Workload,
        listeners: Vec<Listener>,
        remembered: &Arc<RememberedCertificates>,
    ) -> Result<Self, IdentityError> {
        Ok(Self {
            id: settings.id.clone(),
            shape: settings.shape,
            policy: policy(settings),
            endpoint: endpoint(&settings.identity, remembered)?,
            knowledge: Knowledge::new(),
            listeners,
            fresh: Default::default(),
        })
    }

    /// New settings and identity; all else goes on.
    pub fn replace(
        &mut self,
        settings: &message::Workload,
        remembered: &Arc<RememberedCertificates>,
    ) -> Result<(), IdentityError> {
        self.endpoint = endpoint(&settings.identity, remembered)?;
        self.policy = policy(settings);
        Ok(())
    }

    pub fn fresh(&mut self, kind: SocketKind) -> &mut Fresh {
        &mut self.fresh[match kind {
            SocketKind::Wire4 => 0,
            SocketKind::Wire6 => 1,
            SocketKind::Application4 => 2,
            SocketKind::Application6 => 3,
        }]
    }
}

/// The frame's descriptors in the order that [`message::ToWorker::Workload`] gives; `None` where they are too few.
pub fn listeners(ports: Listeners, descriptors: Vec<OwnedFd>) -> Option<Vec<Listener>> {
    let directions = [Direction::Outbound, Direction::Inbound];
    let expected = if ports.ipv6 { 4 } else { 2 };
    (descriptors.len() == expected).then(|| {
        let listener = |(socket, direction)| {
            let port = if direction == Direction::Outbound { ports.outbound } else { ports.inbound };
            Listener { socket, direction, port, pending: true }
        };
        descriptors.into_iter().zip(directions.into_iter().cycle()).map(listener).collect()
    })
}

fn endpoint(identity: &message::Identity, remembered: &Arc<RememberedCertificates>) -> Result<Endpoint, IdentityError> {
    let message::Identity { id, certificates, key, trust_bundle } = identity;
    Endpoint::remembering(id, certificates, key, trust_bundle, remembered)
}

fn policy(workload: &message::Workload) -> Policy {
    let settings = &workload.settings;
    Policy {
        mode: match workload.mode {
            message::Mode::Permissive => Mode::Permissive,
            message::Mode::Strict => Mode::Strict,
        },
        excluded_inbound_ports: settings.excluded_inbound_ports.clone(),
        excluded_outbound_ports: settings.excluded_outbound_ports.clone(),
        excluded_outbound_networks: settings.excluded_outbound_networks.iter().filter_map(|&n| network(n)).collect(),
        application_tls_ports: settings.application_tls_ports.clone(),
        application_plaintext_ports: settings.application_plaintext_ports.clone(),
        await_hello_ports: settings.await_hello_ports.clone(),
        strangers_tls: settings.strangers_tls,
        verify_source: settings.verify_source,
    }
}

/// The broker has checked networks when it read them.
pub fn network(network: message::Network) -> Option<Network> {
    Network::new(network.address, network.prefix).ok()
}
