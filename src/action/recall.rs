//! A call told from its action: the reverse of what `compose` does to arguments and variables,
//! for whoever wants to compile the same once more.
//!
//! Pure. What a key leaves out is lost (how a call wanted its messages where there were none,
//! `-C incremental`, variables that do not count); it changes no output. Nothing here is to
//! be believed: whoever runs what comes of it makes its key first, and takes only the same.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use super::explain::{Entry, Section};
use super::material::PRESENTATION;
use super::text::{MARK, bytes_of};
use crate::roles::{Form, RolePath, Roots};

/// A call as far as its action tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The program first.
    pub argv: Vec<OsString>,
    /// The directory.
    pub cwd: PathBuf,
    /// The variables that count.
    pub env: Vec<(OsString, OsString)>,
}

/// The call of a stored action in the checkout with these roots. `None` where it cannot be
/// told, or names a root that is not among them.
pub fn recall(entries: &[Entry], roots: &Roots) -> Option<Recalled> {
    let arguments: Vec<&str> = of(entries, Section::Argument).map(|entry| &*entry.value).collect();
    let ["env", "-C", cwd, program, rest @ ..] = &arguments[..] else { return None };
    let up = "../".repeat(cwd.split('/').count());
    let cwd = roots.locate(&RolePath::from_input_root(cwd.as_bytes())?)?;
    let reader = Reader { roots, cwd: &cwd, up };
    // How messages looked is in the key in part; where there were any, all of it is known.
    let shown = of(entries, Section::Platform).find(|entry| entry.name == PRESENTATION);
    let (rest, looks) = match (rest, shown) {
        (rest, None) => (rest, Vec::new()),
        ([rest @ .., "--error-format=json", json], Some(entry)) => (rest, presentation(entry, json)?),
        (rest, Some(entry)) => (rest, presentation(entry, "")?),
    };
    let mut argv = vec![reader.argument(program)?];
    for argument in rest.iter().skip_while(|argument| is_remap_of_ours(argument)) {
        argv.push(reader.argument(argument)?);
    }
    argv.extend(looks);
    let variable = |entry: &Entry| Some((OsString::from(&entry.name), reader.text(&entry.value)?));
    let env = of(entries, Section::Variable).map(variable).collect::<Option<_>>()?;
    Some(Recalled { argv, cwd, env })
}

fn of(entries: &[Entry], section: Section) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(move |entry| entry.section == section)
}

/// What is remapped by role stands right behind the program. It follows from the roots, so
/// whoever compiles adds it anew.
fn is_remap_of_ours(argument: &str) -> bool {
    argument.strip_prefix("--remap-path-prefix=/kache/").is_some_and(|remap| {
        let (from, to) = remap.split_once('=').unwrap_or((remap, ""));
        let role = crate::roles::Role::from_dir_name(from);
        let is_role = role.and_then(|role| role.remapped_to()).is_some_and(|remapped| remapped == to);
        is_role || (from.starts_with("sysroot/") && to.starts_with("/rustc/"))
    })
}

/// The options by which messages looked, as they were given. They are kept each behind its
/// length, what belongs to `--json` without that, and without notices of outputs, of which the
/// key itself tells.
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

/// Arguments on their way back.
struct Reader<'a> {
    roots: &'a Roots,
    cwd: &'a Path,
    /// The way from the directory of the call to the input root.
    up: String,
}

impl Reader<'_> {
    fn argument(&self, argument: &str) -> Option<OsString> {
        let Some((before, path)) = self.path(argument) else { return self.text(argument) };
        let mut whole = OsString::from(before);
        whole.push(path?);
        Some(whole)
    }

    /// The path through the input root that an argument ends in, and what stands before it.
    fn path<'t>(&self, argument: &'t str) -> Option<(&'t str, Option<PathBuf>)> {
        let at = argument.find(&self.up)?;
        let path = RolePath::from_input_root(&argument.as_bytes()[at + self.up.len()..])?;
        let place = if argument.contains(MARK) { None } else { self.roots.locate(&path) };
        // Given through a parent, or given absolutely.
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

/// The way from one directory to a path; both are absolute and in normal form.
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
    fn a_way_goes_up_and_down() {
        for (from, to, expected) in
            [("/a/b", "/a/c/d", "../c/d"), ("/a/b", "/a/b/c", "c"), ("/a", "/a", "."), ("/", "/x", "x")]
        {
            assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(expected));
        }
    }

    #[test]
    fn only_what_kache_itself_remaps_is_left_out() {
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
