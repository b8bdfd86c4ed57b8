//! `jfe`: one call of a container runtime, taken to the node's agent.

use std::process::ExitCode;

use jfe_cni_plugin::call;
use jfe_cni_plugin::deadline::Deadline;
use jfe_cni_plugin::environment::Environment;

fn main() -> ExitCode {
    let mut deadline = Deadline::start();
    let environment = Environment::of_this_process();
    call::answer(&environment, &mut deadline).print(deadline.left_to_print())
}
