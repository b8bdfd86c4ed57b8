//! The plugin's entry of a network configuration, as the runtime gives it on stdin (CNI SPEC 1.1.0, section 1).

use std::fmt;
use std::time::Duration;

use crate::deadline;
use crate::error::{CniError, Code};
use crate::json::{Object, Undecodable, Value};

pub const DEFAULT_AGENT_SOCKET: &str = "/run/jfe/agent.sock";

/// What fits in `sun_path` before its NUL (unix(7)).
const LONGEST_SOCKET: usize = 107;
const LONGEST_DEADLINE: f64 = 3600.0;

/// The fields that concern the plugin itself; everything else is read by the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub cni_version: Option<String>,
    /// `agentSocket`: absolute.
    pub agent_socket: String,
    /// `deadlineSeconds`: more than none, an hour at most.
    pub deadline: Duration,
}

impl Config {
    pub fn read(document: &[u8]) -> Result<Self, ConfigError> {
        let object = Object::read(document).map_err(ConfigError::Undecodable)?;
        let cni_version = version(&object);
        let invalid = |field| ConfigError::Invalid { field, cni_version: cni_version.clone() };
        let agent_socket = socket(object.get("agentSocket")).ok_or_else(|| invalid(Field::AgentSocket))?;
        let deadline = seconds(object.get("deadlineSeconds")).ok_or_else(|| invalid(Field::DeadlineSeconds))?;
        Ok(Self { cni_version, agent_socket, deadline })
    }
}

/// The `cniVersion` of a document, where there is one to be read.
pub fn version_of(document: &[u8]) -> Option<String> {
    Object::read(document).ok().as_ref().and_then(version)
}

fn version(object: &Object<'_>) -> Option<String> {
    match object.get("cniVersion") {
        Some(Value::String(version)) => Some(version.clone()),
        _ => None,
    }
}

fn socket(value: Option<&Value<'_>>) -> Option<String> {
    match value {
        None => Some(DEFAULT_AGENT_SOCKET.to_owned()),
        Some(Value::String(path)) => Some(path.clone())
            .filter(|path| path.starts_with('/') && path.len() <= LONGEST_SOCKET && !path.contains('\0')),
        Some(_) => None,
    }
}

fn seconds(value: Option<&Value<'_>>) -> Option<Duration> {
    match value {
        None => Some(deadline::DEFAULT),
        Some(Value::Number(number)) => {
            let seconds = number.parse().ok().filter(|seconds| *seconds <= LONGEST_DEADLINE)?;
            Duration::try_from_secs_f64(seconds).ok().filter(|deadline| !deadline.is_zero())
        }
        Some(_) => None,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    Undecodable(Undecodable),
    Invalid { field: Field, cni_version: Option<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    AgentSocket,
    DeadlineSeconds,
}

impl ConfigError {
    pub fn cni_version(&self) -> Option<&str> {
        match self {
            Self::Undecodable(_) => None,
            Self::Invalid { cni_version, .. } => cni_version.as_deref(),
        }
    }

    pub fn to_cni(&self) -> CniError {
        let (code, remedy) = match self {
            Self::Undecodable(_) => {
                (Code::Undecodable, "give the network configuration on stdin, as a container runtime does")
            }
            Self::Invalid { .. } => {
                (Code::InvalidConfig, "mend or remove that field in the plugin's entry of the chain")
            }
        };
        CniError { code, message: self.to_string(), remedy }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(error) => write!(formatter, "stdin holds no network configuration: {error}"),
            Self::Invalid { field: Field::AgentSocket, .. } => {
                write!(formatter, "agentSocket is not an absolute path of at most {LONGEST_SOCKET} bytes")
            }
            Self::Invalid { field: Field::DeadlineSeconds, .. } => {
                write!(formatter, "deadlineSeconds is not a number above 0 and up to {LONGEST_DEADLINE}")
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_defaults() {
        let config = Config::read(br#"{"cniVersion": "1.0.0", "agentSocket": null}"#).unwrap();
        assert_eq!(config.cni_version.as_deref(), Some("1.0.0"));
        assert_eq!(config.agent_socket, "/run/jfe/agent.sock");
        assert_eq!(config.deadline, Duration::from_secs(20));
    }

    #[test]
    fn what_is_said_is_taken() {
        let config = Config::read(br#"{"agentSocket": "/a\u002fb", "deadlineSeconds": 1.5}"#).unwrap();
        assert_eq!(config.cni_version, None);
        assert_eq!(config.agent_socket, "/a/b");
        assert_eq!(config.deadline, Duration::from_millis(1500));
    }

    #[test]
    fn a_value_that_can_not_be_meant_is_refused_by_its_fields_name() {
        let long = format!("\"/{}\"", "x".repeat(LONGEST_SOCKET));
        for socket in [r#""""#, r#""run/agent.sock""#, r#""@jfe""#, "1", "[]", r#""/a\u0000b""#, &long] {
            let error = Config::read(format!(r#"{{"agentSocket": {socket}}}"#).as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("agentSocket is"), "{socket}: {error}");
            assert_eq!(error.to_cni().code, Code::InvalidConfig);
        }
        for seconds in ["0", "-1", "1e-30", "1e999", "3601", "\"20\"", "true"] {
            let document = format!(r#"{{"cniVersion": "0.4.0", "deadlineSeconds": {seconds}}}"#);
            let error = Config::read(document.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with("deadlineSeconds is"), "{seconds}: {error}");
            assert_eq!(error.cni_version(), Some("0.4.0"));
        }
    }

    #[test]
    fn a_version_is_read_where_there_is_one() {
        assert_eq!(version_of(br#"{"cniVersion": "0.4.0", "agentSocket": 7}"#).as_deref(), Some("0.4.0"));
        for document in ["", "{", "{}", r#"{"cniVersion": 1}"#] {
            assert_eq!(version_of(document.as_bytes()), None);
        }
    }
}
