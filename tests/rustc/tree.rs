//! A worktree: its files, and their attributes at a moment.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kache_cas::{DigestFunction, Hash};

/// A worktree.
pub(crate) struct Tree {
    path: PathBuf,
}

impl Tree {
    pub(crate) fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        Tree { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// The path as text.
    pub(crate) fn text(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Writes an executable script. Another process writes it, because a file that is open for writing in a child
    /// of another test cannot be executed.
    pub(crate) fn script(&self, path: &str, text: &str) -> PathBuf {
        self.write(&format!("{path}.txt"), format!("#!/bin/sh\n{text}\n"));
        let (from, to) = (self.join(&format!("{path}.txt")), self.join(path));
        let install = std::process::Command::new("install").args(["-m", "755"]).arg(from).arg(&to).status();
        assert!(install.unwrap().success());
        to
    }

    pub(crate) fn write_all(&self, files: &[(&str, &str)]) -> &Self {
        for (path, text) in files {
            self.write(path, text);
        }
        self
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Replaces text, which must exist.
    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) -> &Self {
        let text = self.read(path);
        assert!(text.contains(from), "`{from}` is not in {path}");
        self.write(path, text.replace(from, to))
    }

    pub(crate) fn remove(&self, path: &str) -> &Self {
        let path = self.join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        self
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> &Self {
        fs::rename(self.join(from), self.join(to)).unwrap();
        self
    }

    /// Runs a program of this tree, and returns its output.
    #[track_caller]
    pub(crate) fn prints(&self, program: &str) -> String {
        let output = std::process::Command::new(self.join(program))
            .env_clear()
            .current_dir(&self.path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// All files below a directory, by their relative paths.
    pub(crate) fn files(&self, dir: &str) -> BTreeMap<String, Stamp> {
        let top = self.join(dir);
        let mut found = BTreeMap::new();
        let mut left = vec![top.clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                // The daemon may have removed the file since the directory was listed.
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                if metadata.is_dir() {
                    left.push(path);
                } else {
                    let name = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, Stamp::of(&path, &metadata));
                }
            }
        }
        found
    }

    /// The outputs of compilers below a directory: libraries, programs, metadata.
    pub(crate) fn artifacts(&self, dir: &str) -> BTreeMap<String, Stamp> {
        let mut files = self.files(dir);
        files.retain(|name, stamp| is_artifact(name, stamp.mode));
        files
    }
}

/// The attributes of a file that a change in another worktree could affect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) ino: u64,
    pub(crate) mode: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) len: u64,
    pub(crate) content: Hash,
}

impl Stamp {
    fn of(path: &Path, metadata: &fs::Metadata) -> Self {
        let bytes = if metadata.is_file() { fs::read(path).unwrap() } else { Vec::new() };
        Stamp {
            ino: metadata.ino(),
            mode: metadata.mode() & 0o7777,
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            len: metadata.len(),
            content: DigestFunction::Blake3.hash(&bytes),
        }
    }
}

/// Whether a compiler writes a file of this name, not cargo or a build script.
fn is_artifact(name: &str, mode: u32) -> bool {
    let is_compiled = [".rlib", ".rmeta", ".so", ".a"].iter().any(|end| name.ends_with(end));
    let is_program = mode & 0o111 != 0;
    (is_compiled || is_program) && !name.contains(".fingerprint/") && !name.contains("incremental/")
}

/// Asserts that no file changed.
#[track_caller]
pub(crate) fn assert_untouched(now: &BTreeMap<String, Stamp>, before: &BTreeMap<String, Stamp>) {
    let names: std::collections::BTreeSet<_> = now.keys().chain(before.keys()).collect();
    let touched: Vec<_> = names.into_iter().filter(|name| now.get(*name) != before.get(*name)).collect();
    let show = |name: &&String| (before.get(*name), now.get(*name));
    assert!(touched.is_empty(), "{touched:#?}\n{:#?}", touched.iter().map(show).collect::<Vec<_>>());
}

/// The files that differ in content, or exist in only one of the two.
pub(crate) fn different(one: &BTreeMap<String, Stamp>, other: &BTreeMap<String, Stamp>) -> Vec<String> {
    let content = |files: &BTreeMap<String, Stamp>, name: &String| files.get(name).map(|stamp| stamp.content);
    let names: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).cloned().collect();
    names.into_iter().filter(|name| content(one, name) != content(other, name)).collect()
}
