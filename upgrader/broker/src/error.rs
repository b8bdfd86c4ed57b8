use std::io;
use std::path::PathBuf;

use jfe_control::message::{Failure, FailureKind};

/// What keeps the broker from starting, or ends it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    // The caller is at fault.
    #[error("{0}; usage: jfe-upgrader --control PATH [--workers N] [--worker-binary PATH]")]
    Arguments(String),
    #[error("another upgrader answers on {0}; stop it first, or give another --control")]
    AlreadyRunning(PathBuf),
    // The host is at fault.
    #[error("can't listen on {path}: {source}; its directory must exist and be writable by root alone")]
    Control { path: PathBuf, source: io::Error },
    #[error("{0} can't be found; build it, or give --worker-binary")]
    NoWorkerBinary(PathBuf),
    #[error("can't read this process's own network namespace: {0}; mount /proc")]
    OwnNamespace(io::Error),
    #[error("can't watch for signals: {0}")]
    Signals(io::Error),
    #[error("can't wait for events: {0}")]
    Wait(io::Error),
    // To go on elsewhere would open sockets of one workload in the namespace of another.
    #[error("can't return to the network namespace of the host: {0}; ending so as not to act in a workload's")]
    Lost(io::Error),
}

/// Why nothing could be opened for a workload.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    // The agent is at fault.
    #[error("the descriptor is no network namespace any more; look whether the workload still runs")]
    NamespaceGone,
    // The host is at fault; later may succeed.
    #[error(
        "no port from 1024 on is free on loopback outside net.ipv4.ip_local_port_range ({low}-{high}) in the \
         workload's namespace; narrow that range"
    )]
    NoPort { low: u16, high: u16 },
    #[error("out of descriptors or memory ({0}); raise RLIMIT_NOFILE of the upgrader or release workloads")]
    Exhausted(io::Error),
    // The kernel is at fault.
    #[error("can't {step} in the workload's namespace: {source}; the upgrader needs CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Refused { step: &'static str, source: io::Error },
    // This process must end.
    #[error(transparent)]
    Fatal(#[from] BrokerError),
}

impl OpenError {
    /// For `map_err`.
    pub fn refused(step: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Exhausted(source),
            _ => Self::Refused { step, source },
        }
    }

    pub fn failure(&self) -> Failure {
        let kind = match self {
            Self::NamespaceGone => FailureKind::NamespaceGone,
            Self::NoPort { .. } | Self::Exhausted(_) => FailureKind::Exhausted,
            Self::Refused { .. } | Self::Fatal(_) => FailureKind::Kernel,
        };
        Failure { kind, message: self.to_string() }
    }
}
