//! Command lines in keys: from a call to the key, and from a stored key back to a call.
//!
//! An absolute path becomes a path through the input root (`../out/debug/deps`), so that it is the same for
//! every checkout (KEY-17). A relative path stays as it is, because a compiler writes it into outputs as it
//! was given. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use super::error::ActionError;
use super::explain::{Entry, Section};
use super::material::PRESENTATION;
use super::text::{MARK, bytes_of, path_text, text};
use crate::invocation::{Call, CommandLine, Word};
use crate::roles::{Form, RolePath, Roots};

/// Replaces the random name of a trial compile, in its key and in its stored result (RST-10).
pub const CONSTANT_NAME: &str = "kache_trial";

/// Returns the arguments of a command line in the form in which they enter a key. `program` is the program
/// that the key names, and `roots` are the roots of `call`.
pub(super) fn for_key(
    command: &CommandLine,
    program: &Path,
    call: &Call,
    roots: &Roots,
) -> Result<Vec<String>, ActionError> {
    let cwd = roots.role_path(&call.cwd, Path::new(""));
    let up = up(&cwd.in_input_root());
    let writer = ArgumentWriter { command, call, roots, cwd, up };
    let mut all = Vec::with_capacity(command.words.len() + 12);
    all.extend(["env".to_owned(), "-C".to_owned(), path_text(&writer.cwd.in_input_root())]);
    all.push(writer.absolute(program));
    all.extend(command.added_in_key.iter().cloned());
    for word in &command.words {
        match word {
            Word::Plain(plain) => all.push(writer.named(text(plain.as_encoded_bytes()))),
            Word::Text(given) => all.push(writer.named(writer.generalised(given.as_encoded_bytes())?)),
            Word::Path { before, path } => {
                let before = text(before.as_encoded_bytes());
                all.push(writer.named(format!("{before}{}", writer.path(path))));
            }
            Word::Presentation(_) | Word::Stripped(_) => {}
        }
    }
    all.extend(command.only_in_key.iter().cloned());
    Ok(all)
}

/// The relative path from a directory in the input root to the input root: one `../` for each level.
fn up(directory: &[u8]) -> String {
    "../".repeat(directory.split(|byte| *byte == b'/').count())
}

/// Makes arguments of a key from arguments of a call.
struct ArgumentWriter<'a> {
    command: &'a CommandLine,
    call: &'a Call,
    roots: &'a Roots,
    cwd: RolePath,
    /// The relative path from the call's directory to the input root.
    up: String,
}

impl ArgumentWriter<'_> {
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
        match self.command.random_name.as_deref() {
            Some(name) if argument.contains(name) => argument.replace(name, CONSTANT_NAME),
            _ => argument,
        }
    }
}

/// The command line of a stored action, read for one checkout.
///
/// The parts of a call that its key leaves out are lost. An adapter makes the call's arguments from this
/// value, because only it knows what it had added to the key.
#[derive(Debug)]
pub struct StoredCommand<'a> {
    /// The working directory in the checkout, absolute.
    pub cwd: PathBuf,
    /// The arguments as they are in the key, with the program first. [`StoredCommand::argument`] reads them.
    pub arguments: Vec<&'a str>,
    /// The options that decide how messages look, as the task had framed them; `None` if the compiler
    /// printed no messages.
    pub presentation: Option<Vec<u8>>,
    /// The variables that are in the key.
    pub env: Vec<(OsString, OsString)>,
    roots: &'a Roots,
    up: String,
}

impl<'a> StoredCommand<'a> {
    /// Reads the command line of a stored action for the checkout with these roots. `None` if the action is
    /// not a compile of kache's, or if it names a root that is not in `roots`.
    pub fn read(entries: &'a [Entry], roots: &'a Roots) -> Option<StoredCommand<'a>> {
        let arguments: Vec<&str> = of(entries, Section::Argument).map(|entry| &*entry.value).collect();
        let ["env", "-C", cwd, arguments @ ..] = &arguments[..] else { return None };
        let up = up(cwd.as_bytes());
        let cwd = roots.locate(&RolePath::from_input_root(cwd.as_bytes())?)?;
        let shown = of(entries, Section::Platform).find(|entry| entry.name == PRESENTATION);
        let presentation = match shown {
            Some(entry) => Some(bytes_of(&entry.value)?),
            None => None,
        };
        let arguments = arguments.to_vec();
        let mut command = StoredCommand { cwd, arguments, presentation, env: Vec::new(), roots, up };
        let variable = |entry: &Entry| Some((OsString::from(&entry.name), command.text(&entry.value)?));
        command.env = of(entries, Section::Variable).map(variable).collect::<Option<_>>()?;
        Some(command)
    }

    /// Makes an argument of a call from an argument of the key. `None` if it names a root that the checkout
    /// does not have.
    pub fn argument(&self, argument: &str) -> Option<OsString> {
        let Some((before, path)) = self.path(argument) else { return self.text(argument) };
        let mut whole = OsString::from(before);
        whole.push(path?);
        Some(whole)
    }

    /// Splits an argument that ends in a path through the input root into the text before the path and
    /// the path in this checkout. `None` if the argument has no such path; an inner `None` if this
    /// checkout has no such root.
    fn path<'t>(&self, argument: &'t str) -> Option<(&'t str, Option<PathBuf>)> {
        let at = argument.find(&self.up)?;
        let path = RolePath::from_input_root(&argument.as_bytes()[at + self.up.len()..])?;
        let place = if argument.contains(MARK) { None } else { self.roots.locate(&path) };
        // [`ArgumentWriter`] marks a relative path into another root by `./`. All others were absolute.
        Some(match argument[..at].strip_suffix("./") {
            Some(before) => (before, place.map(|place| relative(&self.cwd, &place))),
            None => (&argument[..at], place),
        })
    }

    fn text(&self, text: &str) -> Option<OsString> {
        let bytes = bytes_of(text)?;
        self.roots.localise(&bytes, Form::Value).map(OsString::from_vec)
    }
}

fn of(entries: &[Entry], section: Section) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(move |entry| entry.section == section)
}

/// The relative path from a directory to a path; both are absolute and in normal form.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let ups = from.components().skip(shared).map(|_| Component::ParentDir.as_os_str());
    let downs = to.components().skip(shared).map(Component::as_os_str);
    let way: PathBuf = ups.chain(downs).collect();
    if way.as_os_str().is_empty() { PathBuf::from(OsStr::new(".")) } else { way }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_goes_up_and_down() {
        for (from, to, expected) in
            [("/a/b", "/a/c/d", "../c/d"), ("/a/b", "/a/b/c", "c"), ("/a", "/a", "."), ("/", "/x", "x")]
        {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(expected));
        }
    }
}
