//! The `CNI_*` variables, which are a call's parameters (CNI SPEC 1.1.0, section 2).

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::command::{Command, NoCommand};

const PREFIX: &[u8] = b"CNI_";

/// The variables whose names begin with `CNI_`, in the order of the environment; names and values of any bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    pub fn of_this_process() -> Self {
        env::vars_os().collect()
    }

    pub fn command(&self) -> Result<Command, NoCommand> {
        Command::named(self.get("CNI_COMMAND").unwrap_or_default())
    }

    /// `NAME=VALUE` and a NUL byte for each variable: neither holds a NUL (environ(7)), so none can end early.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        for (name, value) in &self.0 {
            encoded.extend_from_slice(name.as_bytes());
            encoded.push(b'=');
            encoded.extend_from_slice(value.as_bytes());
            encoded.push(0);
        }
        encoded
    }

    fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_os_str())
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    /// Keeps the `CNI_*` variables. The rest of a runtime's environment may hold secrets, and is nobody's business.
    fn from_iter<All: IntoIterator<Item = (OsString, OsString)>>(all: All) -> Self {
        Self(all.into_iter().filter(|(name, _)| name.as_bytes().starts_with(PREFIX)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn environment(variables: &[(&str, &[u8])]) -> Environment {
        variables.iter().map(|(name, value)| (name.into(), OsString::from_vec(value.to_vec()))).collect()
    }

    #[test]
    fn only_the_variables_of_cni_are_encoded_and_their_bytes_are_kept() {
        let all = environment(&[
            ("CNI_COMMAND", b"ADD"),
            ("TOKEN", b"secret"),
            ("CNI_ARGS", b"A=\xff;B="),
            ("MY_CNI_X", b"1"),
            ("cni_x", b"1"),
            ("CNI_NETNS", b""),
        ]);
        assert_eq!(all.encode(), b"CNI_COMMAND=ADD\0CNI_ARGS=A=\xff;B=\0CNI_NETNS=\0");
    }

    #[test]
    fn the_command_is_that_of_cni_command() {
        assert_eq!(environment(&[("CNI_COMMAND", b"GC")]).command(), Ok(Command::Gc));
        assert_eq!(environment(&[("CNI_COMMAND", b"")]).command(), Err(NoCommand::Absent));
        assert_eq!(environment(&[("CNI_IFNAME", b"ADD")]).command(), Err(NoCommand::Absent));
    }
}
