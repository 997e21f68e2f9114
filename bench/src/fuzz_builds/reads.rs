//! What a build reads in its checkout: which files, listings, links and absences could make a
//! difference.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Names of things that cargo or git keep for themselves. Only the compiler's reads count.
const LEFT_OUT: &[&str] = &["target", "Cargo.lock", ".git", ".cargo-lock"];

/// Paths below the checkout, by what was asked of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads {
    /// Opened or looked at, and there.
    pub(crate) found: BTreeSet<PathBuf>,
    /// Looked for in vain.
    pub(crate) missing: BTreeSet<PathBuf>,
    /// Directories whose entries were read.
    pub(crate) listed: BTreeSet<PathBuf>,
}

impl Reads {
    /// From the log of `strace`, run in the directory `from` of the checkout `top`.
    pub(crate) fn parse(log: &str, top: &Path, from: &Path) -> Reads {
        let mut reads = Reads::default();
        for line in log.lines() {
            let Some(call) = Call::parse(line) else { continue };
            let path = normal(&call.directory.as_deref().unwrap_or(from).join(&call.path));
            let Ok(path) = path.strip_prefix(top) else { continue };
            let is_left_out = |part: Component<'_>| LEFT_OUT.iter().any(|name| part.as_os_str() == *name);
            if path.as_os_str().is_empty() || path.components().any(is_left_out) {
                continue;
            }
            let set = match call.outcome {
                Outcome::Found => &mut reads.found,
                Outcome::Missing => &mut reads.missing,
                Outcome::Listed => &mut reads.listed,
            };
            set.insert(path.to_owned());
        }
        reads
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.missing.len() + self.listed.len()
    }
}

/// How a call of the kernel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Found,
    Missing,
    Listed,
}

/// A line that names a path.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    /// What a path that is relative begins at, where the line says so.
    directory: Option<PathBuf>,
    path: PathBuf,
    outcome: Outcome,
}

impl Call {
    /// Such as `7 openat(AT_FDCWD</a>, "b", O_RDONLY) = 3</a/b>`.
    fn parse(line: &str) -> Option<Call> {
        let (head, result) = line.rsplit_once(" = ")?;
        let (name, arguments) = head.split_once('(')?;
        let name = name.rsplit(' ').next()?;
        if name.starts_with("getdents") {
            let path = between(arguments, '<', '>')?;
            return Some(Call { directory: None, path: path.into(), outcome: Outcome::Listed });
        }
        let is_read = ["open", "stat", "access", "readlink"].iter().any(|part| name.contains(part));
        let is_made = arguments.contains("O_CREAT") && arguments.contains("O_TRUNC");
        if !is_read || is_made {
            return None;
        }
        let (before, rest) = arguments.split_once('"')?;
        let path = rest.split_once('"')?.0;
        let outcome = match result.strip_prefix("-1 ") {
            None => Outcome::Found,
            Some(error) if error.starts_with("ENOENT") || error.starts_with("ENOTDIR") => Outcome::Missing,
            Some(_) => return None,
        };
        Some(Call { directory: between(before, '<', '>').map(PathBuf::from), path: path.into(), outcome })
    }
}

fn between(text: &str, from: char, to: char) -> Option<&str> {
    let rest = text.split_once(from)?.1;
    Some(rest.rsplit_once(to)?.0)
}

/// Without `.` and `..`, by the text alone.
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
    fn lines_of_strace_are_understood() {
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
