//! The paths that a build reads in its checkout: files, listings, links and absent files whose change could change
//! the build.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Names of files of cargo and git, which are left out because only reads of the compiler matter.
const LEFT_OUT: &[&str] = &["target", "Cargo.lock", ".git", ".cargo-lock"];

/// Paths relative to the checkout, by kind of access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Paths that were opened or examined and exist.
    pub(crate) found: BTreeSet<PathBuf>,
    /// Paths that were opened or examined and do not exist.
    pub(crate) missing: BTreeSet<PathBuf>,
    /// Directories that were listed.
    pub(crate) listed: BTreeSet<PathBuf>,
}

impl Reads {
    /// Parses the log of `strace`, which was run in the directory `from` of the checkout `top`.
    pub(crate) fn parse(log: &str, top: &Path, from: &Path) -> Reads {
        let mut reads = Reads::default();
        for line in log.lines() {
            let Some(call) = TracedCall::parse(line) else { continue };
            let path = normal(&call.directory.as_deref().unwrap_or(from).join(&call.path));
            let Ok(path) = path.strip_prefix(top) else { continue };
            let is_left_out = |part: Component<'_>| LEFT_OUT.iter().any(|name| part.as_os_str() == *name);
            if path.as_os_str().is_empty() || path.components().any(is_left_out) {
                continue;
            }
            let set = match call.outcome {
                PathAccess::Found => &mut reads.found,
                PathAccess::Missing => &mut reads.missing,
                PathAccess::Listed => &mut reads.listed,
            };
            set.insert(path.to_owned());
        }
        reads
    }

    /// The number of paths.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.missing.len() + self.listed.len()
    }
}

/// The kind of an access, by the result of the system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathAccess {
    Found,
    Missing,
    Listed,
}

/// A system call that names a path.
#[derive(Debug, PartialEq, Eq)]
struct TracedCall {
    /// The directory to which a relative path belongs, if the line names it.
    directory: Option<PathBuf>,
    path: PathBuf,
    outcome: PathAccess,
}

impl TracedCall {
    /// Parses a line such as `7 openat(AT_FDCWD</a>, "b", O_RDONLY) = 3</a/b>`.
    fn parse(line: &str) -> Option<TracedCall> {
        let (head, result) = line.rsplit_once(" = ")?;
        let (name, arguments) = head.split_once('(')?;
        let name = name.rsplit(' ').next()?;
        if name.starts_with("getdents") {
            let path = between(arguments, '<', '>')?;
            return Some(TracedCall { directory: None, path: path.into(), outcome: PathAccess::Listed });
        }
        let is_read = ["open", "stat", "access", "readlink"].iter().any(|part| name.contains(part));
        let is_made = arguments.contains("O_CREAT") && arguments.contains("O_TRUNC");
        if !is_read || is_made {
            return None;
        }
        let (before, rest) = arguments.split_once('"')?;
        let path = rest.split_once('"')?.0;
        let outcome = match result.strip_prefix("-1 ") {
            None => PathAccess::Found,
            Some(error) if error.starts_with("ENOENT") || error.starts_with("ENOTDIR") => PathAccess::Missing,
            Some(_) => return None,
        };
        Some(TracedCall {
            directory: between(before, '<', '>').map(PathBuf::from),
            path: path.into(),
            outcome,
        })
    }
}

fn between(text: &str, from: char, to: char) -> Option<&str> {
    let rest = text.split_once(from)?.1;
    Some(rest.rsplit_once(to)?.0)
}

/// Removes `.` and `..` from a path without looking at the files.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_strace_are_parsed() {
        let log = r#"7 openat(AT_FDCWD</w/top/project>, "src/main.rs", O_RDONLY|O_CLOEXEC) = 3</w/top/project/src/main.rs>
7 statx(AT_FDCWD</w/top/project>, "../.env", AT_STATX_SYNC_AS_STAT, STATX_ALL, 0x7ffd) = -1 ENOENT (No such file or directory)
[pid 8] getdents64(3</w/top/project/templates>, 0x55 /* 4 entries */, 32768) = 128
8 readlink("/w/top/project/link", "to", 4095) = 2
8 stat("relative", 0x7ff) = 0
8 openat(AT_FDCWD</w/top/project>, "target/x", O_RDONLY) = 4
8 openat(AT_FDCWD</w/top/project>, "/usr/lib/libc.so", O_RDONLY) = 4
8 openat(AT_FDCWD</w/top/project>, "made", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 5
8 +++ exited with 0 +++"#;
        let reads = Reads::parse(log, Path::new("/w/top"), Path::new("/w/top/project"));
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        assert_eq!(reads.found, paths(&["project/src/main.rs", "project/link", "project/relative"]));
        assert_eq!(reads.missing, paths(&[".env"]));
        assert_eq!(reads.listed, paths(&["project/templates"]));
    }
}
