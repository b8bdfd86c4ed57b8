//! What is answered once jfe has been uninstalled, by a program that needs nothing else of it.

use crate::call;
use crate::command::Command;
use crate::config;
use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::error::{CniError, Code};
use crate::input::Input;
use crate::outcome::Outcome;

const MESSAGE: &str =
    "jfe has been uninstalled, and the chain of plugins that the container runtime has loaded still names it";
const REMEDY: &str = "take the plugin of type jfe out of the network's configuration, where it still is, and have the runtime load it anew";

/// Containers that jfe has covered can go, and are no longer promised anything; new ones are not started bare behind
/// the back of whoever counts on the chain.
pub fn answer(environment: &Environment, deadline: &Deadline) -> Outcome {
    let code = match environment.command() {
        Err(missing) => return call::no_command(&missing, deadline),
        Ok(Command::Version) => return call::report_version(deadline),
        Ok(Command::Del | Command::Check | Command::Gc) => return Outcome::success(""),
        Ok(Command::Add) => Code::TryAgainLater,
        Ok(Command::Status) => Code::NotAvailable,
    };
    let input = Input::at_once(deadline);
    let error = CniError { code, message: MESSAGE.to_owned(), remedy: REMEDY };
    Outcome::error(&error, config::version_of(&input.bytes).as_deref())
}
