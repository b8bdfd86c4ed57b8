//! Two connections that face each other, as two upgraders' do, with sockets made of queues. What happens is written
//! down; a test is what it did and what it then reads in that transcript.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use jfe_decide::{Application, Cover, Directory, Entry, Knowledge, Mode, Network, Policy, Refuse};
use jfe_relay::{Action, Connection, End, Environment, Pool, Received, Sent, Side};
use jfe_tls::Endpoint;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};

pub const CLIENT: &str = "10.1.0.5:40000";
pub const SERVER: &str = "10.2.0.9:5432";

/// One direction of a socket: bytes, then perhaps FIN or RST.
#[derive(Debug, Default)]
pub struct Stream {
    pub bytes: VecDeque<u8>,
    pub fin: bool,
    pub reset: bool,
    /// How many more bytes the reader's kernel takes; none: any number.
    pub room: Option<usize>,
}

impl Stream {
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.bytes.drain(..).collect::<Vec<_>>()).into_owned()
    }
}

/// A workload's settings and what it knows.
pub struct Node {
    pub policy: Policy,
    pub directory: Directory,
    pub knowledge: Knowledge,
    pub endpoint: Endpoint,
    pool: Pool,
}

impl Node {
    pub fn new(mode: Mode, endpoint: Endpoint) -> Self {
        let (directory, knowledge) = (Directory::new(), Knowledge::new());
        Self { policy: Policy::new(mode), directory, knowledge, endpoint, pool: Pool::default() }
    }

    /// The directory calls this address covered, under this identity.
    pub fn knows(&mut self, address: &str, identity: Option<&str>, cover: Cover) {
        let address: SocketAddr = address.parse().unwrap();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let identity = identity.map(str::to_owned);
        let entry = Entry { identity, cover, excluded_ports: Vec::new() };
        self.directory.insert(Network::new(address.ip(), bits).unwrap(), None, entry);
    }
}

/// One upgrader's connection and the streams at both its sides.
pub struct Half {
    pub node: Node,
    pub connection: Connection,
    pub from_application: Stream,
    pub to_application: Stream,
    pub asked: Vec<&'static str>,
    pub end: Option<End>,
    /// How many turns were spent without finishing.
    pub yields: usize,
    own_listener: bool,
}

impl Half {
    pub fn outbound(node: Node) -> Self {
        Self::new(node, Connection::outbound())
    }

    pub fn inbound(node: Node) -> Self {
        Self::new(node, Connection::inbound())
    }

    fn new(node: Node, connection: Connection) -> Self {
        let (from_application, to_application) = (Stream::default(), Stream::default());
        let (asked, end) = (Vec::new(), None);
        Self { node, connection, from_application, to_application, asked, end, yields: 0, own_listener: false }
    }

    pub fn dialled_ourselves(mut self) -> Self {
        self.own_listener = true;
        self
    }

    pub fn reason(&self) -> &'static str {
        self.connection.decision().map_or("undecided", |decision| decision.reason_str())
    }

    pub fn answer_learning(&mut self, application: Application) {
        self.connection.learnt(application);
    }

    pub fn fail_to_connect(&mut self, reason: Refuse) {
        self.connection.connect_failed(reason);
    }

    /// Does what the connection asks for until it waits. `wire_in`, `wire_out`: the streams of its wire side.
    pub fn run(&mut self, wire_in: &mut Stream, wire_out: &mut Stream) {
        let (source, destination) = (CLIENT.parse().unwrap(), SERVER.parse().unwrap());
        self.connection.begin_turn(false);
        let application_acts = !self.from_application.bytes.is_empty() || self.from_application.fin;
        let wire_acts = !wire_in.bytes.is_empty() || wire_in.fin;
        let (application_reset, wire_reset) = (self.from_application.reset, wire_in.reset);
        self.connection.ready(Side::Application, application_acts, true, application_reset);
        self.connection.ready(Side::Wire, wire_acts, true, wire_reset);
        while self.end.is_none() {
            let Node { policy, directory, knowledge, endpoint, pool } = &mut self.node;
            let environment = Environment {
                policy,
                directory,
                endpoint,
                knowledge,
                now: Instant::now(),
                source,
                destination,
                own_listener: self.own_listener,
            };
            match self.connection.next(&environment, pool) {
                Action::Wait => return,
                Action::Yield => {
                    self.yields += 1;
                    self.connection.begin_turn(false);
                }
                Action::Dial(_) => self.asked.push("dial"),
                Action::Learn => self.asked.push("learn"),
                Action::Receive { side, mut space } => {
                    let stream = if side == Side::Wire { &mut *wire_in } else { &mut self.from_application };
                    let (mut slices, count) = space.slices();
                    let received = read(stream, &mut slices[..count]);
                    self.connection.received(side, received, pool);
                }
                Action::Send { side, parts, .. } => {
                    let stream = if side == Side::Wire { &mut *wire_out } else { &mut self.to_application };
                    let wanted = parts.len();
                    let (slices, count) = parts.slices();
                    let sent = write(stream, &slices[..count]);
                    let whole = sent == Sent::Bytes(wanted);
                    self.connection.sent(side, sent, whole, pool);
                }
                Action::Shutdown(side) => {
                    let stream = if side == Side::Wire { &mut *wire_out } else { &mut self.to_application };
                    stream.fin = true;
                }
                Action::End(end) => {
                    self.end = Some(end);
                    self.to_application.reset = end != End::Closed;
                    wire_out.reset = end == End::Reset;
                    self.to_application.fin |= end == End::Closed;
                    wire_out.fin |= end == End::Closed;
                }
            }
        }
    }
}

