//! Actions in a store, for the commands that explain them.

use bytes::Bytes;
use kache_cas::{Digest, DigestFunction, Store, StoreSettings};
use kache_proto::Message;
use kache_proto::reapi::command::EnvironmentVariable;
use kache_proto::reapi::platform::Property;
use kache_proto::reapi::{
    Action, Command, Digest as WireDigest, Directory, DirectoryNode, FileNode, Platform,
};

use crate::home::Home;

/// An action of a library with one source file.
pub(crate) struct Library {
    pub(crate) source: &'static str,
    pub(crate) opt_level: &'static str,
    pub(crate) mode: Option<&'static str>,
}

/// Stores actions in the home's store, and returns their digests.
pub(crate) fn put(home: &Home, libraries: &[Library]) -> Vec<String> {
    let store = Store::open(StoreSettings::new(home.cache_dir())).unwrap();
    let names = libraries.iter().map(|library| library.put(&store)).collect();
    store.close().unwrap();
    names
}

impl Library {
    fn put(&self, store: &Store) -> String {
        let words = ["sysroot/bin/rustc", "--crate-name", "app", "ws/src/lib.rs", "-C"];
        let variable =
            |value: &str| EnvironmentVariable { name: "APP_MODE".to_owned(), value: value.to_owned() };
        let command = Command {
            arguments: words
                .map(str::to_owned)
                .into_iter()
                .chain([format!("opt-level={}", self.opt_level)])
                .collect(),
            environment_variables: self.mode.iter().map(|value| variable(value)).collect(),
            output_paths: vec!["out/libapp.rlib".to_owned()],
            ..Command::default()
        };
        let file = |name: &str, content: &str| FileNode {
            name: name.to_owned(),
            digest: Some(put_bytes(store, content.as_bytes())),
            is_executable: name == "rustc",
            ..FileNode::default()
        };
        let with_file =
            |name, content| Directory { files: vec![file(name, content)], ..Directory::default() };
        let source = put_message(store, &with_file("lib.rs", self.source));
        let workspace = put_message(store, &holding(&[("src", source)]));
        let bin = put_message(store, &with_file("rustc", "the compiler"));
        let sysroot = put_message(store, &holding(&[("bin", bin)]));
        let root = put_message(store, &holding(&[("sysroot", sysroot), ("ws", workspace)]));
        let platform = Property { name: "OSFamily".to_owned(), value: "linux".to_owned() };
        let action = Action {
            command_digest: Some(put_message(store, &command)),
            input_root_digest: Some(root),
            platform: Some(Platform { properties: vec![platform] }),
            ..Action::default()
        };
        put_message(store, &action).hash
    }
}

fn holding(directories: &[(&str, WireDigest)]) -> Directory {
    let node = |(name, digest): &(&str, WireDigest)| DirectoryNode {
        name: (*name).to_owned(),
        digest: Some(digest.clone()),
    };
    Directory { directories: directories.iter().map(node).collect(), ..Directory::default() }
}

fn put_message(store: &Store, message: &impl Message) -> WireDigest {
    put_bytes(store, &message.encode_to_vec())
}

fn put_bytes(store: &Store, bytes: &[u8]) -> WireDigest {
    let digest: Digest = Digest::of(DigestFunction::Blake3, bytes);
    store.blobs().insert(&[(digest, Bytes::copy_from_slice(bytes))]).remove(0).unwrap();
    kache_cas::encoding::wire_digest(&digest)
}
