//! What a key is made of, and the one walk over it.
//!
//! Whoever wants to know what a key is made of walks: one visitor makes messages and digests
//! of it, another one text for people. So an explanation cannot say anything else than what
//! the key holds, and the same things are in both keys, the query and the full action.

use kache_cas::Digest;
use kache_cas::digest::DirectoryMessage;

use super::observation::Observation;
use super::text::{line, path_text, text};
use crate::inputs::InputKind;
use crate::roles::Role;

/// The version of the key's contents. A change of what enters a key, or of how, is a new
/// version and a line in the changelog: old entries are then not found any more.
pub const KEY_VERSION: &str = "4";

/// Which of the two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// What is known before anything runs.
    Query,
    /// The same with what a run observed.
    Full,
}

/// A file of the input root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Its path in the input root.
    pub(super) path: String,
    pub(super) digest: Digest,
    pub(super) is_executable: bool,
    /// Why it is there; none for what was observed. Not part of the key.
    pub(super) kind: Option<InputKind>,
}

/// Everything known before the compile runs, in the form in which it enters the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Material {
    pub(super) arguments: Vec<String>,
    /// Sorted by name.
    pub(super) variables: Vec<(String, String)>,
    pub(super) outputs: Vec<String>,
    pub(super) platform: Vec<(String, String)>,
    pub(super) key_salt: Vec<u8>,
    pub(super) toolchain: Digest<DirectoryMessage>,
    pub(super) leaves: Vec<Leaf>,
}

/// Who walks.
pub(super) trait Visitor {
    fn salt(&mut self, salt: &[u8]);
    fn argument(&mut self, argument: &str);
    fn variable(&mut self, name: &str, value: &str);
    fn output(&mut self, path: &str);
    fn property(&mut self, name: &str, value: &str);
    fn toolchain(&mut self, tree: Digest<DirectoryMessage>);
    fn file(&mut self, leaf: &Leaf);
    /// A file that is made here and not found: its content is these lines.
    fn lines(&mut self, path: &str, lines: &[String]);
}

/// The directory in an input root for files of the sysroot that were observed one by one:
/// `sysroot` itself is the toolchain's tree, whose files are not known here.
const SYSROOT_FILES: &str = "sysroot-files";

/// What a run saw that is neither a file nor a variable's value, one line each.
pub(super) const OBSERVED: &str = "observed";

/// The one walk.
pub(super) fn walk(material: &Material, step: Step, seen: &[Observation], visitor: &mut dyn Visitor) {
    visitor.salt(&salt(step, &material.key_salt));
    material.arguments.iter().for_each(|argument| visitor.argument(argument));
    material.variables.iter().for_each(|(name, value)| visitor.variable(name, value));
    material.outputs.iter().for_each(|path| visitor.output(path));
    material.platform.iter().for_each(|(name, value)| visitor.property(name, value));
    visitor.toolchain(material.toolchain);
    material.leaves.iter().for_each(|leaf| visitor.file(leaf));
    let mut lines = Vec::new();
    for observation in seen {
        observe(material, observation, visitor, &mut lines);
    }
    if !lines.is_empty() {
        lines.sort();
        lines.dedup();
        visitor.lines(OBSERVED, &lines);
    }
}

fn observe(
    material: &Material,
    observation: &Observation,
    visitor: &mut dyn Visitor,
    lines: &mut Vec<String>,
) {
    match observation {
        Observation::File { path, digest } => visitor.file(&Leaf {
            path: leaf_path(&path.in_input_root()),
            digest: *digest,
            is_executable: false,
            kind: None,
        }),
        Observation::Absent { path } => lines.push(format!("absent {}", line(&path.in_input_root()))),
        Observation::Listing { path, digest } => {
            lines.push(format!("listing {digest} {}", line(&path.in_input_root())));
        }
        Observation::Directory { path } => lines.push(format!("directory {}", line(&path.in_input_root()))),
        Observation::Env { name, value: None } => lines.push(format!("unset {}", line(name.as_bytes()))),
        Observation::Env { name, value: Some(value) } => {
            let value = text(value);
            match material.variables.iter().find(|(known, _)| known == name) {
                None => visitor.variable(name, &value),
                Some((_, known)) if *known == value => {}
                // The key knows it in another form, with stand-ins or without.
                Some(_) => lines.push(format!("env {name}={}", line(value.as_bytes()))),
            }
        }
        Observation::Environment { digest } => lines.push(format!("environment {digest}")),
        Observation::Link { path, text } => {
            lines.push(format!("link {} {}", line(text), line(&path.in_input_root())));
        }
        Observation::Root { role, up, is_real, path } => {
            visitor.property(&root_property(*role, *up, *is_real), &text(path));
        }
        Observation::Presentation { options } => visitor.property(PRESENTATION, &text(options)),
    }
}

/// The property that says how messages look.
pub(super) const PRESENTATION: &str = "kache-presentation";

/// The property that binds an action to the place of a root, or of a directory above it.
pub(super) fn root_property(role: Role, up: u8, is_real: bool) -> String {
    let real = if is_real { "-real" } else { "" };
    format!("kache-root-{}{real}", role.dir_name_above(up))
}

/// Where a file stands in the input root, given its role path.
pub(super) fn leaf_path(in_input_root: &[u8]) -> String {
    match in_input_root.strip_prefix(b"sysroot/") {
        Some(rest) => format!("{SYSROOT_FILES}/{}", path_text(rest)),
        None => path_text(in_input_root),
    }
}

/// What goes into `Action.salt`. A query must not be taken for an action: their results are
/// different things. Without a `key_salt` nothing of it is in there (KEY-20).
fn salt(step: Step, key_salt: &[u8]) -> Vec<u8> {
    let mut salt = match step {
        Step::Query => format!("kache query {KEY_VERSION}"),
        Step::Full => format!("kache {KEY_VERSION}"),
    }
    .into_bytes();
    if !key_salt.is_empty() {
        salt.push(0);
        salt.extend_from_slice(key_salt);
    }
    salt
}
