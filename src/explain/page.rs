//! Prints an action for people.

use super::load::ExplainedAction;
use crate::action::{Entry, Section};

/// The sections in the order in which they are printed, with their titles.
const SECTIONS: &[(Section, &str)] = &[
    (Section::Salt, "salt"),
    (Section::Toolchain, "toolchain"),
    (Section::Platform, "platform"),
    (Section::Argument, "arguments"),
    (Section::Variable, "environment"),
    (Section::Output, "outputs"),
    (Section::Input, "inputs"),
    (Section::Observed, "also observed"),
];

/// The origins of the stored results of an action: it may have one of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultOrigins {
    /// A result of a compile on this machine is stored.
    pub made_here: bool,
    /// A result that was fetched from a remote is stored.
    pub from_remote: bool,
    /// A result that a client of the served protocols uploaded is stored.
    pub uploaded: bool,
}

impl ResultOrigins {
    /// One line for each stored result.
    fn lines(self) -> impl Iterator<Item = &'static str> {
        let is_own = self.made_here || self.from_remote;
        let lines = [
            (self.made_here, "compiled on this machine"),
            (self.from_remote && !self.made_here, "fetched from a remote"),
            (
                self.uploaded && !is_own,
                "uploaded by a client; compiles use it only with `serve.trust_uploads`",
            ),
            (self.uploaded && is_own, "another one was uploaded by a client; compiles do not use that"),
            (!is_own && !self.uploaded, "no result is stored"),
        ];
        lines.into_iter().filter_map(|(holds, line)| holds.then_some(line))
    }
}

/// Prints an action: the origin of its result, its command, environment, platform and outputs,
/// and its inputs as a tree.
pub fn page(action: &ExplainedAction, origins: ResultOrigins) -> String {
    let mut text = format!("action {}\nresult\n", action.hash);
    for line in origins.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    for (section, title) in SECTIONS {
        let entries: Vec<_> = action.entries.iter().filter(|entry| entry.section == *section).collect();
        let lines = match section {
            Section::Salt => entries.iter().map(|entry| escaped(&entry.value)).collect(),
            Section::Argument => options(&entries),
            Section::Output => entries.iter().map(|entry| escaped(&entry.name)).collect(),
            Section::Input => tree(&entries),
            Section::Toolchain => entries.iter().map(|entry| short(&entry.value)).collect(),
            Section::Observed => {
                entries.iter().map(|entry| format!("{} {}", entry.name, escaped(&entry.value))).collect()
            }
            _ => entries.iter().map(|entry| format!("{}={}", entry.name, escaped(&entry.value))).collect(),
        };
        let lines: Vec<String> = lines;
        if lines.iter().any(|line| !line.is_empty()) {
            text.push_str(&format!("{title}\n"));
        }
        for line in lines.iter().filter(|line| !line.is_empty()) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

/// Puts an option and its value on one line.
fn options(entries: &[&Entry]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut takes_value = false;
    for word in entries.iter().map(|entry| &entry.value) {
        match lines.last_mut() {
            Some(line) if takes_value && !word.starts_with('-') => {
                line.push(' ');
                line.push_str(&escaped(word));
                takes_value = false;
            }
            _ => {
                lines.push(escaped(word));
                takes_value = word.starts_with('-') && !word.contains('=');
            }
        }
    }
    lines
}

/// Prints paths as a tree. The entries are in the order of their paths, so each directory is
/// printed once, in front of its first entry.
fn tree(entries: &[&Entry]) -> Vec<String> {
    // `above` is the directory of the entry before. The directories that both have in common are
    // printed already; the others get a line each, indented by their depth.
    let mut lines = Vec::new();
    let mut above: Vec<&str> = Vec::new();
    for entry in entries {
        let mut parts: Vec<&str> = entry.name.split('/').collect();
        let name = parts.pop().unwrap_or_default();
        let common = above.iter().zip(&parts).take_while(|(a, b)| a == b).count();
        for (depth, part) in parts.iter().enumerate().skip(common) {
            lines.push(format!("{}{}/", "  ".repeat(depth), escaped(part)));
        }
        lines.push(format!("{}{}  ({})", "  ".repeat(parts.len()), escaped(name), short(&entry.value)));
        above = parts;
    }
    lines
}

fn escaped(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect()
}

/// Shortens a digest to its first 12 digits and its size.
fn short(digest: &str) -> String {
    let bare = digest.strip_prefix("blake3/").unwrap_or(digest);
    match bare.split_once('/') {
        Some((hash, size)) => format!("{}, {size} bytes", hash.get(..12).unwrap_or(hash)),
        None => escaped(digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::load;
    use crate::explain::testing::{MemoryBlobs, TestAction};

    #[test]
    fn an_action_is_printed_by_sections() {
        let blobs = MemoryBlobs::default();
        let action = TestAction {
            args: &[
                "sh",
                "-c",
                "cd \"$1\" && shift && exec \"$@\"",
                "sh",
                "ws",
                "sysroot/bin/rustc",
                "--crate-name",
                "x",
                "-O",
                "--cfg=a\n",
                "src/lib.rs",
            ],
            env: &[("A", "1"), ("B", "")],
            files: &[
                ("observed", "absent ws/src/m/mod.rs\nunset MODE"),
                ("sysroot/bin/rustc", "rustc"),
                ("ws/Cargo.toml", "[]"),
                ("ws/src/a/b.rs", "b"),
                ("ws/src/lib.rs", "lib"),
            ],
            properties: &[("OSFamily", "linux")],
            salt: "1",
            outputs: &["out/libx.rlib"],
        };
        insta::assert_snapshot!(
            "page",
            page(
                &load(&blobs, blobs.put(&action)).unwrap(),
                ResultOrigins { made_here: true, ..ResultOrigins::default() }
            )
        );
    }
}
