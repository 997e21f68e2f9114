//! Turns a compiler's messages into a form that fits every checkout, and back.
//!
//! Pure. Most compiles print only notices: JSON lines that name the files which were written. If there
//! is nothing else, no message is stored, and a restore makes the notices anew if the call asks for
//! them. If there is more, all lines are stored in their order, with the notices. Such a result is only
//! restored for calls that ask for the same form of messages (RST-07).

use std::path::Path;

use serde_json::Value;

use crate::action::{Output, Task};
use crate::roles::{Form, Roots};

/// A compiler's messages with stand-ins in the place of roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortableMessages {
    /// The messages on standard output.
    pub stdout: Vec<u8>,
    /// The messages on standard error; empty if there were only notices.
    pub stderr: Vec<u8>,
}

impl PortableMessages {
    /// Whether there are messages besides notices.
    pub fn has_messages(&self) -> bool {
        !self.stdout.is_empty() || !self.stderr.is_empty()
    }
}

/// Makes messages portable; `None` if they contain a text that looks like a stand-in.
pub fn to_portable(roots: &Roots, stdout: &[u8], stderr: &[u8]) -> Option<PortableMessages> {
    let has_only_notices = lines(stderr).all(is_notice);
    let portable = |bytes: &[u8]| map_lines(bytes, |line| roots.generalise(line, form(line)));
    let stderr = if has_only_notices { Vec::new() } else { portable(stderr)? };
    Some(PortableMessages { stdout: portable(stdout)?, stderr })
}

/// Turns stored messages into those of this checkout: standard output, or the standard error of a
/// compile that failed. `None` if they name a root that the call does not have.
pub fn localise(task: &Task, stored: &[u8]) -> Option<Vec<u8>> {
    map_lines(stored, |line| task.roots.localise(line, form(line)))
}

/// The same for the standard error of a compile that succeeded. Adds or removes notices, so that there
/// are notices exactly if the call asks for them.
pub fn stderr(task: &Task, stored: &[u8]) -> Option<Vec<u8>> {
    let messages = localise(task, stored)?;
    let has_notices = lines(&messages).any(is_notice);
    if task.announces_artifacts == has_notices {
        return Some(messages);
    }
    if has_notices {
        return Some(lines(&messages).filter(|line| !is_notice(line)).flatten().copied().collect());
    }
    // In rustc's order: the notice of the dep-info comes before all other messages, the others after.
    let outputs = || task.outputs.iter().filter(|output| output.is_required && output.kind.is_announced());
    let is_first = |output: &&Output| output.kind.emit_name() == "dep-info";
    let first = outputs().filter(is_first).flat_map(notice);
    let rest = outputs().filter(|output| !is_first(output)).flat_map(notice);
    Some(first.chain(messages).chain(rest).collect())
}

/// The notice for an output, `{"$message_type":"artifact",…}`, as rustc writes it.
fn notice(output: &Output) -> Vec<u8> {
    let path = Value::from(Path::to_string_lossy(&output.path));
    let emit = output.kind.emit_name();
    format!("{{\"$message_type\":\"artifact\",\"artifact\":{path},\"emit\":\"{emit}\"}}\n").into_bytes()
}

/// Whether a line is a notice.
fn is_notice(line: &[u8]) -> bool {
    let value = || serde_json::from_slice::<Value>(line).ok();
    let is_artifact = |value: Value| value.get("$message_type").and_then(Value::as_str) == Some("artifact");
    line.starts_with(b"{") && value().is_some_and(is_artifact)
}

fn form(line: &[u8]) -> Form {
    if line.starts_with(b"{") { Form::Json } else { Form::Text }
}

/// The lines with their line ends.
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
    fn rst_07_only_notices_are_left_out() {
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
        let stored = to_portable(&roots, b"", &[&notice[..], b"\n"].concat()).unwrap();
        assert!(!stored.has_messages());
        let both = [&notice[..], b"\nwarning: unused\n"].concat();
        assert_eq!(to_portable(&roots, b"", &both).unwrap().stderr, both);
        assert!(to_portable(&roots, b"x", b"").unwrap().has_messages());
        let stand_in = to_portable(&roots, b"", b"see /kache/ws/x\n");
        assert_eq!(stand_in, None, "the compiler itself printed a stand-in");
    }
}
