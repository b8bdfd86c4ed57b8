//! Where the agent connects.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use jfe_control::Link;
use rustix::fs::Mode;

use crate::error::BrokerError;
use crate::log;

/// Listens on `path`, for its owner alone. A socket that nobody answers on is replaced.
pub fn listen(path: &Path) -> Result<UnixListener, BrokerError> {
    let refused = |source| BrokerError::Control { path: path.to_owned(), source };
    if UnixStream::connect(path).is_ok() {
        return Err(BrokerError::AlreadyRunning(path.to_owned()));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path).map_err(refused)?,
        Ok(_) => return Err(refused(io::ErrorKind::AlreadyExists.into())),
        Err(_) => {}
    }
    // The file is made with the right mode: no moment in which another could connect.
    let before = rustix::process::umask(Mode::XUSR | Mode::RWXG | Mode::RWXO);
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener.map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

/// The newest agent that waits, if root or this process's own user is behind it.
pub fn accept(listener: &UnixListener) -> io::Result<Option<Link>> {
    let mut newest = None;
    loop {
        match listener.accept() {
            Ok((socket, _)) if may_speak(&socket) => newest = Some(Link::new(socket.into())),
            Ok(_) => log::line("a connection of another user to the control socket was closed"),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(newest),
            Err(error) => return newest.map_or(Err(error), |link| Ok(Some(link))),
        }
    }
}

fn may_speak(socket: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(socket.as_fd())
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}
