//! Every exit code, with its meaning. Scripts rely on them: a code is never given another.

/// A code and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// The number.
    pub code: u8,
    /// What it means.
    pub meaning: &'static str,
}

/// It worked.
pub(super) const OK: ExitStatus = ExitStatus { code: 0, meaning: "it worked" };

/// It did not, and standard error says why.
pub(super) const FAILURE: ExitStatus = ExitStatus { code: 1, meaning: "it failed; standard error says why" };

/// The arguments make no sense.
pub(super) const USAGE: ExitStatus = ExitStatus { code: 2, meaning: "the arguments make no sense" };

/// There is no daemon, and one was asked about.
pub(super) const NOT_RUNNING: ExitStatus = ExitStatus { code: 3, meaning: "no daemon is running" };

/// A daemon runs and something is wrong with its store.
pub(super) const TROUBLE: ExitStatus =
    ExitStatus { code: 4, meaning: "the daemon runs, and something is wrong with its store" };

/// The configuration is wrong.
pub(super) const CONFIGURATION: ExitStatus = ExitStatus { code: 5, meaning: "the configuration is wrong" };

/// `kache doctor` has found something.
pub(super) const UNWELL: ExitStatus =
    ExitStatus { code: 6, meaning: "`kache doctor` found something that is wrong" };

/// `kache verify` has found two results of one action.
pub(super) const DISAGREEMENT: ExitStatus =
    ExitStatus { code: 7, meaning: "`kache verify` found two results of one action" };

/// All of them.
pub const ALL: &[ExitStatus] =
    &[OK, FAILURE, USAGE, NOT_RUNNING, TROUBLE, CONFIGURATION, UNWELL, DISAGREEMENT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
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