fn read(stream: &mut Stream, into: &mut [std::io::IoSliceMut<'_>]) -> Received {
    if stream.reset {
        return Received::Reset;
    }
    let mut count = 0;
    for slot in into {
        let n = slot.len().min(stream.bytes.len());
        for (to, from) in slot.iter_mut().zip(stream.bytes.drain(..n)) {
            *to = from;
        }
        count += n;
    }
    match count {
        0 if stream.fin => Received::End,
        0 => Received::WouldBlock,
        _ => Received::Bytes(count),
    }
}

fn write(stream: &mut Stream, parts: &[std::io::IoSlice<'_>]) -> Sent {
    if stream.reset {
        return Sent::Reset;
    }
    let mut room = stream.room.unwrap_or(usize::MAX);
    let mut count = 0;
    for part in parts {
        let n = part.len().min(room);
        stream.bytes.extend(&part[..n]);
        (room, count) = (room - n, count + n);
    }
    stream.room = stream.room.map(|_| room);
    if count == 0 { Sent::WouldBlock } else { Sent::Bytes(count) }
}

/// Both ends of one connection over the wire.
pub struct Pair {
    pub client: Half,
    pub server: Half,
    pub to_server: Stream,
    pub to_client: Stream,
}

impl Pair {
    pub fn new(client: Node, server: Node) -> Self {
        let (client, server) = (Half::outbound(client), Half::inbound(server));
        Self { client, server, to_server: Stream::default(), to_client: Stream::default() }
    }

    /// Lets both run, and connects what they dial, until nothing moves any more.
    pub fn settle(&mut self) {
        for _ in 0..50 {
            self.client.run(&mut self.to_client, &mut self.to_server);
            if self.client.asked.pop_if(|asked| *asked == "dial").is_some() {
                self.client.connection.connected();
                continue;
            }
            self.server.run(&mut self.to_server, &mut self.to_client);
            if self.server.asked.pop_if(|asked| *asked == "dial").is_some() {
                self.server.connection.connected();
            }
        }
    }
}

pub const CLIENT_ID: &str = "spiffe://test/client";
pub const SERVER_ID: &str = "spiffe://test/server";

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn endpoint(&self, id: &str, address: &str) -> Endpoint {
        let address: SocketAddr = address.parse().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = vec![SanType::URI(id.try_into().unwrap()), SanType::IpAddress(address.ip())];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = parameters.signed_by(&key, &self.0).unwrap();
        Endpoint::from_pem(id, &leaf.pem(), &key.serialize_pem(), &self.0.pem()).unwrap()
    }

    pub fn node(&self, mode: Mode, id: &str, address: &str) -> Node {
        Node::new(mode, self.endpoint(id, address))
    }

    /// Two strict nodes that know each other.
    pub fn pair(&self) -> Pair {
        let mut client = self.node(Mode::Strict, CLIENT_ID, CLIENT);
        client.knows(SERVER, Some(SERVER_ID), Cover::Covered);
        let mut server = self.node(Mode::Strict, SERVER_ID, SERVER);
        server.knows(CLIENT, Some(CLIENT_ID), Cover::Covered);
        Pair::new(client, server)
    }
}
