//! From a command line and its inputs to the query, the first of the two keys.
//!
//! This file decides in which form each argument enters the key. An absolute path becomes a path
//! through the input root (`../out/debug/deps`), so that it is the same for every checkout (KEY-17).
//! A relative path stays as it is, because a compiler writes it into outputs as it was given.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::Digest;
use kache_cas::digest::{ActionMessage, CommandMessage, DirectoryMessage};
use kache_cas::encoding::Encoded;

use super::encoder::Encoder;
use super::error::ActionError;
use super::explain::{Entry, Explainer};
use super::material::{KeyStep, Leaf, Material, leaf_path, root_property, walk};
use super::observation::Observation;
use super::text::{path_text, text};
use crate::inputs::{Inputs, Toolchain};
use crate::invocation::Call;
use crate::invocation::rustc::{CrateSource, DeclaredOutput, Probe, RustcInvocation, TargetArgument, Word};
use crate::roles::{Form, Role, RolePath, Roots};

/// Replaces the random crate name of a trial compile, in its key and in its stored result (RST-10).
pub const CONSTANT_NAME: &str = "kache_trial";

/// How paths get into outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathTreatment {
    /// kache remaps them, so the action is the same for every checkout (KEY-17).
    Remapped,
    /// They are not remapped, so the action holds the paths of all roots and is good for this checkout
    /// only (KEY-18).
    Kept,
}

/// The call that gets a key: a compile or a probe.
#[derive(Clone, Copy, Debug)]
pub struct KeySubject<'a> {
    pub(crate) rustc: &'a RustcInvocation,
    pub(crate) is_probe: bool,
    pub(crate) is_question: bool,
    pub(crate) random_name: Option<&'a str>,
}

impl<'a> From<&'a RustcInvocation> for KeySubject<'a> {
    fn from(rustc: &'a RustcInvocation) -> Self {
        KeySubject { rustc, is_probe: false, is_question: false, random_name: None }
    }
}

impl<'a> From<&'a Probe> for KeySubject<'a> {
    fn from(probe: &'a Probe) -> Self {
        KeySubject {
            rustc: &probe.rustc,
            is_probe: true,
            is_question: probe.is_question,
            random_name: probe.random_name.as_deref(),
        }
    }
}

impl KeySubject<'_> {
    pub(crate) fn outputs(&self) -> &[DeclaredOutput] {
        &self.rustc.outputs
    }
}

/// The first of the two keys, with its contents, from which [`complete`] makes the second.
#[derive(Clone, Debug)]
pub struct Query {
    /// The trail of this compile is stored under this digest.
    pub digest: Digest<ActionMessage>,
    material: Arc<Material>,
}

/// The second key: a well-formed REAPI action with the messages and files that it refers to.
#[derive(Clone, Debug)]
pub struct FullAction {
    /// The result of the compile is stored under this digest.
    pub digest: Digest<ActionMessage>,
    /// The encoded `Action` message and its digest.
    pub action: Encoded<ActionMessage>,
    /// The encoded command of the action.
    pub command: Encoded<CommandMessage>,
    /// The directories of its input root, children before their parents. The toolchain's
    /// tree is not among them.
    pub directories: Vec<Encoded<DirectoryMessage>>,
    /// Files of the input root that exist in no checkout, with their contents.
    pub files: Vec<(Digest, Bytes)>,
}

impl FullAction {
    /// Every message and file that `kache explain` needs later, with its digest.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, Bytes)> {
        let action = (self.action.digest().coerce(), self.action.bytes().clone());
        let command = (self.command.digest().coerce(), self.command.bytes().clone());
        let directories = self.directories.iter().map(|one| (one.digest().coerce(), one.bytes().clone()));
        [action, command].into_iter().chain(directories).chain(self.files.iter().cloned())
    }
}

/// Makes the query of a compile or a probe. `roots` are the roots of `call`. An error means that the
/// call has no key and must be passed on. The key's digests are made with the function that the
/// inputs' digests were made with.
pub fn compose<'a>(
    subject: impl Into<KeySubject<'a>>,
    call: &Call,
    roots: &Roots,
    inputs: &Inputs,
    paths: PathTreatment,
) -> Result<Query, ActionError> {
    let subject = subject.into();
    let material = Material {
        arguments: Arguments::new(&subject, call, roots, paths).all(&inputs.toolchain)?,
        variables: variables(inputs),
        outputs: subject
            .outputs()
            .iter()
            .map(|declared| output(&subject, call, roots, &declared.path))
            .collect(),
        platform: platform(&subject, call, roots, inputs, paths),
        key_salt: inputs.salt.clone(),
        toolchain: inputs.toolchain.tree,
        leaves: leaves(&subject, call, inputs),
    };
    let mut encoder = Encoder::new(material.function());
    walk(&material, KeyStep::Query, &[], &mut encoder);
    let digest = encoder.finish()?.action.digest();
    Ok(Query { digest, material: Arc::new(material) })
}

