//! From a command line and its inputs to the query, the first of the two keys, and from the query and
//! observations to the second.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kache_cas::Digest;
use kache_cas::digest::{ActionMessage, CommandMessage, DirectoryMessage};
use kache_cas::encoding::Encoded;

use super::command::{CONSTANT_NAME, for_key};
use super::encoder::{Encoder, Messages};
use super::error::ActionError;
use super::explain::{Entry, Explainer};
use super::material::{KeyStep, Leaf, Material, Privacy, leaf_path, root_property, walk};
use super::observation::Observation;
use super::text::{line, path_text, text};
use crate::inputs::{Input, Inputs};
use crate::invocation::{Call, CommandLine};
use crate::roles::Roots;

/// How paths get into outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathTreatment {
    /// kache remaps them, so the action is the same for every checkout (KEY-17).
    Remapped,
    /// They are not remapped, so the action holds the paths of all roots and is good for this checkout
    /// only (KEY-18).
    Kept,
}

/// What a key says of a compile besides its inputs. The adapter of the compiler makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySubject {
    /// The command line that the call gives to the compiler, with what kache adds to it.
    pub command: CommandLine,
    /// The paths of all files that the compile makes, as the command line names them.
    pub outputs: Vec<PathBuf>,
    /// The name of the target that is compiled for.
    pub target: String,
    /// Whether the compile reads the standard input of the call.
    pub reads_stdin: bool,
    /// How paths get into outputs.
    pub paths: PathTreatment,
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
pub fn compose(
    subject: &KeySubject,
    call: &Call,
    roots: &Roots,
    inputs: &Inputs,
) -> Result<Query, ActionError> {
    let material = Material {
        arguments: for_key(&subject.command, &inputs.toolchain.called, call, roots)?,
        variables: variables(inputs),
        outputs: subject.outputs.iter().map(|path| output(subject, call, roots, path)).collect(),
        properties: properties(subject, call, roots, inputs),
        key_salt: inputs.salt.clone(),
        toolchain: inputs.toolchain.tree,
        leaves: leaves(inputs),
        stdin: call.stdin.clone().filter(|_| subject.reads_stdin),
        privacy: Privacy::Readable,
    };
    Query::of(material)
}

impl Query {
    fn of(material: Material) -> Result<Query, ActionError> {
        let digest = query_messages(&material)?.action.digest();
        Ok(Query { digest, material: Arc::new(material) })
    }

    /// Makes the query under which remotes know this compile. `inputs` are the inputs of this query with the
    /// digests of a remote's function. The values of private variables are hidden in it.
    pub fn shared(&self, inputs: &Inputs) -> Result<Query, ActionError> {
        let material = Material {
            toolchain: inputs.toolchain.tree,
            leaves: leaves(inputs),
            privacy: Privacy::Omitted,
            ..Material::clone(&self.material)
        };
        let salt = query_messages(&material)?.action.digest().hash;
        Query::of(Material { privacy: Privacy::Hashed(salt), ..material })
    }

    /// The messages of the query's own action, with which a remote can keep something under its digest.
    pub fn messages(&self) -> Result<FullAction, ActionError> {
        query_messages(&self.material).map(FullAction::from)
    }
}

fn query_messages(material: &Material) -> Result<Messages, ActionError> {
    let mut encoder = Encoder::new(material.function());
    walk(material, KeyStep::Query, &[], &mut encoder);
    encoder.finish()
}

impl From<Messages> for FullAction {
    fn from(messages: Messages) -> FullAction {
        FullAction {
            digest: messages.action.digest(),
            action: messages.action,
            command: messages.command,
            directories: messages.directories,
            files: messages.files,
        }
    }
}

/// Makes the full action of a query and the observations of one run. An error means that this run has
/// no key: for example, one of its files had two contents.
pub fn complete(query: &Query, observations: &[Observation]) -> Result<FullAction, ActionError> {
    let mut encoder = Encoder::new(query.material.function());
    walk(&query.material, KeyStep::Full, observations, &mut encoder);
    encoder.finish().map(FullAction::from)
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

fn variables(inputs: &Inputs) -> Vec<(String, String)> {
    // An unset variable is one that is not there (KEY-06).
    let set = |(name, value): &(String, Option<Vec<u8>>)| Some((name.clone(), text(value.as_deref()?)));
    let mut variables: Vec<(String, String)> = inputs.env.iter().filter_map(set).collect();
    variables.sort();
    variables
}

fn output(subject: &KeySubject, call: &Call, roots: &Roots, path: &Path) -> String {
    let path = path_text(&roots.role_path(&call.cwd, path).in_input_root());
    match &subject.command.random_name {
        Some(name) => path.replace(name, CONSTANT_NAME),
        None => path,
    }
}

fn properties(subject: &KeySubject, call: &Call, roots: &Roots, inputs: &Inputs) -> Vec<(String, String)> {
    let host = &inputs.toolchain.host;
    let mut properties = vec![
        ("ISA".to_owned(), isa(host).to_owned()),
        ("OSFamily".to_owned(), os_family(host).to_owned()),
        ("host".to_owned(), host.clone()),
        ("target".to_owned(), subject.target.clone()),
    ];
    properties
        .extend(inputs.native.clone().map(|native| ("kache-native".to_owned(), line(native.as_bytes()))));
    if subject.paths == PathTreatment::Kept {
        for root in roots.iter() {
            properties
                .push((root_property(root.role, 0, false), line(root.dir.as_os_str().as_encoded_bytes())));
        }
        properties.push(("kache-directory".to_owned(), line(call.cwd.as_os_str().as_encoded_bytes())));
    }
    properties
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

fn leaves(inputs: &Inputs) -> Vec<Leaf> {
    let leaf = |input: &Input| Leaf {
        path: leaf_path(&input.path.in_input_root()),
        digest: input.digest,
        is_executable: input.is_executable,
        kind: Some(input.kind),
    };
    inputs.files.iter().map(leaf).collect()
}
