//! What the upgrader should be doing: workloads, directory, who listens to events. Pure: what was said goes in, what
//! is to be done comes out.

mod directory;
mod workload;

use std::collections::{BTreeMap, HashMap, HashSet};

use jfe_control::message::{
    Answer, AnswerResult, Failure, FailureKind, FromWorker, Listeners, Name, Object, ToWorker, Word, Workload,
};

use directory::Directory;
pub use workload::check;
use workload::{Held, Pending};

/// Worker processes that may end while a workload is being added: then it is the workload that ends them.
const DEATHS: u8 = 3;

/// Characters of a worker's text that go on: it may be an attacker's.
const TEXT: usize = 500;

#[derive(Debug)]
pub enum Action {
    /// To one worker; with `descriptors`, the workload's listeners go along.
    Tell { worker: u32, message: ToWorker, descriptors: bool },
    /// The worker now has this workload: a few sockets of each kind, unasked.
    Supply { worker: u32, id: String },
    /// To the agent.
    Answer(Answer),
    /// Close the workload's listeners and namespace.
    Release { id: String },
    /// For people.
    Say(String),
}

#[derive(Debug)]
pub struct State {
    expected_workers: usize,
    workers: BTreeMap<u32, Worker>,
    workloads: BTreeMap<String, Held>,
    directory: Directory,
    /// What the agent named since it connected, until it says that this was all.
    snapshot: Option<HashSet<String>>,
    connection_events: bool,
}

/// A running worker, as far as it is known.
#[derive(Debug, Default)]
struct Worker {
    /// Workload messages that it has not answered, for each id: it answers each, in order.
    unanswered: HashMap<String, u32>,
    /// Workloads that it has.
    supplied: HashSet<String>,
}

impl State {
    pub fn new(expected_workers: usize) -> Self {
        Self {
            expected_workers,
            workers: BTreeMap::new(),
            workloads: BTreeMap::new(),
            directory: Directory::default(),
            snapshot: None,
            connection_events: false,
        }
    }

    pub fn connection_events(&self) -> bool {
        self.connection_events
    }

    /// What sockets of this workload are to carry, if it exists: its mark, and whether it has IPv6.
    pub fn mark(&self, id: &str) -> Option<(u32, bool)> {
        let held = self.workloads.get(id)?;
        Some((held.newest()?.mark, held.listeners.ipv6))
    }

    /// A new agent says what should exist; the former one's questions are not answered any more.
    pub fn agent_connected(&mut self) -> Vec<Action> {
        self.snapshot = Some(HashSet::new());
        self.directory.start_snapshot();
        self.agent_gone()
    }

    pub fn agent_gone(&mut self) -> Vec<Action> {
        for pending in self.workloads.values_mut().filter_map(|held| held.pending.as_mut()) {
            pending.seq = None;
        }
        self.wish_connection_events(false)
    }

    /// Everything but adding a workload, which needs [`install`](Self::install).
    pub fn request(&mut self, seq: u64, word: Word) -> Vec<Action> {
        let mut actions = Vec::new();
        let result = match word {
            Word::Keep { workload } => {
                self.name(&workload);
                match self.workloads.get(&workload).filter(|held| held.settled.is_some()) {
                    Some(held) => AnswerResult::Listening(held.listeners),
                    None => AnswerResult::Unknown,
                }
            }
            Word::SnapshotSent => {
                actions.extend(self.end_snapshot());
                AnswerResult::Done
            }
            Word::Add { object: Object::Workload(_) } => AnswerResult::Failed(failure(
                FailureKind::BadRequest,
                "a workload comes with its network namespace as the frame's only descriptor; send it".into(),
            )),
            Word::Add { object: Object::Directory(entries) } => {
                let messages = self.directory.add(entries);
                actions.extend(self.tell_all(&messages));
                AnswerResult::Done
            }
            Word::Add { object: Object::ConnectionEvents } => {
                actions.extend(self.wish_connection_events(true));
                AnswerResult::Done
            }
            Word::Del { name: Name::Workload(id) } => {
                actions.extend(self.remove(&id));
                AnswerResult::Done
            }
            Word::Del { name: Name::Directory(keys) } => {
                let messages = self.directory.remove(keys);
                actions.extend(self.tell_all(&messages));
                AnswerResult::Done
            }
            Word::Del { name: Name::ConnectionEvents } => {
                actions.extend(self.wish_connection_events(false));
                AnswerResult::Done
            }
        };
        actions.push(answer(seq, result));
        actions
    }

