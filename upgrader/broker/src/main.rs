//! `jfe-upgrader`: the broker's process.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jfe_broker::arguments::{Arguments, Wish, parse};
use jfe_broker::broker::Broker;
use jfe_broker::error::BrokerError;
use jfe_broker::{control_socket, log};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// As sysexits.h has it for a wrong command line.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/"));
    let result = parse(std::env::args_os().skip(1), &program).and_then(|wish| match wish {
        Wish::Version => {
            println!("jfe-upgrader {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Wish::Run(arguments) => run(arguments),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&error.to_string());
            if matches!(error, BrokerError::Arguments(_)) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run(arguments: Arguments) -> Result<(), BrokerError> {
    if !arguments.worker_binary.is_file() {
        return Err(BrokerError::NoWorkerBinary(arguments.worker_binary));
    }
    let stop = watch_signals().map_err(BrokerError::Signals)?;
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        log::line(&format!("the limit of descriptors stays as it is: {error}"));
    }
    let control = control_socket::listen(&arguments.control)?;
    let result = Broker::new(control, stop, arguments.workers, arguments.worker_binary)?.run();
    // The next one replaces a socket that nobody answers on, so a file that stays does no harm.
    let _ = std::fs::remove_file(&arguments.control);
    result
}

/// Readable once the process is to end. `SIGPIPE` is ignored by the runtime already.
fn watch_signals() -> std::io::Result<UnixStream> {
    let (stop, writer) = UnixStream::pair()?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    // A handler that does nothing, since a worker would inherit a signal that is ignored.
    signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
    Ok(stop)
}
