//! One connection's handshake, without I/O.

use std::fmt;
use std::sync::Arc;

use rustls::NamedGroup;
use rustls::crypto::SupportedKxGroup;

use crate::endpoint::ALPN;
use crate::exchange::Exchange;
use crate::keys::Suite;
use crate::record::{HEADER, MAX_RECORD, first_record, may_begin_tls};
use crate::side::{Advance, Side};
use crate::{Expectation, HandshakeError, Opener, Peer, Role, Sealer, Secret};

/// Bytes that a peer may have waiting for the handshake; more means that it sends what no handshake needs.
const MAX_INPUT: usize = 64 << 10;
/// `no_application_protocol` (RFC 7301, section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    WantsInput,
    Complete,
}

pub struct Handshake {
    /// An error once it has failed.
    side: Result<Side, HandshakeError>,
    /// Whether both sides must show a certificate and agree on [`ALPN`].
    mutual: bool,
    /// Whether the peer's first bytes were found to be a record's.
    begun: bool,
    complete: bool,
    input: Vec<u8>,
    /// Bytes at the input's head that rustls has seen already and could not discard yet.
    shown: usize,
    output: Vec<u8>,
    exchange: Exchange,
}

/// What a handshake leaves.
#[derive(Debug)]
pub struct Finished {
    pub sealer: Sealer,
    pub opener: Opener,
    /// `None` for a stranger.
    pub peer: Option<Arc<Peer>>,
    /// As in IANA's registry: `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'static str,
    /// As in IANA's registry: `X25519MLKEM768`.
    pub key_exchange: &'static str,
    /// Always `TLSv1.3`.
    pub version: &'static str,
    /// What the peer sent after its part of the handshake, for the opener.
    pub unread: Vec<u8>,
    /// Plaintext that the TLS library had read already: always empty, as it is shown no record of that kind.
    pub early: Vec<u8>,
    /// Whether a `close_notify` was among what the TLS library had read: always false, for the same reason.
    pub closed: bool,
    /// What was not taken out of [`Handshake::output`]: to be sent before anything sealed.
    pub last_flight: Vec<u8>,
}

impl Handshake {
    pub(crate) fn new(side: Result<Side, rustls::Error>, mutual: bool, expectation: Option<Expectation>) -> Self {
        Self {
            side: side.map_err(HandshakeError::from),
            mutual,
            begun: false,
            complete: false,
            input: Vec::new(),
            shown: 0,
            output: Vec::new(),
            exchange: Exchange { expectation, ..Exchange::default() },
        }
    }

    /// Append here what was read from the peer; take nothing away.
    pub fn input(&mut self) -> &mut Vec<u8> {
        &mut self.input
    }

    /// To be sent to the peer; take away what was sent. After an error it may hold an alert.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Goes as far as the input allows. To be called once before any input, too.
    ///
    /// # Errors
    /// Send what is in the output, then end the connection. The same error comes again.
    pub fn step(&mut self) -> Result<Progress, HandshakeError> {
        if !self.begun {
            if !may_begin_tls(&self.input) {
                return Err(self.fail(HandshakeError::PeerNotTls).0);
            }
            self.begun = self.input.len() >= HEADER;
        }
        while !self.complete {
            match self.advance() {
                Ok(Advance::Wrote | Advance::Went) => {}
                Ok(Advance::Blocked) if self.show_next_record() => {}
                Ok(Advance::Blocked) if self.input.len() > MAX_INPUT => {
                    let error = HandshakeError::Failed(format!("the peer sent more than {MAX_INPUT} bytes for it"));
                    return Err(self.fail(error).0);
                }
                Ok(Advance::Blocked) => return Ok(Progress::WantsInput),
                Ok(Advance::Complete) => self.check_complete()?,
                Err(error) => {
                    self.take_alert();
                    return Err(self.fail(error).0);
                }
            }
        }
        Ok(Progress::Complete)
    }

