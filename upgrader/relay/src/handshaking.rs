//! Driving a TLS handshake, and judging who the peer turned out to be.

use jfe_decide::{Decision, Refuse, Upgrade};
use jfe_tls::{Finished, Handshake, HandshakeError, Progress as Step};

use crate::action::{End, Parts, Received, Sent, Side, Space};
use crate::buffer::Pool;
use crate::connection::{Dial, Environment, Established, Phase, Progress, Sockets, Turn};
use crate::intake;
use crate::relay::Relay;

/// Alerts (RFC 8446 section 6.2) for what rustls can't know.
const ACCESS_DENIED: u8 = 49;

#[derive(Debug)]
pub struct Handshaking {
    /// Taken when it is complete.
    handshake: Option<Handshake>,
    /// What is said to a peer that is refused after a complete handshake.
    farewell: Vec<u8>,
    sent: usize,
    /// Bytes have come that were not looked at.
    fresh: bool,
    complete: bool,
    failed: Option<Refuse>,
    wire_lost: bool,
}

impl Handshaking {
    pub fn new(handshake: Handshake) -> Self {
        let handshake = Some(handshake);
        Self { handshake, farewell: Vec::new(), sent: 0, fresh: true, complete: false, failed: None, wire_lost: false }
    }

    fn farewell(farewell: Vec<u8>, reason: Refuse) -> Self {
        let failed = Some(reason);
        Self { handshake: None, farewell, sent: 0, fresh: false, complete: false, failed, wire_lost: false }
    }

    fn output(&mut self) -> &[u8] {
        match &mut self.handshake {
            Some(handshake) => handshake.output(),
            None => &self.farewell,
        }
    }

    pub fn turn(
        &mut self,
        sockets: &Sockets,
        environment: &Environment<'_>,
        progress: &mut Progress,
        dialled: Side,
        pool: &mut Pool,
    ) -> Turn {
        if self.wire_lost {
            return Turn::Refuse(self.failed.unwrap_or(Refuse::HandshakeFailed));
        }
        if self.fresh && self.failed.is_none() {
            self.step();
        }
        if self.complete {
            return self.conclude(sockets, environment, progress, dialled, pool);
        }
        let unsent = self.sent < self.output().len();
        match self.failed {
            _ if unsent => {
                if sockets.wire.writable {
                    Turn::Send
                } else {
                    Turn::Wait
                }
            }
            Some(reason) => {
                progress.decision = Some(Decision::Refuse(reason));
                Turn::End(if self.sent > 0 { End::Alerted } else { End::Reset })
            }
            None if sockets.wire.readable => Turn::Receive(Side::Wire),
            None => Turn::Wait,
        }
    }

    fn step(&mut self) {
        self.fresh = false;
        let Some(handshake) = &mut self.handshake else { return };
        match handshake.step() {
            Ok(Step::WantsInput) => {}
            Ok(Step::Complete) => self.complete = true,
            Err(error) => self.failed = Some(reason(&error)),
        }
    }

    fn conclude(
        &mut self,
        sockets: &Sockets,
        environment: &Environment<'_>,
        progress: &mut Progress,
        dialled: Side,
        pool: &mut Pool,
    ) -> Turn {
        // A server's flight that is partly sent is sent to its end first: the rest would come again behind it.
        let Some(mut handshake) = self.handshake.take() else { return Turn::Refuse(Refuse::HandshakeFailed) };
        handshake.output().drain(..self.sent);
        let finished = match handshake.finish() {
            Ok(finished) => finished,
            Err(error) => return Turn::Refuse(reason(&error)),
        };
        if progress.decision == Some(Upgrade::Mutual.into())
            && dialled == Side::Application
            && let Some(refusal) = check_source(&finished, environment)
        {
            return refused(finished, refusal, progress);
        }
        progress.established = Some(Box::new(Established {
            peer: finished.peer.as_ref().map(|peer| peer.identity.to_string()),
            version: finished.version,
            cipher: finished.cipher,
            key_exchange: finished.key_exchange,
        }));
        if sockets.dial == Dial::Connected {
            Turn::Become(Phase::Relay(Relay::sealed(finished, pool)))
        } else {
            Turn::Become(Phase::Established(Box::new(finished)))
        }
    }

    pub fn space(&mut self) -> Space<'_> {
        match &mut self.handshake {
            Some(handshake) => intake::room(handshake.input()),
            None => Space::contiguous(&mut []),
        }
    }

    pub fn received(&mut self, received: Received) -> usize {
        self.fresh = matches!(received, Received::Bytes(_));
        self.wire_lost |= matches!(received, Received::End | Received::Reset);
        self.handshake.as_mut().map_or(0, |handshake| intake::settle(handshake.input(), received))
    }

    pub fn parts(&mut self) -> Parts<'_> {
        let sent = self.sent;
        Parts { head: &self.output()[sent..], buffer: &[], ranges: &[] }
    }

    pub fn sent(&mut self, sent: Sent) {
        match sent {
            Sent::Bytes(count) => self.sent += count,
            Sent::WouldBlock => {}
            Sent::Reset => self.wire_lost = true,
        }
    }
}

/// The side that was dialled can know two things: which identity the directory has for the peer's address, and, where
/// no NAT lies between, that the certificate names it.
fn check_source(finished: &Finished, environment: &Environment<'_>) -> Option<Refuse> {
    let peer = finished.peer.as_ref()?;
    let source = environment.source.ip().to_canonical();
    if environment.policy.verify_source && !peer.addresses.contains(&source) {
        return Some(Refuse::PeerAddress);
    }
    let expected = environment.directory.lookup_source(source)?.identity.as_deref()?;
    (expected != peer.identity.to_string()).then_some(Refuse::PeerIdentity)
}

/// The handshake is complete, so the alert goes under the new keys.
fn refused(finished: Finished, reason: Refuse, progress: &mut Progress) -> Turn {
    let Finished { mut sealer, last_flight, .. } = finished;
    let mut farewell = last_flight;
    sealer.alert(ACCESS_DENIED, &mut farewell);
    progress.decision = Some(Decision::Refuse(reason));
    Turn::Become(Phase::Handshaking(Box::new(Handshaking::farewell(farewell, reason))))
}

fn reason(error: &HandshakeError) -> Refuse {
    match error {
        HandshakeError::PeerNotTls => Refuse::PeerNotTls,
        HandshakeError::PeerIdentity { .. } => Refuse::PeerIdentity,
        HandshakeError::PeerAddress { .. } => Refuse::PeerAddress,
        HandshakeError::PeerUntrusted(_) => Refuse::PeerUntrusted,
        HandshakeError::Failed(_) => Refuse::HandshakeFailed,
    }
}
