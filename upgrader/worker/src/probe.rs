//! Learning whether an application speaks TLS: by a hello of our own, on a connection of its own.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use jfe_control::message::SocketKind;
use jfe_decide::{Answer, Application, Taught, judge_answer, learn::PROBE_TIME};
use jfe_relay::{Received, Sent};

use crate::connections::{Slots, Source};
use crate::deadlines::Deadlines;
use crate::socket::{self, Dialled, Origin};
use crate::worker::{Worker, register};

#[derive(Debug)]
struct Probe {
    workload: usize,
    application: SocketAddr,
    number: u64,
    socket: Option<OwnedFd>,
    hello: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
    /// Connections (index, number) that want to know.
    waiting: Vec<(usize, u64)>,
}

#[derive(Debug)]
pub struct Probes {
    asked: Slots<Probe>,
    deadlines: Deadlines<(usize, u64)>,
    next_number: u64,
}

impl Default for Probes {
    fn default() -> Self {
        Self { asked: Slots::default(), deadlines: Deadlines::new(PROBE_TIME), next_number: 0 }
    }
}

impl Probes {
    pub fn next(&self) -> Option<Instant> {
        self.deadlines.next()
    }
}

fn kind_for(application: SocketAddr) -> SocketKind {
    if application.is_ipv4() { SocketKind::Wire4 } else { SocketKind::Wire6 }
}

impl Worker {
    /// Asks the application that this connection is for; joins a question that is under way. True if it is known.
    pub fn learn(&mut self, index: usize) -> bool {
        self.hang_up(index);
        let Some(entry) = self.connections.get_mut(index) else { return false };
        let (workload, application, waiting) = (entry.workload, entry.destination, (index, entry.number));
        let same = |probe: &Probe| probe.workload == workload && probe.application == application;
        if let Some((_, probe)) = self.probes.asked.iter_mut().find(|(_, probe)| same(probe)) {
            probe.waiting.push(waiting);
            return false;
        }
        self.probes.next_number += 1;
        let number = self.probes.next_number;
        let probe = self.probes.asked.insert(Probe {
            workload,
            application,
            number,
            socket: None,
            hello: jfe_tls::probe_hello(),
            sent: 0,
            answer: Vec::new(),
            waiting: vec![waiting],
        });
        self.probes.deadlines.set((probe, number), self.now);
        self.dial_probe(probe);
        false
    }

    fn dial_probe(&mut self, index: usize) {
        let Some(probe) = self.probes.asked.get_mut(index) else { return };
        let (application, workload_index) = (probe.application, probe.workload);
        let kind = kind_for(application);
        let Some(workload) = self.workloads.get_mut(workload_index) else { return };
        let fresh = workload.fresh(kind).take();
        self.want_sockets(workload_index, kind);
        // Without one it waits for the next: see `serve_waiting_probes`.
        let Some(socket) = fresh else { return };
        // From the workload's own address, which the kernel chooses towards itself.
        if let Dialled::Failed(_) | Dialled::PortTaken = socket::dial(socket.as_fd(), Origin::Any, application) {
            return self.conclude_probe(index, Taught::Nothing);
        }
        if register(self.poll.registry(), socket.as_fd(), Source::Probe(index)).is_err() {
            return self.conclude_probe(index, Taught::Nothing);
        }
        if let Some(probe) = self.probes.asked.get_mut(index) {
            probe.socket = Some(socket);
        }
    }

    pub fn serve_waiting_probes(&mut self, workload: usize, kind: SocketKind) {
        let waits =
            |probe: &Probe| probe.workload == workload && probe.socket.is_none() && kind_for(probe.application) == kind;
        let waiting: Vec<usize> =
            self.probes.asked.iter_mut().filter(|(_, probe)| waits(probe)).map(|(index, _)| index).collect();
        for index in waiting {
            self.dial_probe(index);
        }
    }

    pub fn refuse_waiting_probes(&mut self, workload: usize, kind: SocketKind) {
        for index in self.probes.asked.indices() {
            if let Some(probe) = self.probes.asked.get_mut(index)
                && probe.workload == workload
                && probe.socket.is_none()
                && kind_for(probe.application) == kind
            {
                self.conclude_probe(index, Taught::Nothing);
            }
        }
    }

    pub fn probe_ready(&mut self, index: usize) {
        let taught = self.probes.asked.get_mut(index).and_then(step);
        if let Some(taught) = taught {
            self.conclude_probe(index, taught);
        }
    }

    pub fn expire_probes(&mut self) {
        while let Some((index, number)) = self.probes.deadlines.due(self.now) {
            if self.probes.asked.get_mut(index).is_some_and(|probe| probe.number == number) {
                self.conclude_probe(index, judge_answer(Answer::Silent));
            }
        }
        self.probes.asked.recycle();
    }

    pub fn end_probes_of(&mut self, workload: usize) {
        for index in self.probes.asked.indices() {
            if self.probes.asked.get_mut(index).is_some_and(|probe| probe.workload == workload) {
                self.probes.asked.free(index);
            }
        }
    }

    fn conclude_probe(&mut self, index: usize, taught: Taught) {
        let Some(probe) = self.probes.asked.take(index) else { return };
        self.probes.asked.free(index);
        // The application's end sees RST: nothing was meant by this connection.
        probe.socket.into_iter().for_each(socket::reset);
        let application = match self.workloads.get_mut(probe.workload) {
            Some(workload) => workload.knowledge.learn(probe.application.port(), taught, self.now),
            None => Application::Unlearnable,
        };
        for (waiting, number) in probe.waiting {
            if let Some(entry) = self.connections.get_mut(waiting)
                && entry.number == number
            {
                entry.connection.learnt(application);
                self.drive(waiting);
            }
        }
    }
}

/// Sends what is left of the hello, reads what there is of an answer.
fn step(probe: &mut Probe) -> Option<Taught> {
    let socket = probe.socket.as_ref()?.as_fd();
    while probe.sent < probe.hello.len() {
        match socket::send(socket, &[IoSlice::new(&probe.hello[probe.sent..])], false) {
            Sent::Bytes(count) => probe.sent += count,
            Sent::WouldBlock => break,
            Sent::Reset => return Some(judge_answer(Answer::Refused)),
        }
    }
    let mut bytes = [0; 64];
    loop {
        let judged = match socket::receive(socket, &mut [IoSliceMut::new(&mut bytes)]) {
            Received::Bytes(count) => {
                probe.answer.extend_from_slice(&bytes[..count]);
                judge_answer(Answer::Bytes(&probe.answer))
            }
            Received::End => judge_answer(Answer::Closed),
            Received::Reset => judge_answer(Answer::Reset),
            Received::WouldBlock => return None,
        };
        if judged != Taught::MoreBytes {
            return Some(judged);
        }
    }
}
