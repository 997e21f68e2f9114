//! What a compiler said, kept for any checkout and said again in another.
//!
//! Pure. Most compiles say nothing but which files they have written. Such notices are not
//! kept: they are made anew, for whoever asks for them. Where there was more, all of it is
//! kept in its order, notices included, because then the result is only ever given to calls
//! that ask for the same form of messages (RST-07).

use std::path::Path;

use serde_json::Value;

use crate::action::{Output, Task};
use crate::roles::{Form, Roots};

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

/// What is kept of these bytes; `None` where they cannot be said for any checkout.
pub fn keep(roots: &Roots, stdout: &[u8], stderr: &[u8]) -> Option<Kept> {
    let is_silent = lines(stderr).all(is_notice);
    let general = |bytes: &[u8]| map_lines(bytes, |line| roots.generalise(line, form(line)));
    Some(Kept { stdout: general(stdout)?, stderr: if is_silent { Vec::new() } else { general(stderr)? } })
}

/// What a call of this task is to say on standard output, or what a failed one said on
/// standard error. `None` where that names a root which this call does not have.
pub fn localise(task: &Task, kept: &[u8]) -> Option<Vec<u8>> {
    map_lines(kept, |line| task.roots.localise(line, form(line)))
}

/// What a call of this task is to say on standard error when the compile went well.
pub fn stderr(task: &Task, kept: &[u8]) -> Option<Vec<u8>> {
    let said = localise(task, kept)?;
    let has_notices = lines(&said).any(is_notice);
    if task.announces_artifacts == has_notices {
        return Some(said);
    }
    if has_notices {
        return Some(lines(&said).filter(|line| !is_notice(line)).flatten().copied().collect());
    }
    // Where rustc has them: the dep-info's comes before everything else it says.
    let outputs = || task.outputs.iter().filter(|output| output.is_required && output.kind.is_announced());
    let is_first = |output: &&Output| output.kind.emit_name() == "dep-info";
    let first = outputs().filter(is_first).flat_map(notice);
    let rest = outputs().filter(|output| !is_first(output)).flat_map(notice);
    Some(first.chain(said).chain(rest).collect())
}

/// `{"$message_type":"artifact",…}`, as rustc writes it.
fn notice(output: &Output) -> Vec<u8> {
    let path = Value::from(Path::to_string_lossy(&output.path));
    let emit = output.kind.emit_name();
    format!("{{\"$message_type\":\"artifact\",\"artifact\":{path},\"emit\":\"{emit}\"}}\n").into_bytes()
}

/// Whether a line is such a notice.
fn is_notice(line: &[u8]) -> bool {
    let value = || serde_json::from_slice::<Value>(line).ok();
    let is_artifact = |value: Value| value.get("$message_type").and_then(Value::as_str) == Some("artifact");
    line.starts_with(b"{") && value().is_some_and(is_artifact)
}

fn form(line: &[u8]) -> Form {
    if line.starts_with(b"{") { Form::Json } else { Form::Text }
}

/// Lines with their ends.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|&byte| byte == b'\n')
}

fn map_lines(bytes: &[u8], map: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let lines: Option<Vec<Vec<u8>>> = lines(bytes).map(map).collect();
    lines.map(|lines| lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rst_07_only_notices_are_made_anew() {
        let notice = br#"{"$message_type":"artifact","artifact":"/x.d","emit":"dep-info"}"#;
        assert!(is_notice(notice));
        for line in [
            &br#"{"$message_type":"diagnostic","message":"artifact"}"#[..],
            b"{\"$message_type\":\"artifact\"",
            b"warning: artifact",
            b"",
        ] {
            assert!(!is_notice(line));
        }
        let roots = Roots::default();
        let kept = keep(&roots, b"", &[&notice[..], b"\n"].concat()).unwrap();
        assert!(!kept.has_messages());
        let both = [&notice[..], b"\nwarning: unused\n"].concat();
        assert_eq!(keep(&roots, b"", &both).unwrap().stderr, both);
        assert!(keep(&roots, b"x", b"").unwrap().has_messages());
        assert_eq!(keep(&roots, b"", b"see /kache/ws/x\n"), None, "somebody else's stand-in");
    }
}
