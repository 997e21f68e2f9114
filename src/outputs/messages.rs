//! Turns a compiler's messages into a form that fits every checkout, and back.
//!
//! Pure. Most compiles print only notices: lines that name the files which were written. If there
//! is nothing else, no message is stored, and a restore makes the notices anew if the call asks for
//! them. If there is more, all lines are stored in their order, with the notices. Such a result is only
//! restored for calls that ask for the same form of messages (RST-07).

use crate::action::{MessageFormat, Task};
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
pub fn to_portable(
    roots: &Roots,
    format: &dyn MessageFormat,
    stdout: &[u8],
    stderr: &[u8],
) -> Option<PortableMessages> {
    let has_only_notices = lines(stderr).all(|line| format.is_notice(line));
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
    let is_notice = |line: &&[u8]| task.message_format.is_notice(line);
    let has_notices = lines(&messages).any(|line| is_notice(&line));
    Some(match (task.wants_notices, has_notices) {
        (true, false) => task.message_format.with_notices(&task.outputs, &messages),
        (false, true) => lines(&messages).filter(|line| !is_notice(line)).flatten().copied().collect(),
        (true, true) | (false, false) => messages,
    })
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
    use crate::action::PlusNotices;

    #[test]
    fn rst_07_notices_alone_are_left_out() {
        let to_portable =
            |stdout: &[u8], stderr: &[u8]| to_portable(&Roots::default(), &PlusNotices, stdout, stderr);
        assert!(!to_portable(b"", b"+x.d\n+x.o\n").unwrap().has_messages());
        let both = b"+x.d\nwarning: unused\n";
        assert_eq!(to_portable(b"", both).unwrap().stderr, both);
        assert!(to_portable(b"x", b"").unwrap().has_messages());
        let stand_in = to_portable(b"", b"see /kache/ws/x\n");
        assert_eq!(stand_in, None, "the compiler itself printed a stand-in");
    }
}
