//! Entering a workload's network namespace, and coming back.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{BrokerError, OpenError};

/// The network namespace in which this process lives. A namespace is that of a thread; the broker has one.
#[derive(Debug)]
pub struct Home {
    namespace: File,
}

impl Home {
    pub fn new() -> Result<Self, BrokerError> {
        let namespace = File::open("/proc/thread-self/ns/net").map_err(BrokerError::OwnNamespace)?;
        Ok(Self { namespace })
    }

    /// Does `task` in `namespace`. After [`BrokerError::Lost`] the process is in the wrong one and must end.
    pub fn within<T>(
        &self,
        namespace: BorrowedFd<'_>,
        task: impl FnOnce() -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        enter(namespace).map_err(|error| match error {
            // A file that is no namespace (any more) is a regular one.
            Errno::INVAL | Errno::BADF => OpenError::NamespaceGone,
            error => OpenError::refused("enter a namespace")(error.into()),
        })?;
        let result = task();
        enter(self.namespace.as_fd()).map_err(|error| BrokerError::Lost(error.into()))?;
        result
    }
}

fn enter(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
}

/// Whether both are the same namespace (`ioctl_ns(2)`: same device and inode).
pub fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let identity = |descriptor| fstat(descriptor).map(|found| (found.st_dev, found.st_ino)).ok();
    identity(one).is_some() && identity(one) == identity(other)
}
