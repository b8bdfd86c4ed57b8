use std::fmt;
use std::io;

/// After any of these the process is half closed and must end.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    // This program is at fault; the same again fails again.
    #[error("{0} threads run where the sandbox closes; close it before any is started")]
    Threads(usize),
    #[error("descriptors {0:?} are open; close them, or name those that are to be kept")]
    Descriptors(Vec<i32>),
    #[error("capabilities are left after all were dropped; report this as a bug")]
    StillPrivileged,
    // The kernel refused: the host must offer what is missing.
    #[error("can't {step}: {source}; {}", step.advice())]
    Refused { step: Step, source: io::Error },
    #[error("the filter of system calls can't be loaded: {0}; the kernel needs CONFIG_SECCOMP_FILTER")]
    Filter(seccompiler::Error),
    #[error(
        "no heap of 64 MiB can be had; free some memory, or look at vm.overcommit_memory; this program needs the GNU C library"
    )]
    Heap,
    // Nobody is at fault.
    #[error("the broker ended meanwhile; nothing is left to do")]
    ParentGone,
}

/// What the kernel was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    CloseInherited,
    ReadProc,
    LeaveFileSystem,
    ChangeUser,
    DropCapabilities,
    SetLimits,
    DieWithParent,
}

impl Step {
    fn advice(self) -> &'static str {
        match self {
            Self::ReadProc => "mount /proc",
            Self::CloseInherited => "the kernel must be 5.9 or newer",
            Self::LeaveFileSystem => {
                "start the upgrader as root with CAP_SYS_CHROOT; one of /run, /tmp, /dev/shm must be writable"
            }
            Self::ChangeUser | Self::DropCapabilities | Self::SetLimits => {
                "start the upgrader as root, with CAP_SETUID, CAP_SETGID and CAP_SETPCAP"
            }
            Self::DieWithParent => "report this as a bug",
        }
    }

    /// For `map_err`.
    pub(crate) fn refused<E: Into<io::Error>>(self) -> impl FnOnce(E) -> SandboxError {
        move |source| SandboxError::Refused { step: self, source: source.into() }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CloseInherited => "close inherited descriptors",
            Self::ReadProc => "read /proc/self",
            Self::LeaveFileSystem => "leave the file system",
            Self::ChangeUser => "become nobody",
            Self::DropCapabilities => "drop capabilities",
            Self::SetLimits => "set limits",
            Self::DieWithParent => "ask to be killed when the broker ends",
        })
    }
}
