//! For tests: blobs in memory, and actions that are written in a few words.

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction, Hash};
use kache_proto::Message;
use kache_proto::reapi::command::EnvironmentVariable;
use kache_proto::reapi::platform::Property;
use kache_proto::reapi::{
    Action, Command, Digest as WireDigest, Directory, DirectoryNode, FileNode, Platform,
};

use super::load::Blobs;

/// Blobs in memory, by their BLAKE3 hash.
#[derive(Clone, Default)]
pub(super) struct MemoryBlobs {
    blobs: RefCell<HashMap<Hash, Bytes>>,
}

impl Blobs for MemoryBlobs {
    fn get(&self, hash: Hash) -> Result<Option<Bytes>, String> {
        Ok(self.blobs.borrow().get(&hash).cloned())
    }
}

/// The parts of an action. Files are pairs of a path and a content, in the order of the paths.
#[derive(Clone, Copy, Default)]
pub(super) struct TestAction<'a> {
    pub(super) args: &'a [&'a str],
    pub(super) env: &'a [(&'a str, &'a str)],
    pub(super) files: &'a [(&'a str, &'a str)],
    pub(super) properties: &'a [(&'a str, &'a str)],
    pub(super) salt: &'a str,
    pub(super) outputs: &'a [&'a str],
}

impl MemoryBlobs {
    pub(super) fn hash(bytes: &[u8]) -> Hash {
        DigestFunction::Blake3.hash(bytes)
    }

    pub(super) fn put_bytes(&self, bytes: &[u8]) -> Hash {
        let hash = MemoryBlobs::hash(bytes);
        self.blobs.borrow_mut().insert(hash, Bytes::copy_from_slice(bytes));
        hash
    }

    pub(super) fn keep_only(&self, hash: Hash) {
        self.blobs.borrow_mut().retain(|other, _| *other == hash);
    }

    fn put_message(&self, message: &impl Message) -> WireDigest {
        let bytes = message.encode_to_vec();
        WireDigest { hash: self.put_bytes(&bytes).to_hex(), size_bytes: bytes.len() as i64 }
    }

    pub(super) fn put(&self, action: &TestAction<'_>) -> Hash {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let variable = |(name, value): &(&str, &str)| EnvironmentVariable {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let property =
            |(name, value): &(&str, &str)| Property { name: (*name).to_owned(), value: (*value).to_owned() };
        let command = Command {
            arguments: texts(action.args),
            environment_variables: action.env.iter().map(variable).collect(),
            output_paths: texts(action.outputs),
            ..Command::default()
        };
        let action = Action {
            command_digest: Some(self.put_message(&command)),
            input_root_digest: Some(self.put_tree(action.files)),
            salt: Bytes::copy_from_slice(action.salt.as_bytes()),
            platform: Some(Platform { properties: action.properties.iter().map(property).collect() }),
            ..Action::default()
        };
        self.put_message(&action).hash.parse().unwrap()
    }

    /// Stores a directory tree. The paths are in order, so all files below one directory are next
    /// to each other.
    fn put_tree(&self, files: &[(&str, &str)]) -> WireDigest {
        let mut directory = Directory::default();
        let mut left = files;
        while let Some((path, content)) = left.first() {
            let Some((name, _)) = path.split_once('/') else {
                self.put_bytes(content.as_bytes());
                let digest: Digest = Digest::of(DigestFunction::Blake3, content.as_bytes());
                directory.files.push(FileNode {
                    name: (*path).to_owned(),
                    digest: Some(kache_cas::encoding::wire_digest(&digest)),
                    ..FileNode::default()
                });
                left = &left[1..];
                continue;
            };
            let prefix = format!("{name}/");
            let count = left.iter().take_while(|(path, _)| path.starts_with(&prefix)).count();
            let below: Vec<_> =
                left[..count].iter().map(|(path, content)| (&path[prefix.len()..], *content)).collect();
            let digest = Some(self.put_tree(&below));
            directory.directories.push(DirectoryNode { name: name.to_owned(), digest });
            left = &left[count..];
        }
        self.put_message(&directory)
    }
}
