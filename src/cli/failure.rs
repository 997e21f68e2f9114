//! How a command fails: a message, hints, and an exit code.

use std::fmt::Display;

use kache_client::{ConnectError, StartError};

use super::exit_codes::{CONFIGURATION, ExitStatus, FAILURE, NOT_RUNNING};
use crate::config::ConfigErrors;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) hints: Vec<String>,
    pub(super) status: ExitStatus,
}

/// What every command returns.
pub(super) type Outcome = Result<ExitStatus, Failure>;

impl Failure {
    pub(super) fn new(message: impl Display) -> Self {
        Failure { message: message.to_string(), hints: Vec::new(), status: FAILURE }
    }

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
                "it may be stopped or waiting for a disk; `kill -9 {pid}` ends it, and the next start cleans up"
            )),
            ConnectError::Hung { pid: None } => {
                failure.hint("it may be stopped or waiting for a disk; end it, and the next start cleans up")
            }
            ConnectError::Refused { leaving: true, .. } => failure.hint("it is leaving; try again in a moment"),
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
                .hint("`kache` and `kached` are installed side by side; install kache again"),
            other => Failure::new(other),
        }
    }
}
