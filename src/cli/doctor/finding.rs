//! The findings of `kache doctor` and how they are printed. Pure.

use crate::cli::output::counted;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// The subject is in order.
    Good,
    /// `--fix` has just put the subject in order.
    Fixed,
    /// Worth knowing, but not a fault.
    Note,
    /// It costs hits or time, or will do so.
    Warning,
    /// Builds get nothing from the cache, or may fail.
    Error,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Good => "ok",
            Severity::Fixed => "fixed",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "ERROR",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DoctorFinding {
    pub(super) severity: Severity,
    /// The thing that was checked, in one word.
    pub(super) subject: &'static str,
    pub(super) what: String,
    pub(super) hints: Vec<String>,
}

impl DoctorFinding {
    pub(super) fn new(severity: Severity, subject: &'static str, what: impl Into<String>) -> Self {
        DoctorFinding { severity, subject, what: what.into(), hints: Vec::new() }
    }

    /// Adds a line that says what the user can do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// The column in which the descriptions begin.
const MARGIN: usize = 24;

/// Prints the findings in the order of the checks, and then how many faults there are.
pub(super) fn text(findings: &[DoctorFinding]) -> String {
    let mut text = String::new();
    for DoctorFinding { severity, subject, what, hints } in findings {
        text.push_str(&format!("{:<9}{subject:<15}", severity.word()));
        text.push_str(&indented(what));
        for hint in hints {
            text.push_str(&format!("{:MARGIN$}hint: {}", "", indented(hint)));
        }
    }
    text.push_str(&summary(findings));
    text
}

fn indented(what: &str) -> String {
    format!("{}\n", what.replace('\n', &format!("\n{:MARGIN$}", "")))
}

fn summary(findings: &[DoctorFinding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count() as u64;
    let errors = match count(Severity::Error) {
        0 => "no errors".to_owned(),
        some => counted(some, "error"),
    };
    match count(Severity::Warning) {
        0 => format!("\n{errors}\n"),
        some => format!("\n{errors}, {}\n", counted(some, "warning")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_in_columns() {
        let findings = [
            DoctorFinding::new(Severity::Good, "daemon", "it runs"),
            DoctorFinding::new(Severity::Error, "configuration", "a:1: bad\nhint: worse").hint("correct it"),
        ];
        insta::assert_snapshot!(text(&findings), @r"
        ok       daemon         it runs
        ERROR    configuration  a:1: bad
                                hint: worse
                                hint: correct it

        1 error
        ");
        assert_eq!(summary(&findings[..1]), "\nno errors\n");
        let warning = DoctorFinding::new(Severity::Warning, "clock", "late");
        assert_eq!(summary(std::slice::from_ref(&warning)), "\nno errors, 1 warning\n");
        assert!(summary(&[warning.clone(), warning]).ends_with(", 2 warnings\n"));
    }
}