    /// The listeners of a workload that is there, confirmed or not.
    pub fn listeners(&self, id: &str) -> Option<Listeners> {
        self.workloads.get(id).map(|held| held.listeners)
    }

    /// Brings a [`check`]ed workload to all workers, or new settings to one that is there; the answer comes when all
    /// have it. `listeners`: freshly opened where [`listeners`](Self::listeners) knew none.
    pub fn install(&mut self, seq: u64, workload: Workload, listeners: Listeners) -> Vec<Action> {
        let id = workload.id.clone();
        self.name(&id);
        let held = self.workloads.entry(id.clone()).or_insert(Held { settled: None, listeners, pending: None });
        let superseded = held.pending.replace(Pending::new(seq, workload));
        let mut actions: Vec<Action> = superseded.and_then(|pending| overtaken(&pending)).into_iter().collect();
        for number in self.workers.keys().copied().collect::<Vec<_>>() {
            actions.extend(self.tell_workload(number, &id));
        }
        actions
    }

    /// A fresh process: it is told everything.
    pub fn worker_started(&mut self, number: u32) -> Vec<Action> {
        self.workers.insert(number, Worker::default());
        let wish = ToWorker::ConnectionEvents { wanted: self.connection_events };
        let messages = std::iter::once(wish).chain(self.directory.all());
        let mut actions: Vec<Action> = messages.map(|message| tell(number, message)).collect();
        for id in self.workloads.keys().cloned().collect::<Vec<_>>() {
            actions.extend(self.tell_workload(number, &id));
        }
        actions
    }

    pub fn worker_ended(&mut self, number: u32) -> Vec<Action> {
        self.workers.remove(&number);
        let mut fatal = Vec::new();
        for (id, held) in &mut self.workloads {
            if let Some(pending) = &mut held.pending {
                pending.deaths += 1;
                if pending.deaths >= DEATHS {
                    pending.refused = Some(failure(
                        FailureKind::Kernel,
                        "workers end as soon as they get this workload; look at the upgrader's log".into(),
                    ));
                    fatal.push(id.clone());
                }
            }
        }
        fatal.iter().flat_map(|id| self.roll_back(id)).collect()
    }

    /// Everything but events and wishes for sockets.
    pub fn worker_said(&mut self, number: u32, message: FromWorker) -> Vec<Action> {
        match message {
            FromWorker::Installed { id } => self.answered(number, &id, None),
            FromWorker::BadIdentity { id, message } => {
                let message: String = message.chars().take(TEXT).collect();
                self.answered(number, &id, Some(failure(FailureKind::BadIdentity, message)))
            }
            FromWorker::Ready | FromWorker::WantSockets { .. } | FromWorker::Event(_) => Vec::new(),
        }
    }

    /// Takes the workload from all workers; nothing of it is left.
    pub fn remove(&mut self, id: &str) -> Vec<Action> {
        let Some(held) = self.workloads.remove(id) else { return Vec::new() };
        for worker in self.workers.values_mut() {
            worker.supplied.remove(id);
        }
        let mut actions = self.tell_all(&[ToWorker::RemoveWorkload { id: id.into() }]);
        actions.push(Action::Release { id: id.into() });
        actions.extend(held.pending.and_then(|pending| overtaken(&pending)));
        actions
    }

    fn name(&mut self, id: &str) {
        if let Some(named) = &mut self.snapshot {
            named.insert(id.into());
        }
    }

    fn end_snapshot(&mut self) -> Vec<Action> {
        let Some(named) = self.snapshot.take() else { return Vec::new() };
        let unnamed: Vec<String> = self.workloads.keys().filter(|id| !named.contains(*id)).cloned().collect();
        let mut actions: Vec<Action> = unnamed.iter().flat_map(|id| self.remove(id)).collect();
        let messages = self.directory.end_snapshot();
        actions.extend(self.tell_all(&messages));
        actions
    }

    fn wish_connection_events(&mut self, wanted: bool) -> Vec<Action> {
        if std::mem::replace(&mut self.connection_events, wanted) == wanted && !wanted {
            return Vec::new();
        }
        // Said again where it is wished already: it brings the connections that are open.
        self.tell_all(&[ToWorker::ConnectionEvents { wanted }])
    }

    fn tell_all(&self, messages: &[ToWorker]) -> Vec<Action> {
        let to = |number: &u32| messages.iter().map(|message| tell(*number, message.clone())).collect::<Vec<_>>();
        self.workers.keys().flat_map(to).collect()
    }

