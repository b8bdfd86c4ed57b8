//! What the broker says.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use jfe_control::frame::Frame;
use jfe_control::message::{self, FromWorker, Listeners, Phase, SocketKind, ToWorker};
use jfe_decide::{Cover, Entry, Refuse};
use mio::Interest;
use mio::unix::SourceFd;

use crate::accept::FOR_ORDERS;
use crate::connections::Source;
use crate::worker::{BrokerLost, Worker};
use crate::workload::{self, Workload};

impl Worker {
    pub fn hear_broker(&mut self, writable: bool) -> Result<(), BrokerLost> {
        if writable {
            self.link.flush().map_err(|_| BrokerLost)?;
        }
        while let Some(frame) = self.link.receive().map_err(|_| BrokerLost)? {
            let order = frame.parse().map_err(|_| BrokerLost)?;
            self.obey(order, frame)?;
        }
        Ok(())
    }

    fn obey(&mut self, order: ToWorker, frame: Frame) -> Result<(), BrokerLost> {
        match order {
            ToWorker::Workload { workload, listeners } => self.install(&workload, listeners, frame.descriptors)?,
            ToWorker::RemoveWorkload { id } => self.remove_workload(&id),
            ToWorker::Directory { entries } => {
                for entry in entries {
                    self.add_to_directory(entry);
                }
                self.directory_changed();
            }
            ToWorker::RemoveDirectory { keys } => {
                for key in keys {
                    if let Some(network) = workload::network(key.network) {
                        self.directory.remove(network, key.port);
                    }
                }
                self.directory_changed();
            }
            ToWorker::Sockets { id, kind } => self.take_sockets(&id, kind, frame.descriptors),
            ToWorker::NoSockets { id, kind } => {
                if let Some(index) = self.find_workload(&id) {
                    self.refuse_waiting(index, kind);
                    self.refuse_waiting_probes(index, kind);
                }
            }
            ToWorker::ConnectionEvents { wanted } => self.want_connection_events(wanted),
        }
        Ok(())
    }

    fn find_workload(&mut self, id: &str) -> Option<usize> {
        self.workloads.iter_mut().find(|(_, workload)| workload.id == id).map(|(index, _)| index)
    }

    // --- workloads -------------------------------------------------------------------------------------------------

    fn install(
        &mut self,
        settings: &message::Workload,
        ports: Listeners,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), BrokerLost> {
        let id = settings.id.clone();
        let remembered = self.remembered.clone();
        let known = self.find_workload(&id).and_then(|index| self.workloads.get_mut(index));
        let installed = if let Some(workload) = known {
            workload.replace(settings, &remembered)
        } else {
            let listeners = workload::listeners(ports, descriptors).ok_or(BrokerLost)?;
            Workload::new(settings, listeners, &remembered).map(|workload| self.listen(workload))
        };
        match installed {
            Ok(()) => self.tell(&FromWorker::Installed { id }),
            Err(error) => self.tell(&FromWorker::BadIdentity { id, message: error.to_string() }),
        }
    }

    fn listen(&mut self, workload: Workload) {
        let index = self.workloads.insert(Box::new(workload));
        let Some(workload) = self.workloads.get_mut(index) else { return };
        for (place, listener) in workload.listeners.iter().enumerate() {
            let token = Source::Listener(index, place).into();
            let listener = listener.socket.as_raw_fd();
            // It can fail for want of memory only; the listener's queue then fills, and its peers see a time-out.
            let _ = self.poll.registry().register(&mut SourceFd(&listener), token, Interest::READABLE);
        }
        self.accept_pending = true;
    }

    fn remove_workload(&mut self, id: &str) {
        let Some(index) = self.find_workload(id) else { return };
        for connection in self.connections.indices() {
            if self.connections.get_mut(connection).is_some_and(|entry| entry.workload == index) {
                self.end_refused(connection, Refuse::WorkloadRemoved);
            }
        }
        self.end_probes_of(index);
        if let Some(workload) = self.workloads.take(index) {
            for listener in &workload.listeners {
                // Others hold the same socket open, so closing it would not end its events.
                let _ = self.poll.registry().deregister(&mut SourceFd(&listener.socket.as_fd().as_raw_fd()));
            }
        }
        self.workloads.free(index);
    }

    fn take_sockets(&mut self, id: &str, kind: SocketKind, mut sockets: Vec<OwnedFd>) {
        let Some(index) = self.find_workload(id) else { return };
        sockets.retain(|socket| !self.is_among_the_last(FOR_ORDERS, socket.as_fd()));
        if sockets.is_empty() {
            // Asking again would bring the same; whoever waits is better refused than kept.
            self.refuse_waiting(index, kind);
            self.refuse_waiting_probes(index, kind);
            return;
        }
        if let Some(workload) = self.workloads.get_mut(index) {
            workload.fresh(kind).arrived(sockets);
        }
        self.serve_waiting(index, kind);
    }

    // --- directory -------------------------------------------------------------------------------------------------

    fn add_to_directory(&mut self, entry: message::DirectoryEntry) {
        let Some(network) = workload::network(entry.key.network) else { return };
        let cover = match entry.cover {
            message::Cover::Covered => Cover::Covered,
            message::Cover::Wished => Cover::Wished,
        };
        let (identity, excluded_ports) = (entry.identity, entry.excluded_ports);
        self.directory.insert(network, entry.key.port, Entry { identity, cover, excluded_ports });
    }

    /// Those who wait for a peer to be covered ask again.
    fn directory_changed(&mut self) {
        for index in self.connections.indices() {
            if self.connections.get_mut(index).is_some_and(|entry| !entry.connection.is_settled()) {
                self.drive(index);
            }
        }
    }

    // --- events ----------------------------------------------------------------------------------------------------

    fn want_connection_events(&mut self, wanted: bool) {
        self.report.connection_events_wanted = wanted;
        if !wanted {
            return;
        }
        for index in self.connections.indices() {
            if let Some(mut entry) = self.connections.take(index) {
                let phase = if entry.report.decided.is_some() { Phase::Decided } else { Phase::Open };
                self.tell_event(&mut entry, phase);
                self.connections.put_back(index, entry);
            }
        }
    }
}
