//! What a run prints, and whether it says that it went well (CNI SPEC 1.1.0, section 2).

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::deadline::within;
use crate::error::CniError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub succeeded: bool,
    /// To stdout, which belongs to results and errors alone.
    pub result: Vec<u8>,
    /// To stderr, which runtimes log.
    pub remarks: Vec<String>,
}

impl Outcome {
    pub fn success(result: impl Into<Vec<u8>>) -> Self {
        Self { succeeded: true, result: result.into(), remarks: Vec::new() }
    }

    /// `result`: an error object.
    pub fn failure(result: impl Into<Vec<u8>>) -> Self {
        Self { succeeded: false, result: result.into(), remarks: Vec::new() }
    }

    /// `asked`: the configuration's `cniVersion`, where there is one.
    pub fn error(error: &CniError, asked: Option<&str>) -> Self {
        Self::failure(error.to_json(asked))
    }

    #[must_use]
    pub fn remarking(mut self, remark: String) -> Self {
        self.remarks.push(remark);
        self
    }

    /// Prints it. A result that does not reach its reader within `time` is a failure, whatever it says.
    pub fn print(self, time: Duration) -> ExitCode {
        let code = if self.succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        // `println!` panics where stdout is closed.
        if self.result.is_empty() {
            // Nothing that its reader must have: a DEL is done, also where no thread can be had or stderr is full.
            drop(within(time, move || self.write(&mut io::stdout(), &mut io::stderr())));
            return code;
        }
        match within(time, move || self.write(&mut io::stdout(), &mut io::stderr())) {
            Ok(()) => code,
            Err(_) => ExitCode::FAILURE,
        }
    }

    fn write(&self, stdout: &mut impl Write, stderr: &mut impl Write) -> io::Result<()> {
        stdout.write_all(&self.result)?;
        stdout.flush()?;
        for remark in &self.remarks {
            // A remark that nobody can read changes nothing of the result.
            drop(writeln!(stderr, "{}", remark.replace(char::is_control, " ")));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_one_line_of_stderr() {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let outcome = Outcome::success("{}").remarking("no socket /run/a\nb".to_owned());
        outcome.write(&mut stdout, &mut stderr).unwrap();
        assert_eq!(stdout, b"{}");
        assert_eq!(stderr, b"no socket /run/a b\n");
    }
}
