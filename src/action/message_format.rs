//! The only property of a compiler that the stages after the key need: how its messages look.

use std::fmt::Debug;

use super::task::Output;

/// How a compiler's messages look. Each compiler's adapter implements it.
///
/// A compiler may print a notice, one line of standard error, for each output that it has written. A
/// notice holds a path of the checkout and nothing else that differs, so kache does not store notices
/// alone but writes them anew for every call that wants them.
pub trait MessageFormat: Debug + Send + Sync {
    /// Whether a compile failed because the compiler rejects the source. It would fail every time, so
    /// such a failure may be stored (RST-10).
    fn has_rejected_source(&self, stderr: &[u8]) -> bool;

    /// Whether a line of standard error is a notice.
    fn is_notice(&self, line: &[u8]) -> bool;

    /// Returns messages that have no notices with the notices of these outputs, in the compiler's order.
    fn with_notices(&self, outputs: &[Output], messages: &[u8]) -> Vec<u8>;
}

/// A message format for tests of the stages after the key.
#[cfg(test)]
pub(crate) mod testing {
    use super::{MessageFormat, Output};

    /// The format of a compiler that prints `+` and the path for each output, and `rejected` if it rejects
    /// the source.
    #[derive(Debug)]
    pub(crate) struct PlusNotices;

    impl MessageFormat for PlusNotices {
        fn has_rejected_source(&self, stderr: &[u8]) -> bool {
            stderr.starts_with(b"rejected")
        }

        fn is_notice(&self, line: &[u8]) -> bool {
            line.starts_with(b"+")
        }

        fn with_notices(&self, outputs: &[Output], messages: &[u8]) -> Vec<u8> {
            let notices = outputs.iter().map(|output| format!("+ {}\n", output.path.display()));
            [messages, notices.collect::<String>().as_bytes()].concat()
        }
    }
}
