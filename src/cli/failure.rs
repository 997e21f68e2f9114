//! The error type of all commands: a message, hints and an exit code.

use std::fmt::Display;

use kache_client::{ConnectError, StartError};

use super::exit_codes::{CONFIGURATION, ExitStatus, FAILURE, NOT_RUNNING};
use crate::config::ConfigErrors;

/// An error of a command, as it is shown to the user.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) hints: Vec<String>,
    pub(super) status: ExitStatus,
}

/// The return type of every command.
pub(super) type CommandResult = Result<ExitStatus, Failure>;

impl Failure {
    /// A failure with exit code 1 and no hint.
    pub(super) fn new(message: impl Display) -> Self {
        Failure { message: message.to_string(), hints: Vec::new(), status: FAILURE }
    }

    /// Adds a line that says what the user can do.
    pub(super) fn hint(mut self, hint: impl Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::new(error)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Failure { message: errors.to_string(), hints: Vec::new(), status: CONFIGURATION }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let failure = Failure::new(&error);
        match error {
            ConnectError::NotRunning => Failure { status: NOT_RUNNING, ..failure },
            ConnectError::Hung { pid: Some(pid) } => failure.hint(format!(
                "it may be suspended or waiting for a disk; `kill -9 {pid}` ends it, and the next daemon cleans up"
            )),
            ConnectError::Hung { pid: None } => {
                failure.hint("it may be suspended or waiting for a disk; kill it, and the next daemon cleans up")
            }
            ConnectError::Refused { leaving: true, .. } => {
                failure.hint("it is stopping; try again in a moment")
            }
            ConnectError::Refused { leaving: false, .. } => {
                failure.hint("use the newer kache, or stop the daemon with the kache that started it")
            }
            _ => failure,
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Connect(error) => error.into(),
            StartError::Spawn { .. } => Failure::new(error)
                .hint("`kache` and `kached` must lie in the same directory; install kache again"),
            other => Failure::new(other),
        }
    }
}
