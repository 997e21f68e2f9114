//! Reads REAPI `RequestMetadata`, the header in which a client names its tool, invocation and
//! action.
//!
//! The header is unverified: it is logged, and nothing is decided by it.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use kache_proto::Message as _;
use kache_proto::reapi::RequestMetadata;

/// The name of the header.
pub(super) const HEADER: &str = "build.bazel.remote.execution.v2.requestmetadata-bin";

/// The description of a client that sends no readable header.
const UNKNOWN: &str = "an unknown client";

/// How many characters of a field are logged.
const FIELD_CHARS_MAX: usize = 80;

/// Accepts base64 with and without padding, as gRPC requires.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes the header; `None` if it is missing or malformed.
pub(super) fn read(headers: &HeaderMap) -> Option<RequestMetadata> {
    let encoded = headers.get(HEADER)?;
    let bytes = BASE64.decode(encoded.as_bytes()).ok()?;
    RequestMetadata::decode(bytes.as_slice()).ok()
}

/// A description for the log, such as `bazel 4.2.3, CppCompile of 01ab…, invocation 1-2-3`.
pub(super) fn line(headers: &HeaderMap) -> String {
    let Some(metadata) = read(headers) else { return UNKNOWN.to_owned() };
    let tool = metadata.tool_details.unwrap_or_default();
    let mut line = printable(&tool.tool_name);
    for (before, field) in [
        (" ", &tool.tool_version),
        (", ", &metadata.action_mnemonic),
        (" of ", &metadata.action_id),
        (", invocation ", &metadata.tool_invocation_id),
    ] {
        if !field.is_empty() {
            line.push_str(before);
            line.push_str(&printable(field));
        }
    }
    line
}

/// Shortens a field and removes control characters, so that it cannot forge log lines.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(FIELD_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use kache_proto::reapi::ToolDetails;

    use super::*;

    fn header(metadata: &RequestMetadata) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let encoded = BASE64.encode(metadata.encode_to_vec());
        headers.insert(HEADER, encoded.parse().unwrap());
        headers
    }

    #[test]
    fn a_line_names_the_tool_and_the_action() {
        let metadata = RequestMetadata {
            tool_details: Some(ToolDetails {
                tool_name: "bazel".to_owned(),
                tool_version: "4.2.3".to_owned(),
            }),
            action_id: "01ab".to_owned(),
            tool_invocation_id: "1-2".to_owned(),
            action_mnemonic: "CppCompile".to_owned(),
            ..RequestMetadata::default()
        };
        assert_eq!(line(&header(&metadata)), "bazel 4.2.3, CppCompile of 01ab, invocation 1-2");
    }

    #[test]
    fn fields_are_shortened_and_cannot_forge_log_lines() {
        let metadata = RequestMetadata {
            action_id: "x".repeat(1_000),
            target_id: "unused".to_owned(),
            action_mnemonic: "a\nb\u{1b}[31m".to_owned(),
            ..RequestMetadata::default()
        };
        let line = line(&header(&metadata));
        assert!(line.chars().count() < 2 * FIELD_CHARS_MAX && !line.contains(['\n', '\u{1b}']), "{line}");
    }

    #[test]
    fn without_a_readable_header_the_client_is_unknown() {
        assert_eq!(line(&HeaderMap::new()), UNKNOWN);
        for value in ["!!!", "AAAA/w=="] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, value.parse().unwrap());
            assert_eq!(line(&headers), UNKNOWN, "{value}");
        }
    }
}
