//! What was found, as it is shown. Pure.

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// As it should be.
    Good,
    /// It was put right just now.
    Mended,
    /// Worth knowing.
    Note,
    /// It costs hits or time, or it will.
    Warning,
    /// Builds get nothing from the cache, or may fail.
    Wrong,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Mended => "mended",
            State::Note => "note",
            State::Warning => "warning",
            State::Wrong => "WRONG",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) state: State,
    /// What was looked at, in a word.
    pub(super) subject: &'static str,
    pub(super) what: String,
    pub(super) hints: Vec<String>,
}

impl Finding {
    pub(super) fn new(state: State, subject: &'static str, what: impl Into<String>) -> Self {
        Finding { state, subject, what: what.into(), hints: Vec::new() }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

/// How far from the left it says what was found.
const MARGIN: usize = 24;

/// All of it, in the order in which it was looked at, and one line about the whole.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { state, subject, what, hints } in findings {
        text.push_str(&format!("{:<9}{subject:<15}", state.word()));
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

fn summary(findings: &[Finding]) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let warnings = match count(State::Warning) {
        0 => String::new(),
        1 => ", and there is 1 warning".to_owned(),
        more => format!(", and there are {more} warnings"),
    };
    let wrong = match count(State::Wrong) {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        more => format!("{more} things are wrong"),
    };
    format!("\n{wrong}{warnings}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_in_columns() {
        let findings = [
            Finding::new(State::Good, "daemon", "it runs"),
            Finding::new(State::Wrong, "configuration", "a:1: bad\nhint: worse").hint("correct it"),
        ];
        insta::assert_snapshot!(text(&findings), @r"
        ok       daemon         it runs
        WRONG    configuration  a:1: bad
                                hint: worse
                                hint: correct it

        1 thing is wrong
        ");
        assert_eq!(summary(&findings[..1]), "\nnothing is wrong\n");
        let warning = Finding::new(State::Warning, "clock", "late");
        assert_eq!(summary(std::slice::from_ref(&warning)), "\nnothing is wrong, and there is 1 warning\n");
        assert!(summary(&[warning.clone(), warning]).ends_with(", and there are 2 warnings\n"));
    }
}
