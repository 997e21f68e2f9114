//! What a compiler said, kept for any checkout and said again in another.
//!
//! Pure. Most compiles say nothing but which files they have written. Such notices are not
//! kept: they are made anew, for whoever asks for them. Where there was more, all of it is
//! kept in its order, notices included, because then the result is only ever given to calls
//! that ask for the same form of messages (RST-07).

use std::path::Path;

use serde_json::Value;

use super::text::{self, Notation};
use crate::action::Task;
use crate::roles::Roots;

/// What was said, with stand-ins for roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// On standard output.
    pub stdout: Vec<u8>,
    /// On standard error.
    pub stderr: Vec<u8>,
}

impl Kept {
    /// Whether anything was said besides notices.
    pub fn has_messages(&self) -> bool {
        !self.stdout.is_empty() || !self.stderr.is_empty()
    }
}

/// What is kept of these bytes.
pub fn keep(roots: &Roots, stdout: &[u8], stderr: &[u8]) -> Kept {
    let is_silent = lines(stderr).all(|line| notice(line).is_some());
    Kept {
        stdout: map_lines(stdout, |line| text::generalise(roots, notation(line), line)),
        stderr: match is_silent {
            true => Vec::new(),
            false => map_lines(stderr, |line| text::generalise(roots, notation(line), line)),
        },
    }
}

/// What a call of this task is to say on standard output.
pub fn stdout(task: &Task, kept: &[u8]) -> Vec<u8> {
    map_lines(kept, |line| text::localise(&task.roots, notation(line), line))
}

/// What a call of this task is to say on standard error.
pub fn stderr(task: &Task, kept: &[u8]) -> Vec<u8> {
    if !kept.is_empty() {
        return map_lines(kept, |line| text::localise(&task.roots, notation(line), line));
    }
    let mut said = Vec::new();
    if task.announces_artifacts {
        for output in task.outputs.iter().filter(|output| output.is_required && output.kind.is_announced()) {
            said.extend_from_slice(&render_notice(&output.path, output.kind.emit_name()));
        }
    }
    said
}

/// `{"$message_type":"artifact",…}`, as rustc writes it.
fn render_notice(path: &Path, emit: &str) -> Vec<u8> {
    let path = Value::from(path.to_string_lossy());
    format!("{{\"$message_type\":\"artifact\",\"artifact\":{path},\"emit\":\"{emit}\"}}\n").into_bytes()
}

/// Whether a line is such a notice: then the path in it.
pub fn notice(line: &[u8]) -> Option<String> {
    if !line.starts_with(b"{") {
        return None;
    }
    let value: Value = serde_json::from_slice(line).ok()?;
    let is_notice = value.get("$message_type").and_then(Value::as_str) == Some("artifact");
    let path = value.get("artifact").and_then(Value::as_str);
    path.filter(|_| is_notice).map(str::to_owned)
}

fn notation(line: &[u8]) -> Notation {
    if line.starts_with(b"{") { Notation::Json } else { Notation::Plain }
}

/// Lines with their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n')
}

fn map_lines(bytes: &[u8], map: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    lines(bytes).flat_map(map).collect()
}
