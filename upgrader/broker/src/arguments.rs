use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::BrokerError;

/// Workers at most: their number has 16 bits in a connection's, and each is a process with a loop of its own.
const MOST_WORKERS: u32 = 256;

const WORKER: &str = "jfe-upgrader-worker";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Where the agent connects.
    pub control: PathBuf,
    pub workers: u32,
    pub worker_binary: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Run(Arguments),
    Version,
}

/// `program`: where this binary lies; the worker's is beside it, unless said otherwise.
pub fn parse(given: impl IntoIterator<Item = OsString>, program: &std::path::Path) -> Result<Wish, BrokerError> {
    let (mut control, mut workers, mut worker_binary) = (None, 1, program.with_file_name(WORKER));
    let mut given = given.into_iter();
    while let Some(name) = given.next() {
        let mut value =
            || given.next().ok_or_else(|| BrokerError::Arguments(format!("{} needs a value", name.to_string_lossy())));
        match name.to_str() {
            Some("--version") => return Ok(Wish::Version),
            Some("--control") => control = Some(PathBuf::from(value()?)),
            Some("--worker-binary") => worker_binary = PathBuf::from(value()?),
            Some("--workers") => workers = number(&value()?)?,
            _ => return Err(BrokerError::Arguments(format!("{} is not known", name.to_string_lossy()))),
        }
    }
    let control = control.ok_or_else(|| BrokerError::Arguments("--control is missing".into()))?;
    Ok(Wish::Run(Arguments { control, workers, worker_binary }))
}

fn number(value: &OsString) -> Result<u32, BrokerError> {
    let number = value.to_str().and_then(|text| text.parse().ok()).filter(|number| (1..=MOST_WORKERS).contains(number));
    number.ok_or_else(|| BrokerError::Arguments(format!("--workers takes a number from 1 to {MOST_WORKERS}")))
}
