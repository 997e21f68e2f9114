//! Makes a call from a stored action: the reverse of what `compose` does to arguments and variables.
//! `kache verify` uses it to compile an action once more.
//!
//! Pure. Parts of a call that its key leaves out are lost: the format of messages where there were
//! none, `-C incremental`, variables that do not count. None of them changes an output. The result is
//! not to be trusted: the caller must compute the key of the recalled call and run it only if that is
//! the key of the stored action.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use super::explain::{Entry, Section};
use super::material::PRESENTATION;
use super::text::{MARK, bytes_of};
use crate::roles::{Form, RolePath, Roots};

/// The parts of a call that its action tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecalledCall {
    /// The arguments, the program first.
    pub argv: Vec<OsString>,
    /// The working directory, absolute.
    pub cwd: PathBuf,
    /// The variables that are in the key. No other variable of the call is known.
    pub env: Vec<(OsString, OsString)>,
}

/// Makes the call of a stored action for the checkout with these roots. `None` if the action is not a
/// compile of kache's, or if it names a root that is not in `roots`.
pub fn recall(entries: &[Entry], roots: &Roots) -> Option<RecalledCall> {
    let arguments: Vec<&str> = of(entries, Section::Argument).map(|entry| &*entry.value).collect();
    let ["env", "-C", cwd, program, rest @ ..] = &arguments[..] else { return None };
    let up = "../".repeat(cwd.split('/').count());
    let cwd = roots.locate(&RolePath::from_input_root(cwd.as_bytes())?)?;
    let reader = ArgumentReader { roots, cwd: &cwd, up };
    // The key always holds those parts of `--json` that rustc hashes. If the compiler printed
    // messages, the presentation property holds all options, and these replace the part.
    let shown = of(entries, Section::Platform).find(|entry| entry.name == PRESENTATION);
    let (rest, presented) = match (rest, shown) {
        (rest, None) => (rest, Vec::new()),
        ([rest @ .., "--error-format=json", json], Some(entry)) => (rest, presentation(entry, json)?),
        (rest, Some(entry)) => (rest, presentation(entry, "")?),
    };
    let mut argv = vec![reader.argument(program)?];
    for argument in rest.iter().skip_while(|argument| is_remap_of_ours(argument)) {
        argv.push(reader.argument(argument)?);
    }
    argv.extend(presented);
    let variable = |entry: &Entry| Some((OsString::from(&entry.name), reader.text(&entry.value)?));
    let env = of(entries, Section::Variable).map(variable).collect::<Option<_>>()?;
    Some(RecalledCall { argv, cwd, env })
}

fn of(entries: &[Entry], section: Section) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(move |entry| entry.section == section)
}

/// Whether an argument is a remap that kache added to the key, right after the program. The recalled
/// call must not have it: the next compile adds remaps for its own roots.
fn is_remap_of_ours(argument: &str) -> bool {
    argument.strip_prefix("--remap-path-prefix=/kache/").is_some_and(|remap| {
        let (from, to) = remap.split_once('=').unwrap_or((remap, ""));
        let role = crate::roles::Role::from_dir_name(from);
        let is_role = role.and_then(|role| role.remapped_to()).is_some_and(|remapped| remapped == to);
        is_role || (from.starts_with("sysroot/") && to.starts_with("/rustc/"))
    })
}

/// Decodes the options that decide how messages look, as they were given (`compiler::rustc::task` made
/// the bytes). The value of `--json` is stored without the name of the option and without `artifacts`;
/// whether the call had `artifacts` is taken from `keyed`, the `--json` argument in the key.
fn presentation(entry: &Entry, keyed: &str) -> Option<Vec<OsString>> {
    let announces = keyed.contains("artifacts");
    let framed = bytes_of(&entry.value)?;
    let mut rest = &framed[..];
    let mut options = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (option, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let given = match (option, announces) {
            ([b'-', ..], _) => option.to_vec(),
            ([], true) => b"--json=artifacts".to_vec(),
            (words, true) => [b"--json=artifacts,", words].concat(),
            (words, false) => [b"--json=", words].concat(),
        };
        options.push(OsString::from_vec(given));
        rest = behind;
    }
    Some(options)
}

/// Makes arguments of a call from arguments of a key.
struct ArgumentReader<'a> {
    roots: &'a Roots,
    cwd: &'a Path,
    /// The relative path from the call's directory to the input root: one `../` for each level.
    up: String,
}

impl ArgumentReader<'_> {
    fn argument(&self, argument: &str) -> Option<OsString> {
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
        // `compose` marks a relative path into another root by `./`. All others were absolute.
        Some(match argument[..at].strip_suffix("./") {
            Some(before) => (before, place.map(|place| relative(self.cwd, &place))),
            None => (&argument[..at], place),
        })
    }

    fn text(&self, text: &str) -> Option<OsString> {
        let bytes = bytes_of(text)?;
        self.roots.localise(&bytes, Form::Value).map(OsString::from_vec)
    }
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

    #[test]
    fn only_remaps_of_kache_itself_are_left_out() {
        for (argument, expected) in [
            ("--remap-path-prefix=/kache/ws=.", true),
            ("--remap-path-prefix=/kache/sysroot/lib/rustlib/src/rust=/rustc/abc", true),
            ("--remap-path-prefix=/kache/ws=/elsewhere", false),
            ("--remap-path-prefix=/kache/ws/src=.", false),
            ("--remap-path-prefix", false),
        ] {
            assert_eq!(is_remap_of_ours(argument), expected, "{argument}");
        }
    }
}
