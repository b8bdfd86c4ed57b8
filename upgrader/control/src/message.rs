//! What agent, broker and workers say to one another: four words, their answers, and the events that come back.
//!
//! The agent speaks [`Request`]s to the broker and gets one [`Answer`] for each, with [`Event`]s between them.
//! The broker speaks [`ToWorker`] to each worker, which says [`FromWorker`]. Every message is one JSON object in a
//! frame (see [`crate::frame`]); file descriptors travel with the frame's first byte.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A request of the agent: `seq` comes back in its [`Answer`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    pub seq: u64,
    #[serde(flatten)]
    pub word: Word,
}

/// The four words. After a (re)connect the agent says `Add` or `Keep` for all that should exist, then `SnapshotSent`:
/// what it did not name is removed. Afterwards `Add` and `Del` say what changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Word {
    /// A workload comes with its network namespace as the frame's only descriptor. Adding one that is there already
    /// replaces its settings and identity, and keeps its listeners and connections.
    Add {
        object: Object,
    },
    /// The workload goes on as the upgrader has it; the answer gives its listeners, or says `unknown`.
    Keep {
        workload: String,
    },
    SnapshotSent,
    Del {
        name: Name,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    Workload(Box<Workload>),
    /// Entries are replaced where (network, port) is the same.
    Directory(Vec<DirectoryEntry>),
    /// From now on a `connection` event for each connection that opens, is decided or ends; first those now open.
    ConnectionEvents,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    Workload(String),
    Directory(Vec<DirectoryKey>),
    ConnectionEvents,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// The workload has a network namespace of its own: the original destination is the accepted socket's own address.
    Namespace,
    /// A set of cgroups in the host's namespace: outbound connections come by NAT, and `SO_ORIGINAL_DST` tells.
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Permissive,
    Strict,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// `[a-z0-9-]`, at most 64 characters.
    pub id: String,
    pub shape: Shape,
    pub mode: Mode,
    pub identity: Identity,
    /// The one bit that marks what must come back to the upgrader.
    pub mark: u32,
    pub settings: Settings,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `spiffe://DOMAIN/PATH`
    pub id: String,
    /// PEM, leaf first.
    pub certificates: String,
    /// PEM, PKCS#8. Never logged.
    pub key: String,
    /// PEM, one or more roots.
    pub trust_bundle: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
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

/// A network in CIDR notation: `10.2.0.0/16`, `fd00::/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DirectoryKey {
    pub network: Network,
    /// Absent: all ports.
    #[serde(default)]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    #[serde(flatten)]
    pub key: DirectoryKey,
    /// The identity to expect; absent: any of the trust domain whose certificate names the address dialled.
    #[serde(default)]
    pub identity: Option<String>,
    pub cover: Cover,
    /// Ports on which this peer is not covered.
    #[serde(default)]
    pub excluded_ports: Vec<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cover {
    /// Its node has said that it is covered.
    Covered,
    /// It should be covered, and is not yet.
    Wished,
}

/// The answer to the request with the same `seq`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    pub seq: u64,
    #[serde(flatten)]
    pub result: AnswerResult,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum AnswerResult {
    Done,
    Listening(Listeners),
    /// `keep` of a workload that the upgrader does not have.
    Unknown,
    Failed(Failure),
}

/// Ports on 127.0.0.1 and, where the namespace has IPv6, the same ports on `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    pub outbound: u16,
    pub inbound: u16,
    pub ipv6: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// What is wrong and what to do.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request itself is wrong; the same again fails again.
    BadRequest,
    /// Certificate or key can't be used.
    BadIdentity,
    /// The namespace is gone.
    NamespaceGone,
    /// Descriptors, ports or memory ran out; later may succeed.
    Exhausted,
    /// The kernel refused something that it should offer.
    Kernel,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Connection(Box<Connection>),
    /// Increments since the last such event.
    Counters {
        counters: Vec<Counter>,
    },
    /// A worker ended and was replaced; its connections were reset.
    WorkerReplaced {
        worker: u32,
    },
    /// So many `connection` events were not kept because nobody read them in time.
    ConnectionEventsLost {
        count: u64,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connection {
    /// Unique for the life of the upgrader: worker number in the upper 16 bits.
    pub number: u64,
    pub phase: Phase,
    pub workload: String,
    pub direction: Direction,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// `upgrade`, `pass_through` or `refuse`; absent while undecided.
    pub decision: Option<String>,
    pub reason: Option<String>,
    /// The peer's SPIFFE id.
    pub peer: Option<String>,
    pub tls: Option<Tls>,
    /// Plaintext bytes from the workload to its peer, and back.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub handshake_microseconds: Option<u64>,
    /// Where the upgrader's own socket comes from: to the peer, or to the application. Absent before it is connected.
    #[serde(default)]
    pub dialled_from: Option<SocketAddr>,
    /// What the peer's side has carried; absent before it is connected.
    #[serde(default)]
    pub carried: Option<Carried>,
}

/// Packets and octets (from the IP header on) between the workload's node and its peer, as the kernel counts segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    pub packets_sent: u64,
    pub packets_received: u64,
    pub octets_sent: u64,
    pub octets_received: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Open,
    Decided,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Inbound,
    Outbound,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tls {
    pub version: String,
    pub cipher: String,
    pub key_exchange: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Counter {
    pub workload: String,
    pub direction: Direction,
    pub decision: String,
    pub reason: String,
    pub connections: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub handshakes: u64,
    pub handshake_microseconds: u64,
}

/// Broker to worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "to_worker", rename_all = "snake_case")]
pub enum ToWorker {
    /// Descriptors, unless this worker has said that it has the workload: outbound IPv4, inbound IPv4, then the same for
    /// IPv6 if `listeners.ipv6`. Without descriptors, or where it has them: new settings and identity only.
    Workload {
        workload: Box<Workload>,
        listeners: Listeners,
    },
    RemoveWorkload {
        id: String,
    },
    Directory {
        entries: Vec<DirectoryEntry>,
    },
    RemoveDirectory {
        keys: Vec<DirectoryKey>,
    },
    /// The frame's descriptors are fresh sockets of this kind, made in the workload's namespace.
    Sockets {
        id: String,
        kind: SocketKind,
    },
    /// None could be made: those who wait for one are refused.
    NoSockets {
        id: String,
        kind: SocketKind,
    },
    ConnectionEvents {
        wanted: bool,
    },
}

/// What a fresh socket is for. All are non-blocking, with `TCP_NODELAY` and `IP_BIND_ADDRESS_NO_PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketKind {
    /// To a peer on the wire (keepalive 60 s), or to the application for a probe.
    Wire4,
    Wire6,
    /// To the application, from the client's own address: `IP_TRANSPARENT`, and `SO_MARK` set.
    Application4,
    Application6,
}

/// Worker to broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "from_worker", rename_all = "snake_case")]
pub enum FromWorker {
    /// The sandbox is closed; the worker takes connections.
    Ready,
    WantSockets {
        id: String,
        kind: SocketKind,
        count: u16,
    },
    /// The identity of this workload can't be used; it keeps its former one.
    BadIdentity {
        id: String,
        message: String,
    },
    /// The workload is in place (or its new settings are).
    Installed {
        id: String,
    },
    Event(Event),
}
