//! Random changes of one thing that a build reads: a file, an absent file, a listing, a link or a variable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{Entry, Files};
use super::reads::Reads;
use crate::content::Random;

/// Variables of a build, by name.
pub(crate) type Variables = BTreeMap<String, String>;

/// The files and variables of a build, which are changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) files: Files,
    pub(crate) variables: Variables,
}

/// The values to which variables are set.
const VALUES: &[&str] = &["", "1", "true", "another value"];

/// The contents of a file that is created where the build found none, if there is no similar file to copy.
const TEXTS: &[&str] = &["", "\n", "SQLX_OFFLINE=true\nDATABASE_URL=sqlite:nowhere.db\n", "[general]\n"];

/// How many random changes are tried before the search for a possible one ends.
const TRIES_MAX: usize = 100;

impl State {
    /// A state with one random change, and the change in words. `None` if no possible change was found.
    pub(crate) fn changed(
        &self,
        random: &mut Random,
        reads: &Reads,
        names: &[String],
    ) -> Option<(State, String)> {
        (0..TRIES_MAX).find_map(|_| {
            let mut state = self.clone();
            let what = match random.below(10) {
                0..=3 => state.files.change_file(random, reads),
                4 | 5 => state.files.change_listing(random, reads),
                6 | 7 => state.files.make_missing(random, reads),
                8 => state.files.change_link(random),
                _ => change_variable(&mut state.variables, random, names),
            }?;
            (state != *self).then_some((state, what))
        })
    }
}

fn change_variable(variables: &mut Variables, random: &mut Random, names: &[String]) -> Option<String> {
    let name = pick(random, names)?;
    if variables.contains_key(name) && random.below(2) == 0 {
        variables.remove(name);
        return Some(format!("unset {name}"));
    }
    let value = pick(random, VALUES)?;
    variables.insert(name.clone(), (*value).to_owned());
    Some(format!("set {name} to {value:?}"))
}

impl Files {
    /// Changes or removes a file that was read.
    fn change_file(&mut self, random: &mut Random, reads: &Reads) -> Option<String> {
        let is_file = |path: &&PathBuf| matches!(self.0.get(*path), Some(Entry::File(_)));
        let path = pick(random, &reads.found.iter().filter(is_file).cloned().collect::<Vec<_>>())?.clone();
        let Some(Entry::File(bytes)) = self.0.get_mut(&path) else { return None };
        let shown = path.display();
        match random.below(8) {
            0..=2 => {
                let changed = change_letter(random, bytes)?;
                Some(format!("{changed} in `{shown}`"))
            }
            3 | 4 => {
                bytes.push(b'\n');
                Some(format!("append a line's end to `{shown}`"))
            }
            5 => {
                bytes.push(b'x');
                Some(format!("append a letter to `{shown}`"))
            }
            6 => {
                self.remove(&path);
                Some(format!("remove `{shown}`"))
            }
            _ => {
                // The content stays the same, and is now behind a link.
                let other = path.with_extension("moved");
                let entry = self.0.remove(&path)?;
                self.put(&other, entry);
                self.put(&path, Entry::Link(other.file_name()?.into()));
                Some(format!("move `{shown}` and put a link to it there"))
            }
        }
    }

    /// Adds or removes an entry of a directory that was listed, or changes its type.
    fn change_listing(&mut self, random: &mut Random, reads: &Reads) -> Option<String> {
        let directories: Vec<_> = reads.listed.iter().cloned().collect();
        let directory = pick(random, &directories)?.clone();
        let inside = |path: &&PathBuf| path.parent() == Some(&directory);
        let entries: Vec<PathBuf> = self.0.keys().filter(inside).cloned().collect();
        let old = pick(random, &entries)?.clone();
        let new = directory.join(format!("another-{}", old.file_name()?.to_str()?));
        let (shown, shown_new) = (old.display(), new.display());
        match random.below(5) {
            0 => {
                self.copy(&old, &new);
                Some(format!("copy `{shown}` to `{shown_new}`"))
            }
            1 => {
                self.put(&new, Entry::Link(old.file_name()?.into()));
                Some(format!("add `{shown_new}`, a link to `{shown}`"))
            }
            2 => {
                self.put(&new, Entry::Directory);
                Some(format!("add an empty directory `{shown_new}`"))
            }
            3 => {
                self.remove(&old);
                Some(format!("remove `{shown}`"))
            }
            _ => {
                self.put(&old, Entry::Directory);
                Some(format!("make `{shown}` an empty directory"))
            }
        }
    }

