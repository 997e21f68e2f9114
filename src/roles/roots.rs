//! Where the roles' directories lie for one call.
//!
//! Pure and lexical: it follows no link, because compilers write paths down as they were
//! given. The deepest root that holds a path gives it its role.
//!
//! A directory is kept as the call writes it, because that is what gets into outputs, messages
//! and variables: cargo makes `/ws/../t` of a target directory `../t`. Which root holds a path
//! is decided in normal form.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::path::{Role, RolePath};

/// One root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its role.
    pub role: Role,
    /// Its directory: absolute, as the call writes it.
    pub dir: PathBuf,
}

/// The roots of one call. Private fields: deepest first, each role at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    roots: Vec<Root>,
    /// Their directories in lexical normal form, in the same order.
    normal: Vec<PathBuf>,
}

impl Roots {
    /// Orders them. Of several directories for one role the first is taken.
    pub fn new(roots: impl IntoIterator<Item = Root>) -> Self {
        let mut kept: Vec<Root> = Vec::new();
        for Root { role, dir } in roots {
            if kept.iter().all(|other| other.role != role) {
                // What is joined to a directory does not repeat a slash at its end.
                kept.push(Root { role, dir: dir.components().as_path().to_owned() });
            }
        }
        kept.sort_by_key(|root| std::cmp::Reverse(normalise(&root.dir).components().count()));
        let normal = kept.iter().map(|root| normalise(&root.dir)).collect();
        Roots { roots: kept, normal }
    }

    /// All of them, deepest first.
    pub fn iter(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter()
    }

    /// Every way to write a root that is known: as the call does, and in normal form.
    pub fn spellings(&self) -> impl Iterator<Item = (Role, &Path)> {
        let each = self.roots.iter().zip(&self.normal);
        each.flat_map(|(root, normal)| {
            let other = (normal.as_os_str() != root.dir.as_os_str()).then_some((root.role, &**normal));
            std::iter::once((root.role, &*root.dir)).chain(other)
        })
    }

    /// The directory of a role.
    pub fn dir(&self, role: Role) -> Option<&Path> {
        self.roots.iter().find(|root| root.role == role).map(|root| &*root.dir)
    }

    /// A path by its role. A relative one counts from `cwd`.
    pub fn role_path(&self, cwd: &Path, path: &Path) -> RolePath {
        let path = normalise(&cwd.join(path));
        let within =
            |(root, dir): (&Root, &PathBuf)| Some((root.role, path.strip_prefix(dir).ok()?.to_owned()));
        let (role, rest) = self.roots.iter().zip(&self.normal).find_map(within).unwrap_or_else(|| {
            (Role::Absolute, path.strip_prefix("/").map(Path::to_owned).unwrap_or_default())
        });
        RolePath::new(role, rest.as_os_str().as_bytes()).expect("what is normalised has no odd component")
    }

    /// Where a path by role lies here; `None` where this call has no such root.
    pub fn locate(&self, path: &RolePath) -> Option<PathBuf> {
        let dir = match path.role() {
            Role::Absolute => Path::new("/"),
            role => self.dir(role)?,
        };
        Some(if path.rest().is_empty() { dir.to_owned() } else { dir.join(OsStr::from_bytes(path.rest())) })
    }
}

/// Without `.`, `..` and doubled slashes. `..` is taken back by name, as compilers do when
/// they print paths; what goes above the root stays at the root.
pub fn normalise(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Roots {
        let root = |role, dir: &str| Root { role, dir: PathBuf::from(dir) };
        Roots::new([
            root(Role::Workspace, "/home/a/ws"),
            root(Role::Target, "/home/a/ws/target"),
            root(Role::Cargo, "/home/a/.cargo"),
        ])
    }

    #[test]
    fn key_17_the_deepest_root_gives_the_role() {
        for (path, expected) in [
            ("src/lib.rs", "ws/src/lib.rs"),
            ("/home/a/ws", "ws"),
            ("/home/a/ws/target/debug/x", "out/debug/x"),
            ("./a/../b//c", "ws/b/c"),
            ("../.cargo/registry/src/x", "cargo/registry/src/x"),
            ("/etc/passwd", "abs/etc/passwd"),
            ("/home/a/ws2/x", "abs/home/a/ws2/x"),
        ] {
            let found = roots().role_path(Path::new("/home/a/ws"), Path::new(path));
            assert_eq!(found.to_string(), expected);
            assert_eq!(RolePath::from_input_root(&found.in_input_root()), Some(found));
        }
    }

    #[test]
    fn key_17_a_root_is_known_by_its_place_and_kept_as_it_is_written() {
        let root = |role, dir: &str| Root { role, dir: PathBuf::from(dir) };
        let roots = Roots::new([root(Role::Workspace, "/a/ws"), root(Role::Target, "/a/ws/../t/./x/")]);
        for path in ["/a/t/x/debug/y", "/a/ws/../t/x/debug/y", "../t/./x/debug/y"] {
            let found = roots.role_path(Path::new("/a/ws"), Path::new(path));
            assert_eq!(found.to_string(), "out/debug/y", "{path}");
            assert_eq!(roots.locate(&found).unwrap().as_os_str(), "/a/ws/../t/./x/debug/y");
        }
        let spellings: Vec<_> = roots.spellings().map(|(_, dir)| dir.as_os_str().to_str().unwrap()).collect();
        assert_eq!(spellings, ["/a/ws/../t/./x", "/a/t/x", "/a/ws"]);
    }

    #[test]
    fn paths_are_found_again() {
        for path in ["/home/a/ws/src/lib.rs", "/home/a/ws/target/x", "/usr/lib/x.so", "/home/a/.cargo"] {
            let found = roots().role_path(Path::new("/"), Path::new(path));
            assert_eq!(roots().locate(&found).unwrap(), Path::new(path));
        }
        let elsewhere = RolePath::new(Role::Sysroot, "bin/rustc").unwrap();
        assert_eq!(roots().locate(&elsewhere), None);
    }

    #[test]
    fn a_rest_that_could_leave_its_root_is_refused() {
        for rest in ["/a", "a/", "a//b", "..", "a/../b", "./a", "."] {
            assert_eq!(RolePath::new(Role::Workspace, rest), None, "{rest}");
        }
    }
}
