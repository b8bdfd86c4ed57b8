//! `jfe-retired`: lies where the plugin `jfe` was once jfe has been uninstalled, for the chains that still name it.

use std::process::ExitCode;

use jfe_cni_plugin::deadline::Deadline;
use jfe_cni_plugin::environment::Environment;
use jfe_cni_plugin::retired;

fn main() -> ExitCode {
    let deadline = Deadline::start();
    let environment = Environment::of_this_process();
    retired::answer(&environment, &deadline).print(deadline.left_to_print())
}