/// Makes the full action of a query and the observations of one run. An error means that this run has
/// no key: for example, one of its files had two contents.
pub fn complete(query: &Query, observations: &[Observation]) -> Result<FullAction, ActionError> {
    let mut encoder = Encoder::new(query.material.function());
    walk(&query.material, KeyStep::Full, observations, &mut encoder);
    let messages = encoder.finish()?;
    Ok(FullAction {
        digest: messages.action.digest(),
        action: messages.action,
        command: messages.command,
        directories: messages.directories,
        files: messages.files,
    })
}

/// Lists the parts of the full action that [`complete`] makes of the same arguments.
pub fn explain(query: &Query, observations: &[Observation]) -> Vec<Entry> {
    let mut explainer = Explainer::default();
    walk(&query.material, KeyStep::Full, observations, &mut explainer);
    explainer.finish()
}

/// Lists the parts of the query.
pub fn explain_query(query: &Query) -> Vec<Entry> {
    let mut explainer = Explainer::default();
    walk(&query.material, KeyStep::Query, &[], &mut explainer);
    explainer.finish()
}

/// Puts the arguments of a call into the form in which they enter a key.
struct Arguments<'a> {
    subject: &'a KeySubject<'a>,
    call: &'a Call,
    roots: &'a Roots,
    paths: PathTreatment,
    cwd: RolePath,
    /// The relative path from the call's directory to the input root: one `../` for each level.
    up: String,
}

impl<'a> Arguments<'a> {
    fn new(subject: &'a KeySubject<'a>, call: &'a Call, roots: &'a Roots, paths: PathTreatment) -> Self {
        let cwd = roots.role_path(&call.cwd, Path::new(""));
        let depth = cwd.in_input_root().split(|byte| *byte == b'/').count();
        Arguments { subject, call, roots, paths, cwd, up: "../".repeat(depth) }
    }

    fn all(&self, toolchain: &Toolchain) -> Result<Vec<String>, ActionError> {
        let mut all = Vec::with_capacity(self.subject.rustc.words.len() + 12);
        all.extend(["env".to_owned(), "-C".to_owned(), path_text(&self.cwd.in_input_root())]);
        all.push(self.absolute(&toolchain.called));
        if self.paths == PathTreatment::Remapped {
            self.remaps(&toolchain.commit_hash, &mut all);
        }
        for word in &self.subject.rustc.words {
            match word {
                Word::Plain(plain) => all.push(self.named(text(plain.as_encoded_bytes()))),
                Word::Text(given) => all.push(self.named(self.generalised(given.as_encoded_bytes())?)),
                Word::Path { before, path } => {
                    let before = text(before.as_encoded_bytes());
                    all.push(self.named(format!("{before}{}", self.path(path))));
                }
                Word::Presentation(_) | Word::Stripped(_) => {}
            }
        }
        let hashed = self.subject.rustc.presentation.hashed();
        if !hashed.is_empty() {
            // rustc refuses `--json` without `--error-format=json`.
            all.extend(["--error-format=json".to_owned(), format!("--json={}", hashed.join(","))]);
        }
        Ok(all)
    }

    /// Adds kache's own remaps, by role. The real options depend on where the roots lie, but their
    /// effect on outputs does not; therefore each role counts once and its path does not count. The
    /// workspace counts for its own packages only: a package of the registry is the same for every
    /// workspace.
    fn remaps(&self, commit_hash: &str, all: &mut Vec<String>) {
        let mut roles: Vec<Role> = self.roots.iter().map(|root| root.role).collect();
        roles.retain(|role| *role != Role::Workspace || self.cwd.role() == Role::Workspace);
        roles.sort();
        for role in roles {
            if let Some(to) = role.remapped_to() {
                all.push(format!("--remap-path-prefix=/kache/{}={to}", role.dir_name()));
            }
        }
        if !commit_hash.is_empty() {
            let sources = "/kache/sysroot/lib/rustlib/src/rust";
            all.push(format!("--remap-path-prefix={sources}=/rustc/{commit_hash}"));
        }
    }

