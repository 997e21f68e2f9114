//! The canonical encoding of each message that has a digest: Directory, Command, Action, Tree.
//!
//! Every function takes a message whose lists are in any order and returns it in canonical order,
//! or an error that says why there is none. The rest of what the protocol demands is prost's: it
//! writes fields by tag and leaves defaults out. Names sort as UTF-8 bytes, never by a locale.
//!
//! This module knows no files and no compiler; its callers decide what goes into a message.
//!
//! Invariant (KEY-22): equal contents give equal bytes, in whatever order they are passed in.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use kache_proto::Message;
use kache_proto::reapi::{
    Action, Command, Digest as WireDigest, Directory, NodeProperties, Platform, SymlinkNode, Tree,
};
use thiserror::Error;

use crate::digest::{ActionMessage, CommandMessage, Digest, DigestFunction, DirectoryMessage, TreeMessage};

/// Why a message has no canonical encoding.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EncodingError {
    /// A name in a directory is not one path segment.
    #[error("`{name}` is not the name of a file in a directory")]
    Name {
        /// The name that the encoding rejects.
        name: String,
    },
    /// A name occurs more than once where it may occur once.
    #[error("{what} `{name}` occurs more than once")]
    Duplicate {
        /// The kind of name, such as `the environment variable`.
        what: &'static str,
        /// The name that occurs again.
        name: String,
    },
    /// A field or a node that must have a digest has none.
    #[error("`{name}` has no digest")]
    NoDigest {
        /// The name of the field or node.
        name: String,
    },
    /// A tree has no root, or a directory in it names one that the tree does not have.
    #[error("the tree lacks the directory `{digest}`")]
    Incomplete {
        /// The directory's digest, or `root`.
        digest: String,
    },
}

/// The bytes and the digest of a message. Made only from a canonical message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded<K> {
    digest: Digest<K>,
    bytes: Bytes,
}

impl<K> Encoded<K> {
    fn of(function: DigestFunction, message: &impl Message) -> Self {
        let bytes = Bytes::from(message.encode_to_vec());
        Encoded { digest: Digest::of(function, &bytes), bytes }
    }

    /// Returns the digest of the encoded message.
    pub fn digest(&self) -> Digest<K> {
        self.digest
    }

    /// Returns the bytes of the canonical message, to be stored under the digest.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Converts a digest to its wire message.
pub fn wire_digest<K>(digest: &Digest<K>) -> WireDigest {
    // No blob is too large for an `i64`: no filesystem can hold such a file.
    let size_bytes = i64::try_from(digest.size_bytes).unwrap_or(i64::MAX);
    WireDigest { hash: digest.hash.to_hex(), size_bytes }
}

/// Puts a directory into canonical order: each list sorted by name. A name that occurs twice is an
/// error.
pub fn canonical_directory(mut directory: Directory) -> Result<Directory, EncodingError> {
    directory.files.sort_by(|a, b| a.name.cmp(&b.name));
    directory.directories.sort_by(|a, b| a.name.cmp(&b.name));
    directory.symlinks.sort_by(|a, b| a.name.cmp(&b.name));
    for file in &mut directory.files {
        require(&file.name, file.digest.as_ref())?;
        file.node_properties = file.node_properties.take().map(canonical_properties).transpose()?;
    }
    for child in &directory.directories {
        require(&child.name, child.digest.as_ref())?;
    }
    for SymlinkNode { node_properties, .. } in &mut directory.symlinks {
        *node_properties = node_properties.take().map(canonical_properties).transpose()?;
    }
    directory.node_properties = directory.node_properties.map(canonical_properties).transpose()?;
    check_names(&directory)?;
    Ok(directory)
}

fn check_names(directory: &Directory) -> Result<(), EncodingError> {
    let files = directory.files.iter().map(|node| &node.name);
    let directories = directory.directories.iter().map(|node| &node.name);
    let symlinks = directory.symlinks.iter().map(|node| &node.name);
    let mut seen = HashSet::new();
    for name in files.chain(directories).chain(symlinks) {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(EncodingError::Name { name: name.clone() });
        }
        once(&mut seen, "the name", name)?;
    }
    Ok(())
}

