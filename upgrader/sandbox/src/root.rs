//! A root directory in which nothing is and nothing can be made.

use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, fstat, mkdir, open, rmdir};
use rustix::io::Errno;
use rustix::process::{chdir, chroot, fchdir};

use crate::{SandboxError, Step};

/// Where a directory can be made for a moment: hosts with a read-only file system have one of these.
const PARENTS: [&str; 3] = ["/run", "/tmp", "/dev/shm"];

/// Makes a removed directory this process's root. The kernel makes no entry in a removed directory (`IS_DEADDIR`,
/// fs/namei.c), it has no name by which another could reach it, and no mount is needed.
pub fn leave_file_system() -> Result<(), SandboxError> {
    let directory = removed_directory()?;
    let step = || {
        fchdir(&directory)?;
        chroot(".")?;
        chdir("/")
    };
    step().map_err(Step::LeaveFileSystem.refused())
}

fn removed_directory() -> Result<std::os::fd::OwnedFd, SandboxError> {
    let mut last = Errno::NOENT;
    for parent in PARENTS {
        match removed_directory_in(parent) {
            Ok(directory) => return Ok(directory),
            Err(error) => last = error,
        }
    }
    Err(Step::LeaveFileSystem.refused()(last))
}

fn removed_directory_in(parent: &str) -> Result<std::os::fd::OwnedFd, Errno> {
    let path: PathBuf = [parent, &format!("jfe-empty-{}", std::process::id())].iter().collect();
    match mkdir(&path, Mode::empty()) {
        // Left by a worker that was killed between two of these lines.
        Err(Errno::EXIST) => {
            rmdir(&path)?;
            mkdir(&path, Mode::empty())?;
        }
        other => other?,
    }
    let directory = open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    rmdir(&path)?;
    let directory = directory?;
    // What was opened is what was removed.
    if fstat(&directory)?.st_nlink == 0 { Ok(directory) } else { Err(Errno::NOTEMPTY) }
}
