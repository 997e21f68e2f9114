//! The files and links that a checkout consists of, and how a directory comes to hold them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

/// The workspace, below the directory that belongs to a checkout. The repository is one above
/// it, and what is above that lies outside of the repository.
pub(super) const WORKSPACE: &str = "repository/rust";

/// An entry of a directory tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Text(String),
    /// A symbolic link, by its text.
    Link(String),
    /// A script that may be executed.
    Script(String),
}

/// All of them, by their paths below the directory that belongs to the checkout.
#[derive(Debug, Default)]
pub(super) struct Files(BTreeMap<PathBuf, Entry>);

impl Files {
    /// Adds a file by its path from the workspace, which may begin with `..`.
    pub(super) fn text(&mut self, path: &str, text: impl Into<String>) {
        self.add(path, Entry::Text(text.into()));
    }

    pub(super) fn link(&mut self, path: &str, to: &str) {
        self.add(path, Entry::Link(to.to_owned()));
    }

    pub(super) fn script(&mut self, path: &str, text: &str) {
        self.add(path, Entry::Script(text.to_owned()));
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let path = below(path);
        assert!(self.0.insert(path.clone(), entry).is_none(), "{path:?} is added twice");
    }

    /// The paths of files, each as it was added, but for those that are links.
    pub(super) fn texts(&self) -> Vec<String> {
        let texts = self.0.iter().filter(|(_, entry)| matches!(entry, Entry::Text(_)));
        texts.map(|(path, _)| path.to_str().unwrap().to_owned()).collect()
    }

    /// Makes the directory hold these and no others but what cargo makes. What is as it should
    /// be is not written again.
    pub(super) fn write(&self, top: &Path) {
        for path in found_in(top, Path::new("")) {
            if !self.0.contains_key(&path) {
                let path = top.join(path);
                fs::remove_file(&path).unwrap();
                remove_empty(path.parent().unwrap(), top);
            }
        }
        for (path, entry) in &self.0 {
            let path = top.join(path);
            let is = Entry::at(&path);
            if is.as_ref() == Some(entry) {
                continue;
            }
            // A text is written into the file that is there, since such a change shows least.
            if !matches!((&is, entry), (Some(Entry::Text(_)), Entry::Text(_))) {
                let _ = fs::remove_file(&path);
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match entry {
                Entry::Text(text) => fs::write(path, text).unwrap(),
                Entry::Link(to) => symlink(to, path).unwrap(),
                Entry::Script(text) => write_script(&path, text),
            }
        }
    }
}

impl Entry {
    /// Reads the entry at a path; `None` if there is none.
    fn at(path: &Path) -> Option<Entry> {
        if let Ok(to) = fs::read_link(path) {
            return Some(Entry::Link(to.to_str().unwrap().to_owned()));
        }
        let text = fs::read_to_string(path).ok()?;
        Some(if text.starts_with("#!/bin/sh\n") { Entry::Script(text) } else { Entry::Text(text) })
    }
}

/// By another process: a file that is open for writing in a child of some other test cannot be
/// executed.
fn write_script(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    let install = std::process::Command::new("install").args(["-m", "755"]).args([&beside, path]).status();
    assert!(install.unwrap().success());
    fs::remove_file(beside).unwrap();
}

/// A path from the workspace, as one below the checkout's directory.
fn below(path: &str) -> PathBuf {
    let mut all = PathBuf::from(WORKSPACE);
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => assert!(all.pop(), "`{path}` leaves the checkout's directory"),
            other => all.push(other),
        }
    }
    all
}

/// Directories exist for what is in them.
fn remove_empty(dir: &Path, top: &Path) {
    if dir != top && fs::remove_dir(dir).is_ok() {
        remove_empty(dir.parent().unwrap(), top);
    }
}

/// All files and links below, but those that cargo makes.
fn found_in(top: &Path, below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(top.join(below)).unwrap() {
        let entry = entry.unwrap();
        let path = below.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if path != Path::new(WORKSPACE).join("target") {
                found.extend(found_in(top, &path));
            }
        } else if path != Path::new(WORKSPACE).join("Cargo.lock") {
            found.push(path);
        }
    }
    found
}
