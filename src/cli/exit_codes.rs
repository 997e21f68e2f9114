//! Every exit code with its meaning. Scripts rely on the codes, so none ever changes its meaning.

/// An exit code and its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// The code that the process exits with.
    pub code: u8,
    /// The meaning, as `docs/daemon.md` states it.
    pub meaning: &'static str,
}

/// The exit code of a command that succeeded.
pub(super) const OK: ExitStatus = ExitStatus { code: 0, meaning: "success" };

/// The command failed or its answer is no, as for `kache diff` and `kache init --check`.
pub(super) const FAILURE: ExitStatus = ExitStatus { code: 1, meaning: "failure; standard error says why" };

/// The arguments are wrong.
pub(super) const USAGE: ExitStatus = ExitStatus { code: 2, meaning: "the arguments are wrong" };

/// A command asked about the daemon, and none is running.
pub(super) const NOT_RUNNING: ExitStatus = ExitStatus { code: 3, meaning: "no daemon is running" };

/// The daemon is running and reports a problem with its store.
pub(super) const STORE_PROBLEM: ExitStatus =
    ExitStatus { code: 4, meaning: "the daemon is running, and its store has a problem" };

/// The configuration has a mistake.
pub(super) const CONFIGURATION: ExitStatus =
    ExitStatus { code: 5, meaning: "the configuration has a mistake" };

/// `kache doctor` found an error.
pub(super) const DOCTOR_ERROR: ExitStatus = ExitStatus { code: 6, meaning: "`kache doctor` found an error" };

/// `kache verify` found two different results of one action.
pub(super) const DISAGREEMENT: ExitStatus =
    ExitStatus { code: 7, meaning: "`kache verify` found two different results of one action" };

/// All exit codes, in ascending order.
pub const ALL: &[ExitStatus] =
    &[OK, FAILURE, USAGE, NOT_RUNNING, STORE_PROBLEM, CONFIGURATION, DOCTOR_ERROR, DISAGREEMENT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_without_gaps() {
        for (index, status) in ALL.iter().enumerate() {
            assert_eq!(usize::from(status.code), index);
        }
    }

    #[test]
    fn codes_are_documented() {
        let page = include_str!("../../docs/daemon.md");
        for ExitStatus { code, meaning } in ALL {
            assert!(page.contains(&format!("| {code} | {meaning} |")), "{code}");
        }
    }
}
