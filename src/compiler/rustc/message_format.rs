//! What rustc prints: diagnostics, and a JSON notice for each output that it has written, if the call
//! asks for notices (`--json artifacts`).

use std::path::Path;

use serde_json::Value;

use crate::action::{MessageFormat, Output, OutputKind};

/// The message format of rustc and clippy-driver.
pub(super) const RUSTC_MESSAGES: &dyn MessageFormat = &RustcMessages;

#[derive(Debug)]
struct RustcMessages;

impl MessageFormat for RustcMessages {
    /// A diagnostic about the source has a number. A failure of another kind, such as a full disk or a
    /// missing directory, has none, and the next attempt may succeed.
    fn has_rejected_source(&self, stderr: &[u8]) -> bool {
        memchr::memmem::find(stderr, b"error[E").is_some()
    }

    fn is_notice(&self, line: &[u8]) -> bool {
        let value = || serde_json::from_slice::<Value>(line).ok();
        let is_artifact =
            |value: Value| value.get("$message_type").and_then(Value::as_str) == Some("artifact");
        line.starts_with(b"{") && value().is_some_and(is_artifact)
    }

    /// The notice of the dep-info comes before all diagnostics, the others after them.
    fn with_notices(&self, outputs: &[Output], messages: &[u8]) -> Vec<u8> {
        let is_announced = |output: &&Output| output.is_required && output.kind != OutputKind::Debug;
        let is_first = |output: &&Output| output.kind == OutputKind::DepInfo;
        let outputs = || outputs.iter().filter(is_announced);
        let mut whole: Vec<u8> = outputs().filter(is_first).flat_map(notice).collect();
        whole.extend_from_slice(messages);
        whole.extend(outputs().filter(|output| !is_first(output)).flat_map(notice));
        whole
    }
}

/// Returns the line `{"$message_type":"artifact",…}` for an output, as rustc writes it.
fn notice(output: &Output) -> Vec<u8> {
    let path = Value::from(Path::to_string_lossy(&output.path));
    let emit = emit_name(output.kind);
    format!("{{\"$message_type\":\"artifact\",\"artifact\":{path},\"emit\":\"{emit}\"}}\n").into_bytes()
}

/// Returns the name that rustc uses in `--emit` and in its notices.
fn emit_name(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::DepInfo => "dep-info",
        OutputKind::Metadata => "metadata",
        OutputKind::Assembly => "asm",
        OutputKind::Bitcode => "llvm-bc",
        OutputKind::LlvmIr => "llvm-ir",
        OutputKind::Mir => "mir",
        OutputKind::Object => "obj",
        OutputKind::Rlib
        | OutputKind::StaticLibrary
        | OutputKind::SharedLibrary
        | OutputKind::Executable
        | OutputKind::Debug => "link",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rst_07_only_notices_are_recognised_as_notices() {
        assert!(
            RUSTC_MESSAGES.is_notice(br#"{"$message_type":"artifact","artifact":"/x.d","emit":"dep-info"}"#)
        );
        for line in [
            &br#"{"$message_type":"diagnostic","message":"artifact"}"#[..],
            b"{\"$message_type\":\"artifact\"",
            b"warning: artifact",
            b"",
        ] {
            assert!(!RUSTC_MESSAGES.is_notice(line));
        }
    }

    #[test]
    fn rst_10_only_a_numbered_error_is_a_rejected_source() {
        assert!(RUSTC_MESSAGES.has_rejected_source(b"error[E0554]: no such feature\n"));
        assert!(!RUSTC_MESSAGES.has_rejected_source(b"error: couldn't create a temp dir: No space left\n"));
    }
}