    /// All that this worker lacks of a workload: the settled form first, so that it has one to keep, and listeners with
    /// each, since it may refuse the first.
    fn tell_workload(&mut self, number: u32, id: &str) -> Vec<Action> {
        let (Some(worker), Some(held)) = (self.workers.get_mut(&number), self.workloads.get(id)) else {
            return Vec::new();
        };
        let descriptors = !worker.supplied.contains(id);
        let settled = held.settled.as_ref().filter(|_| descriptors);
        let forms = settled.into_iter().chain(held.pending.as_ref().map(|pending| &pending.workload));
        let mut actions = Vec::new();
        for workload in forms {
            *worker.unanswered.entry(id.into()).or_default() += 1;
            let message = ToWorker::Workload { workload: Box::new(workload.clone()), listeners: held.listeners };
            actions.push(Action::Tell { worker: number, message, descriptors });
        }
        actions
    }

    fn answered(&mut self, number: u32, id: &str, refused: Option<Failure>) -> Vec<Action> {
        let Some(worker) = self.workers.get_mut(&number) else { return Vec::new() };
        let Some(count) = worker.unanswered.get_mut(id) else { return Vec::new() };
        *count -= 1;
        let last = *count == 0;
        if last {
            worker.unanswered.remove(id);
        }
        let mut actions = Vec::new();
        let Some(held) = self.workloads.get_mut(id) else { return actions };
        match (refused, &mut held.pending) {
            (None, _) => {
                if worker.supplied.insert(id.into()) {
                    actions.push(Action::Supply { worker: number, id: id.into() });
                }
            }
            (Some(failure), Some(pending)) if last => pending.refused = Some(failure),
            (Some(failure), _) if !worker.supplied.contains(id) => actions.push(Action::Say(format!(
                "worker {number} can't have workload {id} any more: {}; give it a new identity",
                failure.message
            ))),
            (Some(_), _) => {}
        }
        if last {
            actions.extend(self.settle(id));
        }
        actions
    }

    /// Ends an addition that all workers have answered.
    fn settle(&mut self, id: &str) -> Vec<Action> {
        let answered = |worker: &Worker| !worker.unanswered.contains_key(id);
        if self.workers.len() < self.expected_workers || !self.workers.values().all(answered) {
            return Vec::new();
        }
        let Some(held) = self.workloads.get_mut(id) else { return Vec::new() };
        match held.pending.take() {
            None => Vec::new(),
            Some(pending) if pending.refused.is_some() => {
                held.pending = Some(pending);
                self.roll_back(id)
            }
            Some(pending) => {
                held.settled = Some(pending.workload);
                let listening = AnswerResult::Listening(held.listeners);
                pending.seq.map(|seq| answer(seq, listening)).into_iter().collect()
            }
        }
    }

    /// A workload that was there keeps its former form; of a new one nothing is left.
    fn roll_back(&mut self, id: &str) -> Vec<Action> {
        let Some(held) = self.workloads.get_mut(id) else { return Vec::new() };
        let Some(pending) = held.pending.take() else { return Vec::new() };
        let failed = pending.seq.zip(pending.refused);
        let mut actions = Vec::new();
        if let Some(settled) = held.settled.clone() {
            let listeners = held.listeners;
            for (number, worker) in self.workers.iter_mut().filter(|(_, worker)| worker.supplied.contains(id)) {
                *worker.unanswered.entry(id.into()).or_default() += 1;
                let message = ToWorker::Workload { workload: Box::new(settled.clone()), listeners };
                actions.push(tell(*number, message));
            }
        } else {
            actions.extend(self.remove(id));
        }
        actions.extend(failed.map(|(seq, failure)| answer(seq, AnswerResult::Failed(failure))));
        actions
    }
}

fn tell(worker: u32, message: ToWorker) -> Action {
    Action::Tell { worker, message, descriptors: false }
}

fn answer(seq: u64, result: AnswerResult) -> Action {
    Action::Answer(Answer { seq, result })
}

fn failure(kind: FailureKind, message: String) -> Failure {
    Failure { kind, message }
}

fn overtaken(pending: &Pending) -> Option<Action> {
    let message = "a later request about this workload came before it was in place; that one counts".into();
    pending.seq.map(|seq| answer(seq, AnswerResult::Failed(failure(FailureKind::BadRequest, message))))
}
