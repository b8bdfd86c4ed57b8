//! A connection that the workload makes, until it is known what happens to it.

use jfe_decide::{FirstBytes, Refuse, Upgrade};
use jfe_tls::{Expectation, Handshake, SpiffeId};

use crate::action::{End, Received, Side, Space};
use crate::connection::{Dial, Environment, Phase, Progress, Sockets, Turn};
use crate::handshaking::Handshaking;
use crate::intake;
use crate::relay::Relay;

#[derive(Debug, Default)]
pub struct Outbound {
    state: State,
    /// What the application has sent, while its first bytes are judged.
    first: Vec<u8>,
    /// The judgement, once there is one; until then, how many bytes it needs.
    judged: Option<FirstBytes>,
    /// One byte of the peer is enough to know.
    peeked: [u8; 1],
    ended: Option<End>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    AwaitCover,
    DialForHandshake(Option<Box<Handshake>>),
    DialPlain,
    DialToJudge,
    Judge,
}

impl Outbound {
    pub fn is_bounded(&self) -> bool {
        match self.state {
            State::AwaitCover => true,
            State::Judge => !self.first.is_empty(),
            _ => false,
        }
    }

    pub fn unfinished(&self) -> Refuse {
        if matches!(self.state, State::AwaitCover) { Refuse::NotCoveredYet } else { Refuse::HandshakeTimeout }
    }

    pub fn turn(&mut self, sockets: &mut Sockets, environment: &Environment<'_>, progress: &mut Progress) -> Turn {
        if matches!(self.state, State::Start | State::AwaitCover)
            && let Some(turn) = self.decide(environment, progress)
        {
            return turn;
        }
        match (&mut self.state, sockets.dial) {
            (State::Judge, _) => self.judge(sockets, progress),
            (_, Dial::Not) => Turn::Dial,
            (_, Dial::Under) => Turn::Wait,
            (State::DialForHandshake(handshake), Dial::Connected) => match handshake.take() {
                Some(handshake) => {
                    progress.enter_wait();
                    Turn::Become(Phase::Handshaking(Box::new(Handshaking::new(*handshake))))
                }
                None => Turn::Wait,
            },
            (State::DialToJudge, Dial::Connected) => {
                self.state = State::Judge;
                self.judge(sockets, progress)
            }
            (_, Dial::Connected) => Turn::Become(Phase::Relay(Relay::plain(Vec::new(), Vec::new()))),
        }
    }

    fn decide(&mut self, environment: &Environment<'_>, progress: &mut Progress) -> Option<Turn> {
        let Environment { policy, directory, own_listener, destination, endpoint, .. } = *environment;
        match jfe_decide::outbound(policy, directory, own_listener, destination) {
            jfe_decide::Outbound::Upgrade(expect) => {
                let expectation = match expect.identity.as_deref().map(str::parse::<SpiffeId>) {
                    Some(Ok(identity)) => Expectation::Identity(identity),
                    // Nobody's certificate can carry it.
                    Some(Err(_)) => return Some(Turn::Refuse(Refuse::PeerIdentity)),
                    None => Expectation::Address(destination.ip()),
                };
                progress.decision = Some(Upgrade::Mutual.into());
                self.state = State::DialForHandshake(Some(Box::new(endpoint.connect(expectation))));
                None
            }
            jfe_decide::Outbound::PassThrough(reason) => {
                progress.decision = Some(reason.into());
                self.state = State::DialPlain;
                None
            }
            jfe_decide::Outbound::Refuse(reason) => Some(Turn::Refuse(reason)),
            jfe_decide::Outbound::AwaitCover => {
                if matches!(self.state, State::Start) {
                    progress.enter_wait();
                    self.state = State::AwaitCover;
                }
                Some(Turn::Wait)
            }
            jfe_decide::Outbound::AwaitFirstByte => {
                self.state = State::DialToJudge;
                None
            }
        }
    }

    fn judge(&mut self, sockets: &Sockets, progress: &mut Progress) -> Turn {
        match self.judged {
            Some(FirstBytes::PassThrough(reason)) => {
                progress.decision = Some(reason.into());
                return Turn::Become(Phase::Relay(Relay::plain(std::mem::take(&mut self.first), Vec::new())));
            }
            Some(FirstBytes::Refuse(reason)) => return Turn::Refuse(reason),
            Some(FirstBytes::Await { .. }) | None => {}
        }
        if let Some(end) = self.ended {
            return Turn::End(end);
        }
        if sockets.wire.readable {
            Turn::Receive(Side::Wire)
        } else if sockets.application.readable {
            if self.first.is_empty() {
                progress.enter_wait();
            }
            Turn::Receive(Side::Application)
        } else {
            Turn::Wait
        }
    }

    pub fn space(&mut self, side: Side) -> Space<'_> {
        match side {
            Side::Wire => Space::contiguous(&mut self.peeked),
            Side::Application => intake::room(&mut self.first),
        }
    }

    pub fn received(&mut self, side: Side, received: Received) -> usize {
        let asked = match side {
            Side::Wire => self.peeked.len(),
            Side::Application => intake::settle(&mut self.first, received),
        };
        match (side, received) {
            (Side::Wire, Received::Bytes(_)) => {
                self.judged = Some(jfe_decide::outbound_first_bytes(jfe_decide::Side::Peer, &self.peeked));
            }
            (Side::Application, Received::Bytes(_)) if self.enough() => {
                self.judged = Some(jfe_decide::outbound_first_bytes(jfe_decide::Side::Application, &self.first));
            }
            // Somebody left before a byte was said: nothing needs judging.
            (_, Received::End) if self.first.is_empty() => self.ended = Some(End::Closed),
            (_, Received::End | Received::Reset) => self.ended = Some(End::Reset),
            (_, Received::Bytes(_) | Received::WouldBlock) => {}
        }
        asked
    }

    fn enough(&self) -> bool {
        match self.judged {
            Some(FirstBytes::Await { need }) => self.first.len() >= need,
            _ => true,
        }
    }
}
