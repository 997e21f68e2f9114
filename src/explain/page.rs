//! An action as a page for people.

use super::load::Explained;
use crate::action::{Entry, Section};

/// Sections in the order in which they are read, and what they are called.
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

/// Where the results of an action are from that are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// One was made on this machine.
    pub made_here: bool,
    /// One was uploaded by a client of the served protocols.
    pub uploaded: bool,
}

impl Origins {
    /// One line for each result.
    fn lines(self) -> impl Iterator<Item = &'static str> {
        let lines = [
            (self.made_here, "made here"),
            (
                self.uploaded && !self.made_here,
                "uploaded by a client of the served port; compiles take it only with `serve.trust_uploads`",
            ),
            (
                self.uploaded && self.made_here,
                "another was uploaded by a client of the served port; compiles never take it while this one is there",
            ),
            (!self.made_here && !self.uploaded, "none is stored"),
        ];
        lines.into_iter().filter_map(|(holds, line)| holds.then_some(line))
    }
}

/// Prints an action: where its result is from, what it runs, in what environment, on what, and its
/// inputs as a tree.
pub fn page(explained: &Explained, origins: Origins) -> String {
    let mut text = format!("action {}\nresult\n", explained.hash);
    for line in origins.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    for (section, title) in SECTIONS {
        let entries: Vec<_> = explained.entries.iter().filter(|entry| entry.section == *section).collect();
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

/// An option and its value on one line.
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

/// Paths in order, each directory once.
fn tree(entries: &[&Entry]) -> Vec<String> {
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

/// A digest by its first digits and its size.
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
    use crate::explain::testing::{Made, Shelf};

    #[test]
    fn a_page() {
        let shelf = Shelf::default();
        let made = Made {
            args: &[
                "env",
                "-C",
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
            page(&load(&shelf, shelf.put(&made)).unwrap(), Origins { made_here: true, uploaded: false })
        );
    }
}
