//! The workers' side.

use std::time::Instant;

use jfe_control::message::{Event, FromWorker};

use super::{Arc, AsFd, Broker, BrokerError, FrameError, OpenError, OwnedFd, SocketKind, TURN, ToWorker, log, socket};

/// Sockets that one wish brings at most.
const AT_ONCE: usize = 64;

/// Bytes and descriptors queued towards a worker that does not read: a directory fits, a flood does not.
const QUEUED_BYTES: usize = 64 << 20;
const QUEUED_DESCRIPTORS: usize = 1024;

impl Broker {
    pub(super) fn start_workers(&mut self) -> Result<(), BrokerError> {
        let now = Instant::now();
        for index in 0..self.workers.len() {
            let worker = &mut self.workers[index];
            if worker.next_start().is_none_or(|at| at > now) {
                continue;
            }
            if self.reserve.lend(|| worker.start(&self.worker_binary, now)) {
                let number = worker.number;
                if worker.was_replaced() {
                    self.event(Event::WorkerReplaced { worker: number });
                }
                let actions = self.state.worker_started(number);
                self.act(actions)?;
            }
        }
        Ok(())
    }

    pub(super) fn hear_worker(&mut self, index: usize) -> Result<(), BrokerError> {
        for _ in 0..TURN {
            let worker = &mut self.workers[index];
            let number = worker.number;
            let Some(process) = &mut worker.process else { break };
            let message = match process.link.receive() {
                Ok(Some(frame)) => frame.parse::<FromWorker>(),
                Ok(None) => break,
                Err(error) => Err(error),
            };
            match message {
                Ok(FromWorker::Event(event)) => {
                    let event = worker.sign(event);
                    self.event(event);
                }
                Ok(FromWorker::WantSockets { id, kind, count }) => {
                    self.give_sockets(number, &id, kind, usize::from(count).min(AT_ONCE))?;
                }
                Ok(message) => {
                    let actions = self.state.worker_said(number, message);
                    self.act(actions)?;
                }
                Err(FrameError::Closed) => return self.lose_worker(index, "it is gone"),
                Err(error) => return self.lose_worker(index, &error.to_string()),
            }
        }
        Ok(())
    }

    /// Sends what can be sent, to all.
    pub(super) fn flush(&mut self) -> Result<(), BrokerError> {
        for index in 0..self.workers.len() {
            let Some(process) = &mut self.workers[index].process else { continue };
            match process.link.flush() {
                Ok(_) if process.link.queued_bytes() > QUEUED_BYTES => self.lose_worker(index, "it does not read")?,
                Ok(_) => {}
                Err(error) => self.lose_worker(index, &error.to_string())?,
            }
        }
        let wanted = self.state.connection_events();
        let Some(link) = &mut self.agent else { return Ok(()) };
        for event in self.outbox.drain(link.queued_bytes()) {
            debug_assert!(wanted || !matches!(event, Event::Connection(_)));
            if let Err(error) = link.send(&event, Vec::new()) {
                log::line(&format!("an event was not sent: {error}"));
            }
        }
        match link.flush() {
            Ok(_) => Ok(()),
            Err(error) => self.lose_agent(&error.to_string()),
        }
    }

    pub(super) fn tell(&mut self, number: u32, message: &ToWorker, descriptors: bool) {
        let opened = match message {
            ToWorker::Workload { workload, .. } if descriptors => self.opened.get(&workload.id),
            _ => None,
        };
        let descriptors = opened.map(|opened| opened.listeners.clone()).unwrap_or_default();
        self.send(number, message, descriptors);
    }

    pub(super) fn give_sockets(
        &mut self,
        number: u32,
        id: &str,
        kind: SocketKind,
        count: usize,
    ) -> Result<(), BrokerError> {
        let (Some((mark, _)), Some(opened)) = (self.state.mark(id), self.opened.get(id)) else { return Ok(()) };
        let process =
            self.workers.iter().find(|worker| worker.number == number).and_then(|worker| worker.process.as_ref());
        let room = process.map_or(0, |process| QUEUED_DESCRIPTORS.saturating_sub(process.link.queued_descriptors()));
        let task = || Ok(socket::open(kind, count.min(room), mark));
        let (sockets, error) = match self.home.within(opened.namespace.as_fd(), task) {
            Ok(made) => made,
            Err(OpenError::Fatal(error)) => return Err(error),
            Err(error) => (Vec::new(), Some(error)),
        };
        if let Some(error) = error.filter(|_| self.complaints.allow(Instant::now())) {
            log::line(&format!("workload {id}: {error}"));
        }
        let id = id.to_owned();
        let message =
            if sockets.is_empty() { ToWorker::NoSockets { id, kind } } else { ToWorker::Sockets { id, kind } };
        self.send(number, &message, sockets.into_iter().map(Arc::new).collect());
        Ok(())
    }

    fn send(&mut self, number: u32, message: &ToWorker, descriptors: Vec<Arc<OwnedFd>>) {
        let worker = self.workers.iter_mut().find(|worker| worker.number == number);
        let process = worker.and_then(|worker| worker.process.as_mut());
        if let Some(Err(error)) = process.map(|process| process.link.send(message, descriptors)) {
            log::line(&format!("worker {number} was not told: {error}"));
        }
    }

    fn lose_worker(&mut self, index: usize, why: &str) -> Result<(), BrokerError> {
        let worker = &mut self.workers[index];
        let number = worker.number;
        worker.end(why, Instant::now());
        let actions = self.state.worker_ended(number);
        self.act(actions)
    }

    fn event(&mut self, event: Event) {
        let queued = self.agent.as_ref().map_or(0, jfe_control::Link::queued_bytes);
        self.outbox.take(event, self.agent.is_some() && self.state.connection_events(), queued);
    }
}