fn once<'a>(seen: &mut HashSet<&'a str>, what: &'static str, name: &'a str) -> Result<(), EncodingError> {
    match seen.insert(name) {
        true => Ok(()),
        false => Err(EncodingError::Duplicate { what, name: name.to_owned() }),
    }
}

fn require(name: &str, digest: Option<&WireDigest>) -> Result<(), EncodingError> {
    digest.map(drop).ok_or_else(|| EncodingError::NoDigest { name: name.to_owned() })
}

fn canonical_properties(mut properties: NodeProperties) -> Result<NodeProperties, EncodingError> {
    properties.properties.sort_by(|a, b| a.name.cmp(&b.name));
    let mut seen = HashSet::new();
    for property in &properties.properties {
        once(&mut seen, "the node property", &property.name)?;
    }
    Ok(properties)
}

/// Puts a platform into canonical order: by name, then value. A name may occur with several
/// values.
pub fn canonical_platform(mut platform: Platform) -> Platform {
    platform.properties.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    platform.properties.dedup();
    platform
}

/// Puts a command into canonical order. The arguments keep their order, which has a meaning.
#[expect(deprecated, reason = "older commands have to be given their order, too")]
pub fn canonical_command(mut command: Command) -> Result<Command, EncodingError> {
    command.environment_variables.sort_by(|a, b| a.name.cmp(&b.name));
    for list in [
        &mut command.output_paths,
        &mut command.output_files,
        &mut command.output_directories,
        &mut command.output_node_properties,
    ] {
        list.sort();
        list.dedup();
    }
    command.platform = command.platform.map(canonical_platform);
    let mut seen = HashSet::new();
    for variable in &command.environment_variables {
        once(&mut seen, "the environment variable", &variable.name)?;
    }
    Ok(command)
}

/// Puts an action into canonical order. An action without both of its digests is an error.
pub fn canonical_action(mut action: Action) -> Result<Action, EncodingError> {
    require("command_digest", action.command_digest.as_ref())?;
    require("input_root_digest", action.input_root_digest.as_ref())?;
    action.platform = action.platform.map(canonical_platform);
    Ok(action)
}

/// Encodes a directory in canonical order.
pub fn encode_directory(
    function: DigestFunction,
    directory: Directory,
) -> Result<Encoded<DirectoryMessage>, EncodingError> {
    canonical_directory(directory).map(|directory| Encoded::of(function, &directory))
}

/// Encodes a command in canonical order.
pub fn encode_command(
    function: DigestFunction,
    command: Command,
) -> Result<Encoded<CommandMessage>, EncodingError> {
    canonical_command(command).map(|command| Encoded::of(function, &command))
}

/// Encodes an action in canonical order.
pub fn encode_action(
    function: DigestFunction,
    action: Action,
) -> Result<Encoded<ActionMessage>, EncodingError> {
    canonical_action(action).map(|action| Encoded::of(function, &action))
}

/// Encodes a tree with canonical directories, each once and parents before their children
/// (topologically sorted). Directories that the root does not reach are left out.
pub fn encode_tree(function: DigestFunction, tree: Tree) -> Result<Encoded<TreeMessage>, EncodingError> {
    canonical_tree(function, tree).map(|tree| Encoded::of(function, &tree))
}

/// Puts a tree into the order in which [`encode_tree`] writes it. A directory that is named in the
/// tree and not part of it is an error.
pub fn canonical_tree(function: DigestFunction, tree: Tree) -> Result<Tree, EncodingError> {
    let lacking = |digest: &str| EncodingError::Incomplete { digest: digest.to_owned() };
    let root = canonical_directory(tree.root.ok_or_else(|| lacking("root"))?)?;
    let mut known = HashMap::new();
    for child in tree.children {
        let child = canonical_directory(child)?;
        let name = wire_digest(&Encoded::<DirectoryMessage>::of(function, &child).digest());
        known.insert(name.hash, child);
    }
    let order = parents_first(&root, &known)?;
    let take = |hash: &String| known.remove(hash).ok_or_else(|| lacking(hash));
    let children = order.iter().map(take).collect::<Result<_, _>>()?;
    Ok(Tree { root: Some(root), children })
}

