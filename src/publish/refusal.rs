//! Why a finished compile is not stored. An answer, not an error.

use std::fmt;
use std::path::PathBuf;

use crate::lookup::Disagreement;

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The compiler failed, and nobody keeps its failures (RST-10).
    Failed,
    /// An output that was asked for is not there.
    NoOutput(PathBuf),
    /// What the compiler read is not known, or not all of it (KEY-04).
    UnknownInputs(String),
    /// An input changed while the compiler ran (KEY-05).
    Changed(PathBuf),
    /// An output is no longer what the compiler made.
    Replaced(PathBuf),
    /// It made something that a hit would not make.
    Writes(PathBuf),
    /// A path or a text cannot be said for any checkout.
    Unspeakable(String),
    /// The action is out of service.
    Quarantined(Disagreement),
    /// There was another result of this action, and now it is out of service (KEY-23).
    Disagrees(Disagreement),
}

impl Refusal {
    /// As reports show it.
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
            Refusal::NoOutput(path) => write!(f, "the compiler made no `{}`", path.display()),
            Refusal::UnknownInputs(why) => write!(f, "what the compiler read is not known: {why}"),
            Refusal::Changed(path) => write!(f, "`{}` changed while the compiler ran", path.display()),
            Refusal::Replaced(path) => write!(f, "`{}` is no longer what was compiled", path.display()),
            Refusal::Writes(path) => write!(f, "it also makes `{}`", path.display()),
            Refusal::Unspeakable(what) => write!(f, "{what} is not good for another checkout"),
            Refusal::Quarantined(at) => write!(f, "two runs disagreed before: {}", place(at)),
            Refusal::Disagrees(at) => write!(f, "this run disagrees with an earlier one: {}", place(at)),
        }
    }
}

fn place(at: &Disagreement) -> String {
    match at.bytes {
        Some(bytes) => format!("`{}` from byte {}, in {} bytes", at.output, bytes.offset, bytes.count),
        None => format!("`{}` is in one of them only", at.output),
    }
}
