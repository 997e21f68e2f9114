//! The visitor that lists the parts of a key for people, and the same list read back from a stored
//! action.
//!
//! Invariant: [`explain_stored`] gives the same list as the walk that made the action. A test
//! compares the two.

use bytes::Bytes;
use kache_cas::digest::{ActionMessage, CommandMessage, DirectoryMessage};
use kache_cas::{Digest, DigestFunction};
use kache_proto::reapi::{Action, Command, Digest as WireDigest, Directory};
use serde::Serialize;
use thiserror::Error;

use super::material::{KeyVisitor, Leaf, OBSERVED, PROPERTIES};

/// The part of a key that an [`Entry`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// The key's version and `key_salt`.
    Salt,
    /// The platform, and the paths that an action is bound to.
    Platform,
    /// An argument of the command.
    Argument,
    /// A variable of the environment.
    Variable,
    /// A file that the compile makes.
    Output,
    /// The directory tree of the toolchain.
    Toolchain,
    /// A file that the compile reads.
    Input,
    /// An observation that is neither a file nor the value of a variable.
    Observed,
}

impl Section {
    /// All sections, in the order in which `explain` prints them.
    pub const ALL: &[Section] = &[
        Section::Salt,
        Section::Platform,
        Section::Argument,
        Section::Variable,
        Section::Output,
        Section::Toolchain,
        Section::Input,
        Section::Observed,
    ];

    /// The name of the section in the output of `kache explain`.
    pub fn name(self) -> &'static str {
        match self {
            Section::Salt => "salt",
            Section::Platform => "platform",
            Section::Argument => "argument",
            Section::Variable => "variable",
            Section::Output => "output",
            Section::Toolchain => "toolchain",
            Section::Input => "input",
            Section::Observed => "observed",
        }
    }
}

/// One item of a key, as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Entry {
    /// The part of the key that the item belongs to.
    pub section: Section,
    /// A path, the name of a variable or property, or the index of an argument.
    pub name: String,
    /// A digest or a text; may be empty.
    pub value: String,
}

/// Collects the entries of a key.
#[derive(Debug, Default)]
pub(super) struct Explainer {
    entries: Vec<Entry>,
    arguments: usize,
}

impl Explainer {
    fn push(&mut self, section: Section, name: impl Into<String>, value: impl Into<String>) {
        self.entries.push(Entry { section, name: name.into(), value: value.into() });
    }

    /// Returns the entries sorted: the stored messages do not keep the order of the visits.
    pub(super) fn finish(mut self) -> Vec<Entry> {
        self.entries.sort();
        self.entries.dedup();
        self.entries
    }
}

impl KeyVisitor for Explainer {
    fn salt(&mut self, salt: &[u8]) {
        self.push(Section::Salt, "", String::from_utf8_lossy(salt));
    }

    fn argument(&mut self, argument: &str) {
        // With leading zeros the names sort like the numbers.
        let name = format!("{:06}", self.arguments);
        self.arguments += 1;
        self.push(Section::Argument, name, argument);
    }

    fn variable(&mut self, name: &str, value: &str) {
        self.push(Section::Variable, name, value);
    }

    fn output(&mut self, path: &str) {
        self.push(Section::Output, path, "");
    }

    fn property(&mut self, name: &str, value: &str) {
        self.push(Section::Platform, name, value);
    }

    fn toolchain(&mut self, tree: Digest<DirectoryMessage>) {
        self.push(Section::Toolchain, "sysroot", tree.to_string());
    }

    fn file(&mut self, leaf: &Leaf) {
        self.push(Section::Input, &*leaf.path, leaf.digest.to_string());
    }

    fn content(&mut self, path: &str, digest: Digest, _content: &Bytes) {
        self.push(Section::Input, path, digest.to_string());
    }

    fn lines(&mut self, _path: &str, lines: &[String]) {
        for line in lines {
            let (what, value) = line.split_once(' ').unwrap_or((line, ""));
            self.push(Section::Observed, what, value);
        }
    }
}