/// Lists the hashes of all directories below the root, each once and after all of its parents.
///
/// This is the reverse of a depth-first walk that emits a directory after everything below it. The
/// walk keeps a stack of its own, because a tree may be deeper than the thread's stack. It
/// needs no check for cycles: a directory that contains itself would contain its own digest.
fn parents_first(root: &Directory, known: &HashMap<String, Directory>) -> Result<Vec<String>, EncodingError> {
    enum Visit {
        Enter(String),
        Leave(String),
    }
    let below = |directory: &Directory| -> Vec<Visit> {
        let hashes = directory.directories.iter().filter_map(|node| node.digest.as_ref());
        hashes.map(|digest| Visit::Enter(digest.hash.clone())).collect()
    };
    let mut entered = HashSet::new();
    let mut children_first = Vec::new();
    let mut stack = below(root);
    while let Some(visit) = stack.pop() {
        match visit {
            Visit::Leave(hash) => children_first.push(hash),
            Visit::Enter(hash) => {
                let directory = known.get(&hash);
                let directory =
                    directory.ok_or_else(|| EncodingError::Incomplete { digest: hash.clone() })?;
                if entered.insert(hash.clone()) {
                    stack.push(Visit::Leave(hash));
                    stack.extend(below(directory));
                }
            }
        }
    }
    children_first.reverse();
    Ok(children_first)
}

#[cfg(test)]
mod tests {
    use kache_proto::reapi::command::EnvironmentVariable;
    use kache_proto::reapi::platform::Property;
    use kache_proto::reapi::{DirectoryNode, FileNode};
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Blob;

    const SHA256: DigestFunction = DigestFunction::Sha256;

    fn file(name: &str) -> FileNode {
        let digest = Some(wire_digest(&Digest::<Blob>::empty(SHA256)));
        FileNode { name: name.to_owned(), digest, ..Default::default() }
    }

    fn directory(files: &[&str], children: &[(&str, &Directory)]) -> Directory {
        let node = |&(name, child): &(&str, &Directory)| {
            let child = encode_directory(SHA256, child.clone()).unwrap();
            DirectoryNode { name: name.to_owned(), digest: Some(wire_digest(&child.digest())) }
        };
        Directory {
            files: files.iter().map(|name| file(name)).collect(),
            directories: children.iter().map(node).collect(),
            ..Default::default()
        }
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn variable(name: &str, value: &str) -> EnvironmentVariable {
        EnvironmentVariable { name: name.to_owned(), value: value.to_owned() }
    }

    fn property(name: &str, value: &str) -> Property {
        Property { name: name.to_owned(), value: value.to_owned() }
    }

    /// The expected digests were computed with two other implementations of protobuf.
    #[test]
    fn key_22_the_encoding_agrees_with_other_implementations() {
        let command = Command {
            arguments: strings(&["rustc", "--crate-name", "foo"]),
            environment_variables: vec![variable("CARGO_PKG_NAME", "foo")],
            output_paths: strings(&["libfoo.rmeta", "libfoo.rlib", "libfoo.rlib"]),
            ..Default::default()
        };
        assert_eq!(
            encode_command(SHA256, command).unwrap().digest().to_string(),
            "c13ae3abf3d44327a176ab95b783b6113b12c0f56ffee2a3df06e3cc3f673ec1/76"
        );
        assert_eq!(
            encode_directory(SHA256, directory(&["lib.rs"], &[])).unwrap().digest().to_string(),
            "d62eee38eab8e83326097f612982dee2784f5c09b4b960570c15d84c7bf18e3e/78"
        );
    }

    #[test]
    fn key_22_the_encoding_of_an_action_agrees_with_other_implementations() {
        // The hashes of this value are two digits long: encoding does not look at them.
        let named = |hash: &str, size_bytes| Some(WireDigest { hash: hash.to_owned(), size_bytes });
        let properties = vec![property("OSFamily", "linux"), property("ISA", "x86-64")];
        let action = Action {
            command_digest: named("00", 1),
            input_root_digest: named("11", 2),
            salt: Bytes::from_static(b"kache/v1"),
            platform: Some(Platform { properties }),
            ..Default::default()
        };
        assert_eq!(
            encode_action(SHA256, action.clone()).unwrap().digest().to_string(),
            "022ee459beccfb71d3ac8574082b1fefa6b7c145bbbb26d08442db7106b366fa/62"
        );
        let without = Action { input_root_digest: None, ..action };
        assert!(matches!(encode_action(SHA256, without), Err(EncodingError::NoDigest { .. })));
    }

    #[test]
    fn an_empty_directory_encodes_to_the_empty_blob() {
        let encoded = encode_directory(SHA256, Directory::default()).unwrap();
        assert!(encoded.bytes().is_empty());
        assert!(encoded.digest().coerce::<Blob>().is_empty_blob());
    }

    #[test]
    fn names_sort_by_bytes() {
        let sorted = canonical_directory(directory(&["é", "a", "Z", "_", "b.rs", "b"], &[])).unwrap();
        let names: Vec<_> = sorted.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["Z", "_", "a", "b", "b.rs", "é"]);
    }

