//! The agent's side.

use jfe_control::message::Workload;
use serde::Deserialize;

use super::{
    Action, Answer, AnswerResult, Arc, AsFd, Broker, BrokerError, DEAF, Failure, FailureKind, Frame, FrameError,
    Instant, Object, OpenError, Opened, OwnedFd, QUEUED, Request, TURN, Word, check, control_socket, listener, log,
    same,
};

/// The least that an answer needs of a request that can't be understood.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

impl Broker {
    pub(super) fn hear_agent(&mut self) -> Result<(), BrokerError> {
        for _ in 0..TURN {
            let Some(link) = self.agent.as_mut().filter(|link| link.queued_bytes() < QUEUED) else { break };
            match link.receive() {
                Ok(Some(frame)) => self.request(frame)?,
                Ok(None) => break,
                Err(FrameError::Closed) => return self.lose_agent("it closed its end"),
                Err(error) => return self.lose_agent(&error.to_string()),
            }
        }
        Ok(())
    }

    pub(super) fn take_agent(&mut self) -> Result<(), BrokerError> {
        let accepted = self.reserve.lend(|| control_socket::accept(&self.control));
        match accepted {
            Ok(Some(link)) => {
                // One at a time, and the newest is the one that lives.
                self.agent = Some(link);
                self.outbox.agent_gone();
                let actions = self.state.agent_connected();
                self.act(actions)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                log::line(&format!("the control socket takes no connection: {error}"));
                self.deaf_until = Some(Instant::now() + DEAF);
                Ok(())
            }
        }
    }

    pub(super) fn lose_agent(&mut self, why: &str) -> Result<(), BrokerError> {
        log::line(&format!("the agent is gone: {why}; its workloads stay as they are"));
        self.agent = None;
        self.outbox.agent_gone();
        let actions = self.state.agent_gone();
        self.act(actions)
    }

    pub(super) fn answer(&mut self, answer: &Answer) {
        if let Some(Err(error)) = self.agent.as_mut().map(|link| link.send(answer, Vec::new())) {
            log::line(&format!("an answer was not sent: {error}"));
        }
    }

    fn request(&mut self, mut frame: Frame) -> Result<(), BrokerError> {
        let request = match frame.parse::<Request>() {
            Ok(request) => request,
            Err(error) => match frame.parse::<Numbered>() {
                Ok(Numbered { seq }) => {
                    self.fail(seq, FailureKind::BadRequest, error.to_string());
                    return Ok(());
                }
                Err(_) => return self.lose_agent(&error.to_string()),
            },
        };
        let mut descriptors = std::mem::take(&mut frame.descriptors);
        if frame.descriptors_lost {
            let message = "a descriptor could not be taken; raise RLIMIT_NOFILE of the upgrader".into();
            self.fail(request.seq, FailureKind::Exhausted, message);
            return Ok(());
        }
        match (request.word, descriptors.pop()) {
            (Word::Add { object: Object::Workload(workload) }, Some(namespace)) if descriptors.is_empty() => {
                self.add_workload(request.seq, *workload, namespace)
            }
            (word, None) => {
                let actions = self.state.request(request.seq, word);
                self.act(actions)
            }
            (_, Some(_)) => {
                let message = "more descriptors than this word takes came with it; send one with a workload, else none";
                self.fail(request.seq, FailureKind::BadRequest, message.into());
                Ok(())
            }
        }
    }

    fn add_workload(&mut self, seq: u64, workload: Workload, namespace: OwnedFd) -> Result<(), BrokerError> {
        if let Err(failure) = check(&workload) {
            self.answer(&Answer { seq, result: AnswerResult::Failed(failure) });
            return Ok(());
        }
        // The same name in another namespace is another workload: a container that was made anew.
        if self.opened.get(&workload.id).is_some_and(|opened| !same(opened.namespace.as_fd(), namespace.as_fd())) {
            let actions = self.state.remove(&workload.id);
            self.act(actions)?;
        }
        let listeners = if let Some(listeners) = self.state.listeners(&workload.id) {
            listeners
        } else {
            match self.home.within(namespace.as_fd(), listener::open) {
                Ok((listeners, sockets)) => {
                    self.opened.insert(
                        workload.id.clone(),
                        Opened { namespace, listeners: sockets.into_iter().map(Arc::new).collect() },
                    );
                    listeners
                }
                Err(OpenError::Fatal(error)) => return Err(error),
                Err(error) => {
                    self.answer(&Answer { seq, result: AnswerResult::Failed(error.failure()) });
                    return Ok(());
                }
            }
        };
        let actions: Vec<Action> = self.state.install(seq, workload, listeners);
        self.act(actions)
    }

    fn fail(&mut self, seq: u64, kind: FailureKind, message: String) {
        self.answer(&Answer { seq, result: AnswerResult::Failed(Failure { kind, message }) });
    }
}
