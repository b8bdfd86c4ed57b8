//! One call of a container runtime: which part of the answer is the agent's, and what holds while there is no agent.

use crate::agent::{self, Down};
use crate::answer::{Answer, Malformed};
use crate::command::{Command, NoCommand};
use crate::config::{self, Config};
use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::error::{CniError, Code};
use crate::input::Input;
use crate::json::Object;
use crate::outcome::Outcome;
use crate::{request, version};

/// The answers of the agent that are passed on.
const DONE: u16 = 200;
const CNI_ERROR: u16 = 422;

/// What to do while the agent does not answer.
const START_THE_AGENT: &str = "start jfe's agent on this node, or see in its log why it does not answer";

/// Answers this process's call.
pub fn answer(environment: &Environment, deadline: &mut Deadline) -> Outcome {
    match environment.command() {
        Err(missing) => no_command(&missing, deadline),
        Ok(Command::Version) => report_version(deadline),
        Ok(command) => {
            let input = Input::of_this_process(deadline);
            forward(command, environment, &input, deadline)
        }
    }
}

/// The answer to a call without a command of CNI.
pub fn no_command(missing: &NoCommand, deadline: &Deadline) -> Outcome {
    let remedy = "start this program through a container runtime, as a plugin of its network's chain";
    let error = |message| CniError { code: Code::InvalidEnvironment, message, remedy };
    match missing {
        // As the reference plugins do, for a person who starts one to see what it is; who gives no command gives no
        // configuration either.
        NoCommand::Absent => Outcome::error(&error("CNI_COMMAND is not set".to_owned()), None)
            .remarking(format!("CNI plugin jfe v{}", env!("CARGO_PKG_VERSION")))
            .remarking(format!("CNI protocol versions supported: {}", version::SUPPORTED.join(", "))),
        NoCommand::Unknown(name) => {
            let input = Input::at_once(deadline);
            let message = format!("CNI_COMMAND is \"{}\", which CNI {} does not know", name.display(), version::NEWEST);
            Outcome::error(&error(message), config::version_of(&input.bytes).as_deref())
        }
    }
}

/// The answer to VERSION, which needs no agent and hardly a configuration.
pub fn report_version(deadline: &Deadline) -> Outcome {
    let input = Input::at_once(deadline);
    Outcome::success(version::report(config::version_of(&input.bytes).as_deref()))
}

fn forward(command: Command, environment: &Environment, input: &Input, deadline: &mut Deadline) -> Outcome {
    if let Some(fault) = &input.fault {
        return refused(command, &fault.to_cni(), config::version_of(&input.bytes).as_deref());
    }
    let config = match Config::read(&input.bytes) {
        Ok(config) => config,
        Err(error) => return refused(command, &error.to_cni(), error.cni_version()),
    };
    deadline.set_limit(config.deadline);
    let asked = agent::ask(&config.agent_socket, request::encode(environment, &input.bytes), deadline);
    match asked.and_then(passed_on) {
        Ok(outcome) => outcome,
        Err(down) => without_agent(command, &config, &down),
    }
}

fn passed_on(answer: Answer) -> Result<Outcome, Down> {
    match answer.status {
        DONE => Ok(Outcome::success(answer.body)),
        CNI_ERROR if Object::read(&answer.body).is_ok() => Ok(Outcome::failure(answer.body)),
        CNI_ERROR => Err(Down::Malformed(Malformed("its error is no JSON object"))),
        status => Err(Down::Status(status)),
    }
}

/// DEL and GC never keep a container from going: what is left of one whose namespace is gone, the agent clears away when
/// it is back.
fn without_agent(command: Command, config: &Config, down: &Down) -> Outcome {
    let told = format!("jfe's agent does not answer at {}: {down}", config.agent_socket);
    let (code, then) = match command {
        Command::Add => (Code::TryAgainLater, "the pod is started when the agent is back"),
        Command::Check => (Code::TryAgainLater, "whether the pod is under cover is told when the agent is back"),
        Command::Status => (Code::NotAvailable, "no pod can be started until the agent is back"),
        Command::Del | Command::Gc | Command::Version => {
            let then = "what is left to clear away, the agent does when it is back";
            return Outcome::success("").remarking(format!("jfe: {command}: {told}; {then}"));
        }
    };
    let error = CniError { code, message: format!("{told}; {then}"), remedy: START_THE_AGENT };
    Outcome::error(&error, config.cni_version.as_deref())
}

/// The answer where stdin is not what the agent could be asked with.
fn refused(command: Command, error: &CniError, asked: Option<&str>) -> Outcome {
    match command {
        Command::Del | Command::Gc => Outcome::success("").remarking(format!("jfe: {command}: {}", error.message)),
        _ => Outcome::error(error, asked),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::read(br#"{"cniVersion": "0.4.0"}"#).unwrap()
    }

    fn text(outcome: &Outcome) -> String {
        String::from_utf8(outcome.result.clone()).unwrap()
    }

    #[test]
    fn without_an_agent_nothing_is_added_and_everything_may_go() {
        let told = |command| without_agent(command, &config(), &Down::NoSocket);
        assert_eq!(
            text(&told(Command::Add)),
            concat!(
                r#"{"cniVersion":"0.4.0","code":11,"msg":"jfe's agent does not answer at /run/jfe/agent.sock: "#,
                r#"the socket does not exist; the pod is started when the agent is back","#,
                r#""details":"start jfe's agent on this node, or see in its log why it does not answer"}"#,
                "\n"
            )
        );
        for (command, code) in [(Command::Add, 11), (Command::Check, 11), (Command::Status, 50)] {
            assert!(!told(command).succeeded, "{command}");
            assert!(text(&told(command)).contains(&format!("\"code\":{code},")), "{command}");
        }
        for command in [Command::Del, Command::Gc] {
            assert!(told(command).succeeded, "{command}");
            assert!(told(command).result.is_empty(), "{command}");
            assert_eq!(told(command).remarks.len(), 1, "{command}");
        }
    }

    #[test]
    fn only_a_result_and_an_error_object_of_the_agent_are_passed_on() {
        let answer = |status, body: &str| passed_on(Answer { status, body: body.into() });
        assert_eq!(answer(200, "").unwrap(), Outcome::success(""));
        assert_eq!(answer(200, "any").unwrap(), Outcome::success("any"));
        assert_eq!(answer(422, r#"{"code":7}"#).unwrap(), Outcome::failure(r#"{"code":7}"#));
        assert!(matches!(answer(422, "").unwrap_err(), Down::Malformed(_)));
        for status in [100, 201, 204, 400, 413, 500, 503] {
            assert!(matches!(answer(status, "{}").unwrap_err(), Down::Status(told) if told == status));
        }
    }
}
