//! The contents of a key, and the one function that walks over them.
//!
//! Every reader of a key's contents is a visitor of this walk: one visitor makes messages and
//! digests, another makes text for people. Therefore an explanation always shows exactly what the
//! key holds, and both keys, the query and the full action, hold the same parts in the same form.
//! The full action only adds observations.

use std::collections::BTreeSet;

use bytes::Bytes;
use kache_cas::digest::DirectoryMessage;
use kache_cas::{Digest, DigestFunction, Hash};
use memchr::memmem;

use super::command::with_places;
use super::environment::is_shared_variable;
use super::observation::Observation;
use super::text::{line, path_text, text};
use crate::inputs::InputKind;
use crate::roles::{Role, STAND_IN_START};

/// The version of the key's contents. A change to what enters a key, or to its form, needs a new
/// version and a line in the changelog. Results that were stored under an older version are then
/// never found again.
pub const KEY_VERSION: &str = "6";

/// Tells the two keys of a compile apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyStep {
    /// The first key: everything that is known before the compiler runs.
    Query,
    /// The second key: the first one with the observations of one run.
    Full,
}

/// A file of the input root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// The path in the input root, such as `ws/src/lib.rs`.
    pub(super) path: String,
    pub(super) digest: Digest,
    pub(super) is_executable: bool,
    /// Why the file is an input; `None` for an observed file and for standard input. The key does not
    /// contain the kind.
    pub(super) kind: Option<InputKind>,
}

/// Everything known before the compile runs, in the form in which it enters the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Material {
    pub(super) arguments: Vec<String>,
    /// Names and values, sorted by name. A variable that is not set is not in the list (KEY-06).
    pub(super) variables: Vec<(String, String)>,
    pub(super) outputs: Vec<String>,
    /// What the result is good for only, as names and values.
    pub(super) properties: Vec<(String, String)>,
    pub(super) key_salt: Vec<u8>,
    pub(super) toolchain: Digest<DirectoryMessage>,
    /// The input files, in the order of `Inputs::files`.
    pub(super) leaves: Vec<Leaf>,
    /// The standard input of the call, if the compiler reads it.
    pub(super) stdin: Option<Bytes>,
    /// What the key shows of variables whose values may be secret.
    pub(super) privacy: Privacy,
}

/// What a key shows of the variables that [`is_shared_variable`] does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privacy {
    /// Their values. Such a key does not leave this machine.
    Readable,
    /// Nothing. The digest of such a query is the salt of [`Privacy::Hashed`].
    Omitted,
    /// A hash of each value, with this salt.
    Hashed(Hash),
}

impl Material {
    /// The function of all digests of the key: the one that the toolchain's digest was made with.
    pub(super) fn function(&self) -> DigestFunction {
        self.toolchain.function
    }
}

/// Receives the parts of a key in order, one call for each part.
pub(super) trait KeyVisitor {
    fn salt(&mut self, salt: &[u8]);
    fn argument(&mut self, argument: &str);
    fn variable(&mut self, name: &str, value: &str);
    fn output(&mut self, path: &str);
    /// What else a result is good for only. The value has no line break.
    fn property(&mut self, name: &str, value: &str);
    fn toolchain(&mut self, tree: Digest<DirectoryMessage>);
    fn file(&mut self, leaf: &Leaf);
    /// A file of the input root that exists in no checkout, with its content.
    fn content(&mut self, path: &str, digest: Digest, content: &Bytes);
    /// A file of the input root that exists in no checkout: its content is made of these lines.
    fn lines(&mut self, path: &str, lines: &[String]);
}

/// The directory in an input root for single files of the sysroot that a run observed. They cannot
/// be put below `sysroot`: that is the toolchain's tree, of which only the digest is known here.
const SYSROOT_FILES: &str = "sysroot-files";

/// The file in an input root that lists all observations which are neither files nor values of
/// variables, one observation a line.
pub(super) const OBSERVED: &str = "observed";

/// The file in an input root that lists the properties which are not in [`PLATFORM`], one a line: the name, a
/// space and the value. Engines that execute actions choose a machine by the platform, and refuse an action
/// with a property that they do not know.
pub(super) const PROPERTIES: &str = "properties";

/// The properties in the platform of an action: those by which engines choose a machine.
pub(super) const PLATFORM: [&str; 2] = ["ISA", "OSFamily"];