    fn path(&self, path: &Path) -> String {
        let given = path.as_os_str().as_encoded_bytes();
        if path.is_absolute() {
            return self.absolute(path);
        }
        let found = self.roots.role_path(&self.call.cwd, path);
        if found.role() == self.cwd.role() {
            return path_text(given);
        }
        // A relative path into another root. The `./` tells it apart from the same path given
        // absolutely: rustc writes the two into outputs in different ways.
        format!("./{}{}", self.up, path_text(&found.in_input_root()))
    }

    fn absolute(&self, path: &Path) -> String {
        let found = self.roots.role_path(&self.call.cwd, path);
        format!("{}{}", self.up, path_text(&found.in_input_root()))
    }

    fn generalised(&self, given: &[u8]) -> Result<String, ActionError> {
        let found = self.roots.generalise(given, Form::Value);
        let found = found.ok_or_else(|| ActionError::StandIn { text: text(given) })?;
        Ok(text(&found))
    }

    /// Replaces the random name of a trial compile by [`CONSTANT_NAME`].
    fn named(&self, argument: String) -> String {
        match self.subject.random_name {
            Some(name) if argument.contains(name) => argument.replace(name, CONSTANT_NAME),
            _ => argument,
        }
    }
}

fn variables(inputs: &Inputs) -> Vec<(String, String)> {
    // An unset variable is one that is not there (KEY-06).
    let set = |(name, value): &(String, Option<Vec<u8>>)| Some((name.clone(), text(value.as_deref()?)));
    let mut variables: Vec<(String, String)> = inputs.env.iter().filter_map(set).collect();
    variables.sort();
    variables
}

fn output(subject: &KeySubject<'_>, call: &Call, roots: &Roots, path: &Path) -> String {
    let path = path_text(&roots.role_path(&call.cwd, path).in_input_root());
    match subject.random_name {
        Some(name) => path.replace(name, CONSTANT_NAME),
        None => path,
    }
}

fn platform(
    subject: &KeySubject<'_>,
    call: &Call,
    roots: &Roots,
    inputs: &Inputs,
    paths: PathTreatment,
) -> Vec<(String, String)> {
    let host = &inputs.toolchain.host;
    let target = match &subject.rustc.target {
        None => host.clone(),
        Some(TargetArgument::Triple(triple)) => triple.clone(),
        // The target description is an input file and counts by content.
        Some(TargetArgument::Spec(_)) => "custom".to_owned(),
    };
    let mut platform = vec![
        ("ISA".to_owned(), isa(host).to_owned()),
        ("OSFamily".to_owned(), os_family(host).to_owned()),
        ("host".to_owned(), host.clone()),
        ("target".to_owned(), target),
    ];
    platform.extend(inputs.native.clone().map(|native| ("kache-native".to_owned(), native)));
    if paths == PathTreatment::Kept {
        for root in roots.iter() {
            platform
                .push((root_property(root.role, 0, false), text(root.dir.as_os_str().as_encoded_bytes())));
        }
        platform.push(("kache-directory".to_owned(), text(call.cwd.as_os_str().as_encoded_bytes())));
    }
    platform
}

fn isa(host: &str) -> &str {
    match host.split('-').next().unwrap_or_default() {
        "x86_64" => "x86-64",
        "aarch64" => "arm-a64",
        "i686" | "i586" => "x86-32",
        other => other,
    }
}

fn os_family(host: &str) -> &'static str {
    let families = [("linux", "linux"), ("darwin", "macos"), ("windows", "windows"), ("freebsd", "freebsd")];
    families.iter().find(|(part, _)| host.contains(part)).map_or("other", |(_, family)| family)
}

fn leaves(subject: &KeySubject<'_>, call: &Call, inputs: &Inputs) -> Vec<Leaf> {
    let leaf = |input: &crate::inputs::Input| Leaf {
        path: leaf_path(&input.path.in_input_root()),
        digest: input.digest,
        is_executable: input.is_executable,
        kind: Some(input.kind),
    };
    let mut leaves: Vec<Leaf> = inputs.files.iter().map(leaf).collect();
    let reads_stdin = !subject.is_question && subject.rustc.source == CrateSource::Stdin;
    if let Some(stdin) = call.stdin.as_ref().filter(|_| reads_stdin) {
        let digest = Digest::of(inputs.toolchain.tree.function, stdin);
        leaves.push(Leaf { path: "stdin".to_owned(), digest, is_executable: false, kind: None });
    }
    leaves
}
