//! What happens to a connection that comes to the workload.

use crate::hello::Hello;
use crate::policy::{Mode, Policy};
use crate::reason::{PassThrough, Refuse};

/// What is known of the application on a port; settings made by hand go first, see [`Policy::application_by_hand`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Application {
    /// Not asked yet, or too long ago.
    Unknown,
    SpeaksTls,
    Plaintext,
    /// Asked for this connection, and learnt nothing.
    Unlearnable,
}

/// What is known of one inbound connection so far.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'a> {
    pub policy: &'a Policy,
    /// The port that the peer dialled.
    pub port: u16,
    /// The directory calls the source address covered: [`crate::Directory::covers_source`].
    pub source_covered: bool,
    /// What [`crate::classify`] says of all bytes so far.
    pub hello: Hello<'a>,
    pub application: Application,
    /// On a connection that is already watched: the application has sent a byte.
    pub application_spoke: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InboundNext {
    /// `jfe/1`: mutual TLS.
    Mutual,
    /// A stranger's TLS ends here.
    Terminate,
    PassThrough(PassThrough),
    Refuse(Refuse),
    /// Ask again with more bytes; after 10 s it is [`unfinished`].
    Await,
    /// Connect the application, send it nothing, and ask again when either side has sent something. No time limit.
    ConnectApplicationAndWatch,
    /// Ask the application with a hello of our own, then ask again with what was learnt.
    Learn,
}

/// Decides with what is known; the answer holds until more is known.
pub fn inbound(connection: &Inbound<'_>) -> InboundNext {
    let Inbound { policy, port, source_covered, hello, .. } = *connection;
    if policy.excluded_inbound_ports.contains(&port) {
        return InboundNext::PassThrough(PassThrough::Excluded);
    }
    match (hello, policy.mode) {
        (Hello::Jfe, _) => InboundNext::Mutual,
        (Hello::TooLarge, _) => InboundNext::Refuse(Refuse::HelloTooLarge),
        (Hello::Stranger { .. }, mode) => strangers_hello(connection, mode),
        // Only an application that parses hellos itself may be given one that we can't read. Asking it would let a
        // stranger's broken bytes make us call it, so what is unknown stays so.
        (Hello::Malformed, Mode::Permissive) if application(connection) == Application::SpeaksTls => {
            InboundNext::PassThrough(PassThrough::ApplicationTls)
        }
        (Hello::Malformed, _) => InboundNext::Refuse(Refuse::HelloMalformed),
        (Hello::NotTls, _) if source_covered => InboundNext::Refuse(Refuse::PlaintextFromCovered),
        (Hello::NotTls, Mode::Permissive) => InboundNext::PassThrough(PassThrough::Plaintext),
        (Hello::NotTls, Mode::Strict) => InboundNext::Refuse(Refuse::Plaintext),
        (Hello::Nothing | Hello::Partial { .. }, Mode::Strict) => InboundNext::Await,
        (Hello::Nothing | Hello::Partial { .. }, Mode::Permissive) => without_hello(connection),
    }
}

/// Permissive, and nothing has come that could be judged: may the application speak first? Only to who is silent.
fn without_hello(connection: &Inbound<'_>) -> InboundNext {
    let hears_first = connection.source_covered || connection.policy.await_hello_ports.contains(&connection.port);
    match connection.hello {
        _ if hears_first => InboundNext::Await,
        Hello::Nothing if connection.application_spoke => InboundNext::PassThrough(PassThrough::ServerFirst),
        Hello::Nothing => InboundNext::ConnectApplicationAndWatch,
        // What has begun as a hello may be an enrolled peer's, of which the rest is on its way: a banner in clear would
        // be what breaks its handshake, and be read by all.
        _ => InboundNext::Await,
    }
}

/// Why a connection is refused whose [`InboundNext::Await`] has lasted too long.
pub fn unfinished(hello: Hello<'_>) -> Refuse {
    if matches!(hello, Hello::Nothing) { Refuse::Silent } else { Refuse::HandshakeTimeout }
}

fn application(connection: &Inbound<'_>) -> Application {
    match connection.policy.application_by_hand(connection.port) {
        Some(true) => Application::SpeaksTls,
        Some(false) => Application::Plaintext,
        None => connection.application,
    }
}

fn strangers_hello(connection: &Inbound<'_>, mode: Mode) -> InboundNext {
    match (application(connection), mode) {
        (Application::Unknown, _) => InboundNext::Learn,
        (Application::SpeaksTls, _) => InboundNext::PassThrough(PassThrough::ApplicationTls),
        (Application::Plaintext, Mode::Permissive) => InboundNext::Terminate,
        (Application::Plaintext, Mode::Strict) if connection.policy.strangers_tls => InboundNext::Terminate,
        (Application::Plaintext, Mode::Strict) => InboundNext::Refuse(Refuse::StrangerTls),
        (Application::Unlearnable, Mode::Permissive) => InboundNext::PassThrough(PassThrough::ApplicationUnknown),
        (Application::Unlearnable, Mode::Strict) => InboundNext::Refuse(Refuse::ApplicationUnknown),
    }
}