/// Shows all parts of a key to `visitor`. `observations` is empty for the query.
///
/// REAPI has no field for "this file did not exist" and the like. Such observations become lines of
/// one more input file, [`OBSERVED`]. The lines are sorted, so the order in which a run made its
/// observations does not count (KEY-22).
pub(super) fn walk(
    material: &Material,
    step: KeyStep,
    observations: &[Observation],
    visitor: &mut dyn KeyVisitor,
) {
    visitor.salt(&salt(step, &material.key_salt));
    let hides_values = material.hides_values(observations);
    for (index, argument) in material.arguments.iter().enumerate() {
        match index {
            SCRIPT_INDEX if hides_values => visitor.argument(REFUSING_SCRIPT),
            SCRIPT_INDEX => {
                visitor.argument(&with_places(argument, &material.names_with_places(observations)));
            }
            _ => visitor.argument(argument),
        }
    }
    material.variables.iter().for_each(|(name, value)| variable(material, visitor, name, value));
    material.outputs.iter().for_each(|path| visitor.output(path));
    material.properties.iter().for_each(|(name, value)| visitor.property(name, value));
    visitor.toolchain(material.toolchain);
    material.leaves.iter().for_each(|leaf| visitor.file(leaf));
    if let Some(stdin) = &material.stdin {
        visitor.content("stdin", Digest::of(material.function(), stdin), stdin);
    }
    let mut lines = Vec::new();
    for observation in observations {
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
    visitor: &mut dyn KeyVisitor,
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
                None => variable(material, visitor, name, &value),
                Some((_, known)) if *known == value => {}
                // The query has the variable in another form: one value has stand-ins for roots and
                // the other has not. A command cannot hold two values of one variable.
                Some(_) => match material.hidden(name, &value) {
                    HiddenValue::Readable => lines.push(format!("env {name}={}", line(value.as_bytes()))),
                    HiddenValue::Omitted => {}
                    HiddenValue::Hash(hash) => lines.push(format!("hidden {name} {hash}")),
                },
            }
        }
        Observation::Environment { digest } => lines.push(format!("environment {digest}")),
        Observation::Link { path, text } => {
            lines.push(format!("link {} {}", line(text), line(&path.in_input_root())));
        }
        Observation::Root { role, up, is_real, path } => {
            visitor.property(&root_property(*role, *up, *is_real), &line(path));
        }
        Observation::Presentation { options } => visitor.property(PRESENTATION, &line(options)),
    }
}

/// The index of the script among the arguments of the command.
const SCRIPT_INDEX: usize = 2;

/// Replaces the script of an action with hidden values. An engine that executed the action without them might
/// give another result than the compile that had them.
const REFUSING_SCRIPT: &str = "echo 'kache hides the values of some variables of this action, so nothing else can execute it.' >&2; exit 1";

/// What a key shows of one value.
enum HiddenValue {
    Readable,
    Omitted,
    Hash(Hash),
}

impl Material {
    /// Returns the names of the variables in whose values stand-ins replace the paths of roots.
    fn names_with_places<'a>(&'a self, observations: &'a [Observation]) -> BTreeSet<&'a str> {
        let known = self.variables.iter().map(|(name, value)| (&**name, value.as_bytes()));
        let observed = observations.iter().filter_map(|observation| match observation {
            Observation::Env { name, value: Some(value) } => Some((&**name, &**value)),
            _ => None,
        });
        let has_place = |(_, value): &(&str, &[u8])| memmem::find(value, STAND_IN_START.as_bytes()).is_some();
        known.chain(observed).filter(has_place).map(|(name, _)| name).collect()
    }

    fn hides_values(&self, observations: &[Observation]) -> bool {
        let is_hidden = |name: &str| !is_shared_variable(name);
        let is_observed = |observation: &Observation| matches!(observation, Observation::Env { name, value: Some(_) } if is_hidden(name));
        self.privacy != Privacy::Readable
            && (self.variables.iter().any(|(name, _)| is_hidden(name))
                || observations.iter().any(is_observed))
    }

    fn hidden(&self, name: &str, value: &str) -> HiddenValue {
        match self.privacy {
            _ if is_shared_variable(name) => HiddenValue::Readable,
            Privacy::Readable => HiddenValue::Readable,
            Privacy::Omitted => HiddenValue::Omitted,
            Privacy::Hashed(salt) => {
                let mut framed = salt.0.to_vec();
                framed.extend_from_slice(name.as_bytes());
                framed.push(0);
                framed.extend_from_slice(value.as_bytes());
                HiddenValue::Hash(self.function().hash(&framed))
            }
        }
    }
}

fn variable(material: &Material, visitor: &mut dyn KeyVisitor, name: &str, value: &str) {
    match material.hidden(name, value) {
        HiddenValue::Readable => visitor.variable(name, value),
        HiddenValue::Omitted => {}
        HiddenValue::Hash(hash) => visitor.property(&format!("hidden-{name}"), &hash.to_string()),
    }
}

/// The property with the options that decide how messages look.
pub(super) const PRESENTATION: &str = "kache-presentation";

/// The name of the property that binds an action to the path of a root, or of the directory
/// `up` levels above it.
pub(super) fn root_property(role: Role, up: u8, is_real: bool) -> String {
    let real = if is_real { "-real" } else { "" };
    format!("kache-root-{}{real}", role.dir_name_above(up))
}

/// The path of an input file in the input root. It differs from its path by role for files of the
/// sysroot only, see [`SYSROOT_FILES`].
pub(super) fn leaf_path(in_input_root: &[u8]) -> String {
    match in_input_root.strip_prefix(b"sysroot/") {
        Some(rest) => format!("{SYSROOT_FILES}/{}", path_text(rest)),
        None => path_text(in_input_root),
    }
}

/// The bytes of `Action.salt`. They differ for the two keys, because a query and an action of the
/// same contents must not share a digest: a trail is stored under the one, a result under the other.
/// An empty `key_salt` adds nothing (KEY-20).
fn salt(step: KeyStep, key_salt: &[u8]) -> Vec<u8> {
    let mut salt = match step {
        KeyStep::Query => format!("kache query {KEY_VERSION}"),
        KeyStep::Full => format!("kache {KEY_VERSION}"),
    }
    .into_bytes();
    if !key_salt.is_empty() {
        salt.push(0);
        salt.extend_from_slice(key_salt);
    }
    salt
}
