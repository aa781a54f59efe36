//! What a command says, and how it ends.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::config;

/// Why a command did not do what it was asked. Holds no secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    code: u8,
    lines: Vec<String>,
}

impl Failure {
    /// The user is wrong, or the configuration.
    pub(super) fn usage(line: impl Into<String>) -> Self {
        Self { code: 64, lines: vec![line.into()] }
    }

    /// Something else went wrong.
    pub(super) fn failed(line: impl Into<String>) -> Self {
        Self { code: 1, lines: vec![line.into()] }
    }

    /// The same with one more line.
    pub(super) fn and(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Everything that is said, for tests.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        format!("{} {}", self.code, self.lines.join("\n"))
    }
}

impl From<config::Errors> for Failure {
    fn from(errors: config::Errors) -> Self {
        Self { code: 64, lines: errors.messages().map(str::to_owned).collect() }
    }
}

/// Prints what went wrong, and gives the exit code.
pub(super) fn end(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    for line in failure.lines.iter().flat_map(|line| line.lines()) {
        remark(line);
    }
    ExitCode::from(failure.code)
}

/// A line on standard error. If nobody can read it, so be it.
pub(super) fn remark(line: &str) {
    let _ = writeln!(io::stderr().lock(), "bearerd: {line}");
}

/// Prints `text` to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// Prints `bytes` to standard output, and nothing else.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    done(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Prints the help or the version that was asked for.
pub(super) fn help(help: &clap::Error) -> Result<(), Failure> {
    done(help.print())
}

fn done(printed: io::Result<()>) -> Result<(), Failure> {
    match printed {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.map_err(|error| Failure::failed(format!("standard output: {error}"))),
    }
}
