//! A connection that comes to the workload, until it is known what happens to it.

use jfe_decide::{Application, Hello, InboundNext, PassThrough, Refuse, Upgrade, classify};

use crate::action::{End, Received, Side, Space};
use crate::connection::{Dial, Environment, Phase, Progress, Sockets, Turn};
use crate::handshaking::Handshaking;
use crate::intake;
use crate::relay::Relay;

#[derive(Debug, Default)]
pub struct Inbound {
    state: State,
    /// What the peer has sent.
    first: Vec<u8>,
    /// Bytes that must be there before they are looked at again, so that one byte a time costs no more than all at once.
    need: usize,
    /// What asking the application brought, for this connection.
    application: Option<Application>,
    bounded: bool,
    wire_ended: bool,
    wire_reset: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Reading,
    /// The application is connected, and whoever speaks first decides.
    Watching,
    Learning,
    DialPlain,
}

impl Inbound {
    pub fn is_watching(&self) -> bool {
        self.state == State::Watching
    }

    pub fn is_bounded(&self) -> bool {
        self.bounded
    }

    pub fn unfinished(&self) -> Refuse {
        jfe_decide::unfinished(classify(&self.first))
    }

    pub fn learnt(&mut self, application: Application) {
        self.application = Some(application);
        if self.state == State::Learning {
            self.state = State::Reading;
        }
    }

    pub fn turn(&mut self, sockets: &mut Sockets, environment: &Environment<'_>, progress: &mut Progress) -> Turn {
        if environment.own_listener {
            // Its destination would be ourselves again.
            return Turn::Refuse(Refuse::OwnListener);
        }
        if self.wire_reset {
            return Turn::End(End::Reset);
        }
        match self.state {
            State::Learning => Turn::Wait,
            State::DialPlain => match sockets.dial {
                Dial::Not => Turn::Dial,
                Dial::Under => Turn::Wait,
                Dial::Connected => {
                    Turn::Become(Phase::Relay(Relay::plain(Vec::new(), std::mem::take(&mut self.first))))
                }
            },
            State::Reading | State::Watching => self.read(sockets, environment, progress),
        }
    }

    fn read(&mut self, sockets: &mut Sockets, environment: &Environment<'_>, progress: &mut Progress) -> Turn {
        // The application's first byte, or its FIN, is not read here: that it is there decides.
        let application_spoke = sockets.dial == Dial::Connected && sockets.application.readable;
        // The peer's bytes come first: where its hello is there already, a banner must not go out in clear.
        if sockets.wire.readable && !self.wire_ended {
            return Turn::Receive(Side::Wire);
        }
        if self.first.len() < self.need && !self.wire_ended {
            return Turn::Wait;
        }
        let hello = self.hello();
        let next = jfe_decide::inbound(&jfe_decide::Inbound {
            policy: environment.policy,
            port: environment.destination.port(),
            source_covered: environment.directory.covers_source(environment.source.ip()),
            hello,
            application: self
                .application
                .unwrap_or_else(|| environment.knowledge.of(environment.destination.port(), environment.now)),
            application_spoke,
        });
        let nothing_came = matches!(hello, Hello::Nothing);
        if let Hello::Partial { need } = hello {
            self.need = need;
        }
        match next {
            InboundNext::Mutual => self.shake_hands(environment.endpoint.accept_mutual(), Upgrade::Mutual, progress),
            InboundNext::Terminate => {
                self.shake_hands(environment.endpoint.accept_stranger(), Upgrade::Terminated, progress)
            }
            InboundNext::PassThrough(reason) => {
                progress.decision = Some(reason.into());
                self.bounded = false;
                self.state = State::DialPlain;
                if sockets.dial == Dial::Not { Turn::Dial } else { self.turn(sockets, environment, progress) }
            }
            InboundNext::Refuse(reason) => Turn::Refuse(reason),
            InboundNext::Learn => {
                self.state = State::Learning;
                Turn::Learn
            }
            _ if self.wire_ended && nothing_came && sockets.dial == Dial::Not => Turn::End(End::Closed),
            InboundNext::Await => {
                if !self.bounded {
                    self.bounded = true;
                    progress.enter_wait();
                }
                Turn::Wait
            }
            InboundNext::ConnectApplicationAndWatch => {
                self.bounded = false;
                self.state = State::Watching;
                match sockets.dial {
                    Dial::Not => Turn::Dial,
                    // The peer said nothing and never will, but it may still listen: to plaintext, then.
                    Dial::Connected if self.wire_ended => {
                        progress.decision = Some(PassThrough::Plaintext.into());
                        Turn::Become(Phase::Relay(Relay::plain(Vec::new(), Vec::new())))
                    }
                    Dial::Under | Dial::Connected => Turn::Wait,
                }
            }
        }
    }

    /// What the peer's bytes are; where no more can come, a beginning is no hello.
    fn hello(&self) -> Hello<'_> {
        match classify(&self.first) {
            Hello::Partial { .. } if self.wire_ended => Hello::NotTls,
            other => other,
        }
    }

    fn shake_hands(&mut self, mut handshake: jfe_tls::Handshake, how: Upgrade, progress: &mut Progress) -> Turn {
        progress.decision = Some(how.into());
        progress.enter_wait();
        handshake.input().append(&mut self.first);
        Turn::Become(Phase::Handshaking(Box::new(Handshaking::new(handshake))))
    }

    pub fn space(&mut self) -> Space<'_> {
        intake::room(&mut self.first)
    }

    pub fn received(&mut self, received: Received) -> usize {
        self.wire_ended |= received == Received::End;
        self.wire_reset |= received == Received::Reset;
        intake::settle(&mut self.first, received)
    }
}
