use std::io;
use std::net::SocketAddr;

use crate::arguments::USAGE;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{0}\n{USAGE}")]
    Usage(String),
    #[error("can't listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("can't connect to {address}: {error}; see whether its server and the proxies between run")]
    Connect { address: SocketAddr, error: io::Error },
    #[error("{what} failed: {error}")]
    Broken { what: &'static str, error: io::Error },
    #[error("the far end sent something else than what it was asked for")]
    WrongAnswer,
    #[error("{failed} of {tried} connections failed, the last with: {last}")]
    SomeFailed { failed: usize, tried: usize, last: Box<LoadError> },
    #[error("a measuring thread panicked")]
    ThreadLost,
}

impl LoadError {
    pub fn broken(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Broken { what, error }
    }
}
