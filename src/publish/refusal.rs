//! The reasons why the result of a compile is not stored. A refusal is a normal outcome and no error: the
//! build goes on with the compiler's own outputs.

use std::fmt;
use std::path::PathBuf;

use crate::lookup::Disagreement;

/// The reason why a result is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The compiler failed. Failures are stored for probes only (RST-10).
    Failed,
    /// The compiler did not make a required output.
    NoOutput(PathBuf),
    /// Not every access of the compile is known (KEY-04).
    UnknownInputs(String),
    /// An input changed while the compiler ran, or another process wrote an output (KEY-05).
    Changed(PathBuf),
    /// An output changed after the compiler had exited (KEY-05).
    Replaced(PathBuf),
    /// The compile created or changed a file that a hit would not restore.
    Writes(PathBuf),
    /// A text cannot be made portable: it holds the path of a root in a form that has no stand-in.
    Unspeakable(String),
    /// The action is in quarantine since two earlier runs disagreed (KEY-23).
    Quarantined(Disagreement),
    /// The store has a different result of this action, so the action is now in quarantine (KEY-23).
    Disagrees(Disagreement),
}

impl Refusal {
    /// The name in reports and in the event log.
    pub fn name(&self) -> &'static str {
        match self {
            Refusal::Failed => "failed",
            Refusal::NoOutput(_) => "no_output",
            Refusal::UnknownInputs(_) => "unknown_inputs",
            Refusal::Changed(_) => "input_changed",
            Refusal::Replaced(_) => "output_replaced",
            Refusal::Writes(_) => "writes_elsewhere",
            Refusal::Unspeakable(_) => "unspeakable_path",
            Refusal::Quarantined(_) => "quarantined",
            Refusal::Disagrees(_) => "results_disagree",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Failed => f.write_str("the compiler failed"),
            Refusal::NoOutput(path) => write!(f, "the compiler did not make `{}`", path.display()),
            Refusal::UnknownInputs(why) => write!(f, "not all inputs are known: {why}"),
            Refusal::Changed(path) => write!(f, "`{}` changed while the compiler ran", path.display()),
            Refusal::Replaced(path) => {
                write!(f, "`{}` was changed after the compiler had exited", path.display())
            }
            Refusal::Writes(path) => write!(f, "the compile also wrote `{}`", path.display()),
            Refusal::Unspeakable(what) => write!(f, "{what} cannot be made portable"),
            Refusal::Quarantined(at) => write!(f, "two earlier runs gave different outputs: {}", text_of(at)),
            Refusal::Disagrees(at) => {
                write!(f, "this run and an earlier one gave different outputs: {}", text_of(at))
            }
        }
    }
}

fn text_of(at: &Disagreement) -> String {
    match at.bytes {
        Some(bytes) => {
            format!("`{}` differs from byte {} on, in {} bytes", at.output, bytes.offset, bytes.count)
        }
        None => format!("only one of them has `{}`", at.output),
    }
}