    #[test]
    fn a_name_that_is_not_one_segment_or_occurs_twice_is_rejected() {
        for name in ["", ".", "..", "a/b", "/", "a\0"] {
            let error = canonical_directory(directory(&[name], &[])).unwrap_err();
            assert_eq!(error, EncodingError::Name { name: name.to_owned() });
        }
        let below = directory(&["x"], &[]);
        let error = canonical_directory(directory(&["same"], &[("same", &below)])).unwrap_err();
        assert_eq!(error, EncodingError::Duplicate { what: "the name", name: "same".to_owned() });

        let environment_variables = vec![variable("A", "1"), variable("A", "2")];
        let command = Command { environment_variables, ..Default::default() };
        assert!(matches!(canonical_command(command), Err(EncodingError::Duplicate { .. })));
    }

    #[test]
    fn a_canonical_tree_has_each_directory_once_and_parents_first() {
        let leaf = directory(&["leaf"], &[]);
        let middle = directory(&[], &[("leaf", &leaf)]);
        // The leaf hangs from the root as well as from the middle.
        let root = directory(&[], &[("a", &leaf), ("b", &middle)]);
        let stray = directory(&["stray"], &[]);
        let children = vec![leaf.clone(), stray, leaf.clone(), middle.clone()];
        let tree = canonical_tree(SHA256, Tree { root: Some(root.clone()), children }).unwrap();
        assert_eq!(tree, Tree { root: Some(root.clone()), children: vec![middle.clone(), leaf] });

        let lacking = Tree { root: Some(root), children: vec![middle] };
        assert!(matches!(canonical_tree(SHA256, lacking), Err(EncodingError::Incomplete { .. })));
        assert!(matches!(canonical_tree(SHA256, Tree::default()), Err(EncodingError::Incomplete { .. })));
    }

    #[test]
    fn a_deep_tree_does_not_overflow_the_stack() {
        let mut directories = vec![directory(&["bottom"], &[])];
        for _ in 0..2_000 {
            let above = directory(&[], &[("d", directories.last().expect("it has one"))]);
            directories.push(above);
        }
        let root = directories.pop();
        let tree = canonical_tree(SHA256, Tree { root, children: directories.clone() }).unwrap();
        directories.reverse();
        assert_eq!(tree.children, directories);
    }

    /// Some names, and the same names in another order.
    fn names_twice() -> impl Strategy<Value = (Vec<String>, Vec<String>)> {
        proptest::collection::btree_set("[a-zA-Z_.]{3,4}", 0..8).prop_flat_map(|names| {
            let names: Vec<String> = names.into_iter().collect();
            (Just(names.clone()), Just(names).prop_shuffle())
        })
    }

    proptest! {
        #[test]
        fn key_22_the_order_of_a_list_does_not_change_the_digest((names, shuffled) in names_twice()) {
            let command = |names: &[String]| Command {
                environment_variables: names.iter().map(|name| variable(name, name)).collect(),
                output_paths: names.to_vec(),
                ..Default::default()
            };
            let listing = |names: &[String]| {
                directory(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[])
            };
            prop_assert_eq!(
                encode_command(SHA256, command(&names)).unwrap(),
                encode_command(SHA256, command(&shuffled)).unwrap()
            );
            let platform = |names: &[String]| {
                let properties = names.iter().map(|name| property("p", name)).collect();
                canonical_platform(Platform { properties })
            };
            prop_assert_eq!(platform(&names), platform(&shuffled));
            prop_assert_eq!(
                encode_directory(SHA256, listing(&names)).unwrap(),
                encode_directory(SHA256, listing(&shuffled)).unwrap()
            );
        }
    }
}