/// Why a stored action cannot be explained.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// A message of the action was evicted.
    #[error("`{digest}` is not stored")]
    Missing {
        /// The digest of the missing blob.
        digest: String,
    },
    /// A blob is not the message that it should be.
    #[error("`{digest}` is not the expected message: {why}")]
    Malformed {
        /// The digest of the blob.
        digest: String,
        /// The error of the decoder.
        why: String,
    },
}

/// Reads a blob from the store; `None` if it is not there.
pub type Fetch<'a> = &'a mut dyn FnMut(Digest) -> Option<Bytes>;

/// The largest depth of an input root. A deeper one is an error, so a hostile tree cannot exhaust the
/// stack.
const DEPTH_MAX: usize = 256;

/// Lists the parts of a stored action, read from its messages.
pub fn explain_stored(action: Digest<ActionMessage>, fetch: Fetch<'_>) -> Result<Vec<Entry>, ExplainError> {
    let function = action.function;
    let action: Action = decode(action.coerce(), fetch)?;
    let command = digest::<CommandMessage>(function, action.command_digest.as_ref())?;
    let command: Command = decode(command.coerce(), fetch)?;
    let root = digest::<DirectoryMessage>(function, action.input_root_digest.as_ref())?;
    let mut explainer = Explainer::default();
    explainer.salt(&action.salt);
    for property in action.platform.iter().flat_map(|platform| &platform.properties) {
        explainer.property(&property.name, &property.value);
    }
    command.arguments.iter().for_each(|argument| explainer.argument(argument));
    for variable in &command.environment_variables {
        explainer.variable(&variable.name, &variable.value);
    }
    command.output_paths.iter().for_each(|path| explainer.output(path));
    directory(root, "", fetch, &mut explainer, 0)?;
    Ok(explainer.finish())
}

fn directory(
    at: Digest<DirectoryMessage>,
    path: &str,
    fetch: Fetch<'_>,
    explainer: &mut Explainer,
    depth: usize,
) -> Result<(), ExplainError> {
    if depth > DEPTH_MAX {
        return Err(ExplainError::Malformed { digest: at.to_string(), why: "too deep".to_owned() });
    }
    let found: Directory = decode(at.coerce(), fetch)?;
    for file in &found.files {
        let content = digest::<kache_cas::digest::Blob>(at.function, file.digest.as_ref())?;
        let mut lines = || {
            let text = fetch(content).ok_or_else(|| missing(&content))?;
            Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>())
        };
        match &*file.name {
            OBSERVED if path.is_empty() => explainer.lines(&file.name, &lines()?),
            PROPERTIES if path.is_empty() => {
                for line in lines()? {
                    let (name, value) = line.split_once(' ').unwrap_or((&line, ""));
                    explainer.property(name, value);
                }
            }
            name => explainer.push(Section::Input, format!("{path}{name}"), content.to_string()),
        }
    }
    for child in &found.directories {
        let below = digest::<DirectoryMessage>(at.function, child.digest.as_ref())?;
        if path.is_empty() && child.name == "sysroot" {
            explainer.toolchain(below);
        } else {
            directory(below, &format!("{path}{}/", child.name), fetch, explainer, depth + 1)?;
        }
    }
    Ok(())
}

fn missing(digest: &Digest) -> ExplainError {
    ExplainError::Missing { digest: digest.to_string() }
}

fn decode<M: kache_proto::Message + Default>(digest: Digest, fetch: Fetch<'_>) -> Result<M, ExplainError> {
    let bytes = fetch(digest).ok_or_else(|| missing(&digest))?;
    M::decode(bytes)
        .map_err(|error| ExplainError::Malformed { digest: digest.to_string(), why: error.to_string() })
}

/// Reads a digest of a message, which has the same function as the digest of the message itself.
fn digest<K>(function: DigestFunction, wire: Option<&WireDigest>) -> Result<Digest<K>, ExplainError> {
    let malformed = |why: String| ExplainError::Malformed { digest: format!("{wire:?}"), why };
    let wire = wire.ok_or_else(|| malformed("no digest".to_owned()))?;
    Digest::parse(function, &wire.hash, wire.size_bytes).map_err(|error| malformed(error.to_string()))
}
