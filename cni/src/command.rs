//! What a runtime asks for: `CNI_COMMAND` (CNI SPEC 1.1.0, section 2).

use std::ffi::{OsStr, OsString};
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// Why there is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCommand {
    /// The variable is not set or is empty: most likely started by a person.
    Absent,
    Unknown(OsString),
}

impl Command {
    pub const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    pub fn named(name: &OsStr) -> Result<Self, NoCommand> {
        if name.is_empty() {
            return Err(NoCommand::Absent);
        }
        let named = Self::ALL.into_iter().find(|command| name == command.name());
        named.ok_or_else(|| NoCommand::Unknown(name.to_os_string()))
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_found_by_its_name() {
        for command in Command::ALL {
            assert_eq!(Command::named(command.name().as_ref()), Ok(command));
        }
    }

    #[test]
    fn a_name_is_taken_to_the_letter() {
        for name in ["add", "ADD ", "ADDED", "AD"] {
            assert_eq!(Command::named(name.as_ref()), Err(NoCommand::Unknown(name.into())));
        }
        assert_eq!(Command::named("".as_ref()), Err(NoCommand::Absent));
    }
}