    /// Creates a file or directory that the build looked for in vain, as a copy of a similar file if there is one.
    fn make_missing(&mut self, random: &mut Random, reads: &Reads) -> Option<String> {
        let missing: Vec<_> = reads.missing.iter().filter(|path| self.is_free(path)).cloned().collect();
        let path = pick(random, &missing)?.clone();
        let shown = path.display();
        if random.below(6) == 0 {
            self.put(&path, Entry::Directory);
            return Some(format!("make a directory `{shown}`"));
        }
        let is_like = |other: &&PathBuf| other.extension() == path.extension() && path.extension().is_some();
        let alike: Vec<_> = self.0.iter().filter(|(other, _)| is_like(other)).collect();
        let text = || Entry::File(TEXTS[0].into());
        let entry = match pick(random, &alike) {
            Some((_, entry @ Entry::File(_))) => (*entry).clone(),
            _ => pick(random, TEXTS).map_or_else(text, |text| Entry::File((*text).into())),
        };
        self.put(&path, entry);
        Some(format!("make a file `{shown}`"))
    }

    /// Changes the target of a link.
    fn change_link(&mut self, random: &mut Random) -> Option<String> {
        let is_link = |(_, entry): &(&PathBuf, &Entry)| matches!(entry, Entry::Link(_));
        let links: Vec<PathBuf> = self.0.iter().filter(is_link).map(|(path, _)| path.clone()).collect();
        let link = pick(random, &links)?.clone();
        let beside = |path: &&PathBuf| path.parent() == link.parent() && **path != link;
        let names = self.0.keys().filter(beside).filter_map(|path| Some(PathBuf::from(path.file_name()?)));
        let mut targets: Vec<PathBuf> = names.collect();
        targets.push(PathBuf::from("nowhere"));
        let target = pick(random, &targets)?.clone();
        let what = format!("make the link `{}` lead to `{}`", link.display(), target.display());
        self.put(&link, Entry::Link(target));
        Some(what)
    }

    fn copy(&mut self, old: &Path, new: &Path) {
        let inside = |path: &PathBuf| path.strip_prefix(old).ok().map(Path::to_owned);
        let copied: Vec<_> =
            self.0.iter().filter_map(|(path, entry)| Some((inside(path)?, entry.clone()))).collect();
        for (below, entry) in copied {
            let path = if below.as_os_str().is_empty() { new.to_owned() } else { new.join(below) };
            self.0.insert(path, entry);
        }
    }
}

/// Replaces one letter or digit, so that the length stays the same.
fn change_letter(random: &mut Random, bytes: &mut [u8]) -> Option<String> {
    let is_word = |(_, byte): &(usize, &u8)| byte.is_ascii_alphanumeric();
    let places: Vec<usize> = bytes.iter().enumerate().filter(is_word).map(|(at, _)| at).collect();
    let at = *pick(random, &places)?;
    let old = bytes[at];
    bytes[at] = match old {
        b'0'..=b'8' | b'a'..=b'y' | b'A'..=b'Y' => old + 1,
        b'9' => b'0',
        other => other - 1,
    };
    Some(format!("make byte {at} `{}` instead of `{}`", char::from(bytes[at]), char::from(old)))
}

fn pick<'a, T>(random: &mut Random, of: &'a [T]) -> Option<&'a T> {
    if of.is_empty() { None } else { Some(&of[random.below(of.len())]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_makes_another_state_and_the_same_seed_the_same_changes() {
        let mut files = Files::default();
        files.put(Path::new("dir/a.txt"), Entry::File(b"abc".to_vec()));
        files.put(Path::new("dir/link"), Entry::Link("a.txt".into()));
        let state = State { files, variables: Variables::new() };
        let reads = Reads {
            found: [PathBuf::from("dir/a.txt")].into(),
            missing: [PathBuf::from("dir/b.txt")].into(),
            listed: [PathBuf::from("dir")].into(),
        };
        let changes = |seed: u64| {
            let mut random = Random::new(seed);
            let names = ["NAME".to_owned()];
            (0..200).map(|_| state.changed(&mut random, &reads, &names).unwrap()).collect::<Vec<_>>()
        };
        assert!(changes(1).iter().all(|(changed, what)| *changed != state && !what.is_empty()));
        assert_eq!(changes(1), changes(1));
        assert_ne!(changes(1), changes(2));
        for word in ["byte", "append", "remove", "copy", "link", "directory", "make a file", "set NAME"] {
            assert!(changes(1).iter().any(|(_, what)| what.contains(word)), "{word}");
        }
    }
}
