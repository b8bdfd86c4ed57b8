//! The loop: what the agent and workers say goes into [`State`], and what comes out of it is done.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jfe_control::message::{Answer, AnswerResult, Failure, FailureKind, Object, Request, SocketKind, ToWorker, Word};
use jfe_control::{Frame, FrameError, Link};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::error::{BrokerError, OpenError};
use crate::namespace::{Home, same};
use crate::outbox::{Outbox, QUEUED};
use crate::reserve::Reserve;
use crate::state::{Action, State, check};
use crate::worker::Worker;
use crate::{control_socket, listener, log, socket};

mod agent;
mod workers;

/// Frames of one link handled before the others have their turn.
const TURN: usize = 64;

/// How long to wait after a connection to the control socket could not be accepted.
const DEAF: Duration = Duration::from_secs(1);

/// Sockets of each kind that a worker gets unasked with each workload.
const SUPPLY: usize = 2;

#[derive(Debug)]
pub struct Broker {
    home: Home,
    control: UnixListener,
    /// Readable when the process is to end.
    stop: UnixStream,
    worker_binary: PathBuf,
    agent: Option<Link>,
    workers: Vec<Worker>,
    state: State,
    opened: HashMap<String, Opened>,
    outbox: Outbox,
    complaints: log::Seldom,
    reserve: Reserve,
    /// Until then no agent is accepted, since that failed.
    deaf_until: Option<Instant>,
}

/// What belongs to a workload here.
#[derive(Debug)]
struct Opened {
    namespace: OwnedFd,
    /// In the order of [`ToWorker::Workload`].
    listeners: Vec<Arc<OwnedFd>>,
}

/// What became ready.
#[derive(Debug, Default)]
struct Ready {
    stop: bool,
    control: bool,
    agent: bool,
    workers: Vec<usize>,
    outputs: Vec<usize>,
}

impl Broker {
    pub fn new(control: UnixListener, stop: UnixStream, workers: u32, binary: PathBuf) -> Result<Self, BrokerError> {
        let now = Instant::now();
        let workers: Vec<Worker> = (0..workers).map(|number| Worker::new(number, now)).collect();
        Ok(Self {
            home: Home::new()?,
            control,
            stop,
            worker_binary: binary,
            agent: None,
            state: State::new(workers.len()),
            workers,
            opened: HashMap::new(),
            outbox: Outbox::default(),
            complaints: log::Seldom::default(),
            reserve: Reserve::new(),
            deaf_until: None,
        })
    }

    /// Until the process is to end; then its workers have ended.
    pub fn run(&mut self) -> Result<(), BrokerError> {
        let result = self.serve();
        for worker in &mut self.workers {
            worker.end("the upgrader ends", Instant::now());
        }
        result
    }

    fn serve(&mut self) -> Result<(), BrokerError> {
        loop {
            self.start_workers()?;
            self.flush()?;
            let ready = self.wait()?;
            if ready.stop {
                return Ok(());
            }
            for index in ready.outputs {
                self.workers[index].hear();
            }
            for index in ready.workers {
                self.hear_worker(index)?;
            }
            if ready.agent {
                self.hear_agent()?;
            }
            if ready.control {
                self.take_agent()?;
            }
        }
    }

    fn wait(&self) -> Result<Ready, BrokerError> {
        let now = Instant::now();
        let deaf = self.deaf_until.filter(|until| *until > now);
        let timeout = self.workers.iter().filter_map(Worker::next_start).chain(deaf).min();
        let timeout = timeout.map(|at| at.saturating_duration_since(now));
        let timeout = timeout.and_then(|duration| Timespec::try_from(duration).ok());
        let mut waited = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.control, if deaf.is_none() { PollFlags::IN } else { PollFlags::empty() }),
        ];
        let agent = self.agent.as_ref().map(|link| waited_for(&mut waited, link.as_fd(), agent_flags(link)));
        let (mut links, mut outputs) = (Vec::new(), Vec::new());
        for (index, worker) in self.workers.iter().enumerate() {
            let Some(process) = &worker.process else { continue };
            let out = if process.link.queued_bytes() > 0 { PollFlags::OUT } else { PollFlags::empty() };
            links.push((index, waited_for(&mut waited, process.link.as_fd(), PollFlags::IN | out)));
            if let Some(stderr) = process.stderr() {
                outputs.push((index, waited_for(&mut waited, stderr.as_fd(), PollFlags::IN)));
            }
        }
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(BrokerError::Wait(error.into())),
        }
        let ready = |at: usize| !waited[at].revents().is_empty();
        let of = |places: Vec<(usize, usize)>| places.into_iter().filter(|(_, at)| ready(*at)).map(|(index, _)| index);
        Ok(Ready {
            stop: ready(0),
            control: ready(1),
            agent: agent.is_some_and(ready),
            workers: of(links).collect(),
            outputs: of(outputs).collect(),
        })
    }

    fn act(&mut self, actions: Vec<Action>) -> Result<(), BrokerError> {
        for action in actions {
            match action {
                Action::Tell { worker, message, descriptors } => self.tell(worker, &message, descriptors),
                Action::Supply { worker, id } => {
                    let ipv6 = self.state.mark(&id).is_some_and(|(_, ipv6)| ipv6);
                    for kind in socket::KINDS.into_iter().filter(|kind| ipv6 || !socket::is_ipv6(*kind)) {
                        self.give_sockets(worker, &id, kind, SUPPLY)?;
                    }
                }
                Action::Answer(answer) => self.answer(&answer),
                Action::Release { id } => drop(self.opened.remove(&id)),
                Action::Say(text) => log::line(&text),
            }
        }
        Ok(())
    }
}

fn waited_for<'fd>(waited: &mut Vec<PollFd<'fd>>, descriptor: BorrowedFd<'fd>, flags: PollFlags) -> usize {
    waited.push(PollFd::from_borrowed_fd(descriptor, flags));
    waited.len() - 1
}

/// An agent that does not read its answers is not read either.
fn agent_flags(link: &Link) -> PollFlags {
    let reading = if link.queued_bytes() < QUEUED { PollFlags::IN } else { PollFlags::empty() };
    if link.queued_bytes() > 0 { reading | PollFlags::OUT } else { reading }
}
