//! The visitor that makes REAPI messages of a key.
//!
//! Invariant (KEY-22): files and directories are sorted before they are encoded, so the digest does
//! not depend on the order in which they were found.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;

use bytes::Bytes;
use kache_cas::digest::{ActionMessage, CommandMessage, DirectoryMessage};
use kache_cas::encoding::{Encoded, encode_action, encode_command, encode_directory, wire_digest};
use kache_cas::{Digest, DigestFunction};
use kache_proto::reapi::command::EnvironmentVariable;
use kache_proto::reapi::platform::Property;
use kache_proto::reapi::{Action, Command, Directory, DirectoryNode, FileNode, Platform};

use super::error::ActionError;
use super::material::{KeyVisitor, Leaf, PLATFORM, PROPERTIES};

/// The encoded messages of one key.
#[derive(Clone, Debug)]
pub(super) struct Messages {
    pub(super) action: Encoded<ActionMessage>,
    pub(super) command: Encoded<CommandMessage>,
    pub(super) directories: Vec<Encoded<DirectoryMessage>>,
    /// Files of the input root that exist in no checkout.
    pub(super) files: Vec<(Digest, Bytes)>,
}

/// Collects the parts of a key until [`Encoder::finish`] encodes them.
#[derive(Debug)]
pub(super) struct Encoder {
    /// The function of all digests of the key.
    function: DigestFunction,
    salt: Vec<u8>,
    command: Command,
    platform: Vec<Property>,
    /// The lines of the file [`PROPERTIES`].
    properties: Vec<String>,
    toolchain: Option<Digest<DirectoryMessage>>,
    leaves: Vec<(String, Digest, bool)>,
    files: Vec<(Digest, Bytes)>,
}

impl KeyVisitor for Encoder {
    fn salt(&mut self, salt: &[u8]) {
        self.salt = salt.to_vec();
    }

    fn argument(&mut self, argument: &str) {
        self.command.arguments.push(argument.to_owned());
    }

    fn variable(&mut self, name: &str, value: &str) {
        let variable = EnvironmentVariable { name: name.to_owned(), value: value.to_owned() };
        self.command.environment_variables.push(variable);
    }

    fn output(&mut self, path: &str) {
        self.command.output_paths.push(path.to_owned());
    }

    fn property(&mut self, name: &str, value: &str) {
        match PLATFORM.contains(&name) {
            true => self.platform.push(Property { name: name.to_owned(), value: value.to_owned() }),
            false => self.properties.push(format!("{name} {value}")),
        }
    }

    fn toolchain(&mut self, tree: Digest<DirectoryMessage>) {
        self.toolchain = Some(tree);
    }

    fn file(&mut self, leaf: &Leaf) {
        self.leaves.push((leaf.path.clone(), leaf.digest, leaf.is_executable));
    }

    fn content(&mut self, path: &str, digest: Digest, content: &Bytes) {
        self.files.push((digest, content.clone()));
        self.leaves.push((path.to_owned(), digest, false));
    }

    fn lines(&mut self, path: &str, lines: &[String]) {
        let mut text = lines.join("\n");
        text.push('\n');
        self.content(path, Digest::of(self.function, text.as_bytes()), &Bytes::from(text));
    }
}

impl Encoder {
    /// Creates an encoder that makes digests with this function, with which the inputs' digests were
    /// made, too.
    pub(super) fn new(function: DigestFunction) -> Encoder {
        Encoder {
            function,
            salt: Vec::new(),
            command: Command::default(),
            platform: Vec::new(),
            properties: Vec::new(),
            toolchain: None,
            leaves: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Encodes everything that was visited. An error means that the parts make no valid action.
    pub(super) fn finish(mut self) -> Result<Messages, ActionError> {
        let mut properties = std::mem::take(&mut self.properties);
        if !properties.is_empty() {
            properties.sort();
            self.lines(PROPERTIES, &properties);
        }
        let leaves = distinct(std::mem::take(&mut self.leaves))?;
        let mut directories = Vec::new();
        let root = directory(self.function, &leaves, 0, self.toolchain, &mut directories)?;
        let command = encode_command(self.function, self.command)?;
        let action = encode_action(
            self.function,
            Action {
                command_digest: Some(wire_digest(&command.digest())),
                input_root_digest: Some(wire_digest(&root)),
                salt: self.salt.into(),
                platform: Some(Platform { properties: self.platform }),
                ..Action::default()
            },
        )?;
        Ok(Messages { action, command, directories, files: self.files })
    }
}

type Flat = (String, Digest, bool);

/// Sorts files by path and drops duplicates. Two files of one path must have the same content, else the
/// file changed while the inputs were gathered (KEY-05). The file is executable if one of the two is.
fn distinct(leaves: Vec<Flat>) -> Result<Vec<Flat>, ActionError> {
    let mut known: HashMap<String, (Digest, bool)> = HashMap::with_capacity(leaves.len());
    for (path, digest, is_executable) in leaves {
        match known.entry(path) {
            MapEntry::Vacant(free) => {
                free.insert((digest, is_executable));
            }
            MapEntry::Occupied(mut taken) if taken.get().0 == digest => taken.get_mut().1 |= is_executable,
            MapEntry::Occupied(taken) => {
                return Err(ActionError::Conflict { path: taken.key().clone() });
            }
        }
    }
    let mut leaves: Vec<Flat> =
        known.into_iter().map(|(path, (digest, is_executable))| (path, digest, is_executable)).collect();
    leaves.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(leaves)
}

/// Encodes the directory that holds these files, and before it all directories below. The first
/// `depth` bytes of each path are the path of this directory. `leaves` are sorted by bytes, so all
/// paths below one child directory follow each other and become one recursive call.
fn directory(
    function: DigestFunction,
    leaves: &[Flat],
    depth: usize,
    toolchain: Option<Digest<DirectoryMessage>>,
    encoded: &mut Vec<Encoded<DirectoryMessage>>,
) -> Result<Digest<DirectoryMessage>, ActionError> {
    let mut directory = Directory::default();
    let node = |name: &str, digest: &Digest<DirectoryMessage>| DirectoryNode {
        name: name.to_owned(),
        digest: Some(wire_digest(digest)),
    };
    directory.directories.extend(toolchain.map(|tree| node("sysroot", &tree)));
    let mut at = 0;
    while let Some((path, digest, is_executable)) = leaves.get(at) {
        let rest = &path[depth..];
        match rest.find('/') {
            None => {
                directory.files.push(FileNode {
                    name: rest.to_owned(),
                    digest: Some(wire_digest(digest)),
                    is_executable: *is_executable,
                    ..FileNode::default()
                });
                at += 1;
            }
            Some(slash) => {
                let prefix = &path[..=depth + slash];
                let below = leaves[at..].iter().take_while(|leaf| leaf.0.starts_with(prefix)).count();
                let child = self::directory(function, &leaves[at..at + below], prefix.len(), None, encoded)?;
                directory.directories.push(node(&rest[..slash], &child));
                at += below;
            }
        }
    }
    let directory = encode_directory(function, directory)?;
    let digest = directory.digest();
    encoded.push(directory);
    Ok(digest)
}