    /// The keys of a complete handshake. Nothing of rustls remains.
    pub fn finish(mut self) -> Result<Finished, HandshakeError> {
        let side = self.side?;
        if !self.complete {
            return Err(HandshakeError::Failed("it is not complete".into()));
        }
        let state = side.state();
        let key_exchange = match state.negotiated_key_exchange_group().map(SupportedKxGroup::name) {
            Some(NamedGroup::X25519MLKEM768) => "X25519MLKEM768",
            Some(NamedGroup::X25519) => "x25519",
            Some(NamedGroup::secp256r1) => "secp256r1",
            other => return Err(HandshakeError::Failed(format!("unknown key exchange {other:?}"))),
        };
        let (suite, sealer, opener) = take_over(side, &mut self.exchange)?;
        Ok(Finished {
            sealer,
            opener,
            peer: self.exchange.peer.take(),
            cipher: suite.name(),
            key_exchange,
            version: "TLSv1.3",
            unread: self.input,
            early: Vec::new(),
            closed: false,
            last_flight: self.output,
        })
    }

    fn advance(&mut self) -> Result<Advance, HandshakeError> {
        let side = self.side.as_mut().map_err(|error| error.clone())?;
        let (input, output) = (&mut self.input[..self.shown], &mut self.output);
        let (done_with, advance) = self.exchange.lend(|| side.advance(input, output));
        self.input.drain(..done_with);
        self.shown -= done_with;
        Ok(advance?)
    }

    /// What rustls would say to the peer about an error that it found. It must be asked for nothing else: it would go on
    /// reading where it failed.
    fn take_alert(&mut self) {
        while self.side.as_ref().is_ok_and(|side| side.state().wants_write()) {
            let Ok(_) = self.advance() else { return };
        }
    }

    /// Lets rustls see one record more, if one is there.
    fn show_next_record(&mut self) -> bool {
        match first_record(&self.input[self.shown..]) {
            Some((length, true)) => {
                self.shown += length;
                true
            }
            Some((length, false)) if length > MAX_RECORD && self.shown < self.input.len() => {
                // Will never be accepted, so there is nothing to wait for.
                self.shown = self.input.len();
                true
            }
            Some((_, false)) | None => false,
        }
    }

    /// Checks what rustls leaves to us, or what must hold for its keys to be taken over.
    fn check_complete(&mut self) -> Result<(), HandshakeError> {
        let side = self.side.as_ref().map_err(Clone::clone)?;
        if self.shown > 0 || (self.mutual && self.exchange.peer.is_none()) {
            let error = HandshakeError::Failed("the TLS library ended it with something left over or out".into());
            return Err(self.fail(error).0);
        }
        // A server that knows no protocol negotiation at all leaves our offer unanswered.
        if self.mutual && side.state().alpn_protocol() != Some(ALPN) {
            let (error, side) = self.fail(HandshakeError::Failed("the peer does not speak jfe/1".into()));
            if let Some(side) = side {
                let (_, mut sealer, _) = take_over(side, &mut self.exchange)?;
                sealer.alert(NO_APPLICATION_PROTOCOL, &mut self.output);
            }
            return Err(error);
        }
        self.complete = true;
        Ok(())
    }

    fn fail(&mut self, error: HandshakeError) -> (HandshakeError, Option<Side>) {
        let side = std::mem::replace(&mut self.side, Err(error.clone()));
        (error, side.ok())
    }
}

fn take_over(side: Side, exchange: &mut Exchange) -> Result<(Suite, Sealer, Opener), HandshakeError> {
    let missing = || HandshakeError::Failed("the TLS library left no keys".into());
    let suite =
        side.state().negotiated_cipher_suite().and_then(|suite| Suite::of(suite.suite())).ok_or_else(missing)?;
    let client = exchange.client_secret.take().and_then(|secret| Secret::new(suite, &secret)).ok_or_else(missing)?;
    let server = exchange.server_secret.take().and_then(|secret| Secret::new(suite, &secret)).ok_or_else(missing)?;
    let sender = side.peer();
    let (sent, received) = side.into_sequences()?;
    let (own, peers) = match sender {
        Role::Server => (client, server),
        Role::Client => (server, client),
    };
    Ok((suite, Sealer::new(own, sent), Opener::new(peers, received, sender)))
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("complete", &self.complete).finish_non_exhaustive()
    }
}
