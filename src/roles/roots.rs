//! The roots of one call: the directories of its roles.
//!
//! Pure and lexical: it follows no link, because compilers write paths as they were given. A path has the
//! role of the deepest root that contains it. `path_names.rs` has the names of paths that are in no root.
//!
//! A root keeps the spelling of the call, because that spelling gets into outputs, messages and variables:
//! cargo makes `/ws/../t` of a target directory `../t`. Whether a root contains a path is decided in normal
//! form.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::path::{Role, RolePath};

/// A role with its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// The role of the directory.
    pub role: Role,
    /// The directory: absolute, in the spelling of the call.
    pub dir: PathBuf,
}

/// The roots of one call. The fields are private to keep this: the deepest root comes first, and each role
/// occurs at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    roots: Vec<Root>,
    /// The directories of `roots` in lexical normal form, in the same order.
    normal: Vec<PathBuf>,
}

impl Roots {
    /// Creates the roots of a call. If a role has several directories, the first is used.
    pub fn new(roots: impl IntoIterator<Item = Root>) -> Self {
        let mut kept: Vec<Root> = Vec::new();
        for Root { role, dir } in roots {
            if kept.iter().all(|other| other.role != role) {
                // This removes a slash at the end, so that a joined path has no double slash.
                kept.push(Root { role, dir: dir.components().as_path().to_owned() });
            }
        }
        kept.sort_by_key(|root| std::cmp::Reverse(normalise(&root.dir).components().count()));
        let normal = kept.iter().map(|root| normalise(&root.dir)).collect();
        Roots { roots: kept, normal }
    }

    /// Returns all roots, the deepest first.
    pub fn iter(&self) -> impl Iterator<Item = &Root> {
        self.roots.iter()
    }

    /// Returns each root in the spelling of the call, and in normal form if that differs.
    pub fn spellings(&self) -> impl Iterator<Item = (Role, &Path)> {
        let each = self.roots.iter().zip(&self.normal);
        each.flat_map(|(root, normal)| {
            let other = (normal.as_os_str() != root.dir.as_os_str()).then_some((root.role, &**normal));
            std::iter::once((root.role, &*root.dir)).chain(other)
        })
    }

    /// Returns the directory of a role; `None` if the call has no such root.
    pub fn dir(&self, role: Role) -> Option<&Path> {
        self.roots.iter().find(|root| root.role == role).map(|root| &*root.dir)
    }

    /// Returns all roots in normal form, the deepest first.
    pub(super) fn normal(&self) -> impl Iterator<Item = (Role, &Path)> {
        self.roots.iter().zip(&self.normal).map(|(root, normal)| (root.role, &**normal))
    }

    /// Returns the number of directories above the one of a role; `None` if the call has no such root.
    pub fn depth(&self, role: Role) -> Option<usize> {
        let (_, dir) = self.normal().find(|(other, _)| *other == role)?;
        Some(dir.components().count().saturating_sub(1))
    }

    /// Returns the directory `up` levels above the one of a role: for no level in the spelling of the call,
    /// otherwise in normal form. `None` if there are fewer levels or no such root.
    pub fn dir_above(&self, role: Role, up: u8) -> Option<&Path> {
        if up == 0 {
            return self.dir(role);
        }
        let (_, dir) = self.normal().find(|(other, _)| *other == role)?;
        dir.ancestors().nth(usize::from(up))
    }

    /// Returns a path by role: below the deepest root that contains it, or above a root that its text leaves
    /// through `..`, or as it is. A relative path starts at `cwd`.
    ///
    /// This name is for files that each call reads before its lookup. A path that a run was observed to read
    /// has all names that [`Roots::path_names`] returns.
    pub fn role_path(&self, cwd: &Path, path: &Path) -> RolePath {
        let given = cwd.join(path);
        let path = normalise(&given);
        let within = self
            .normal()
            .find_map(|(role, dir)| RolePath::new(role, path.strip_prefix(dir).ok()?.as_os_str().as_bytes()));
        within.or_else(|| self.names_by_text(&given).into_iter().next()).unwrap_or_else(|| absolute(&path))
    }

    /// Returns the path in this checkout; `None` if this call has no such root. A path above a root contains
    /// `..`, so that it leads to the same file as in a compiler. For a path that stands for several files, it
    /// returns the first.
    pub fn locate(&self, path: &RolePath) -> Option<PathBuf> {
        let mut located = match path.role() {
            Role::Absolute => PathBuf::from("/"),
            role => self.dir(role)?.to_owned(),
        };
        let up = if path.is_everywhere_above() { 1 } else { path.up() };
        (0..up).for_each(|_| located.push(".."));
        if !path.rest().is_empty() {
            located.push(OsStr::from_bytes(path.rest()));
        }
        Some(located)
    }

    /// Returns all paths in this checkout that a path by role stands for: one, unless it is
    /// [`RolePath::is_everywhere_above`]. `None` if this call has no such root.
    pub fn locate_all(&self, path: &RolePath) -> Option<Vec<PathBuf>> {
        if !path.is_everywhere_above() {
            return Some(vec![self.locate(path)?]);
        }
        let depth = u8::try_from(self.depth(path.role())?).ok()?;
        let at = |up| self.locate(&RolePath::above(path.role(), up, path.rest())?);
        (1..=depth).map(at).collect()
    }
}

/// Returns an absolute path in normal form as a path of [`Role::Absolute`].
pub(super) fn absolute(path: &Path) -> RolePath {
    let rest = path.strip_prefix("/").unwrap_or(path);
    RolePath::new(Role::Absolute, rest.as_os_str().as_bytes())
        .expect("a path in normal form has no `..` and no empty component")
}

/// Returns a path in lexical normal form: without `.`, `..` and double slashes. A `..` removes the component
/// before it without following links, as in the paths that compilers print; at the root it has no effect.
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
            ("../shared.txt", "ws-up1/shared.txt"),
            ("/home/a/ws/x/../../../b/./c", "ws-up2/b/c"),
            ("/home/a/.cargo/../x", "cargo-up1/x"),
            ("../../../../../x", "ws-up5/x"),
            ("..", "ws-up1"),
        ] {
            let found = roots().role_path(Path::new("/home/a/ws"), Path::new(path));
            assert_eq!(found.to_string(), expected);
            assert_eq!(RolePath::from_input_root(&found.in_input_root()), Some(found));
        }
    }

    #[test]
    fn key_17_a_root_contains_paths_in_any_spelling_and_keeps_its_own() {
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
    fn locate_is_the_reverse_of_role_path() {
        for path in ["/home/a/ws/src/lib.rs", "/home/a/ws/target/x", "/usr/lib/x.so", "/home/a/.cargo"] {
            let found = roots().role_path(Path::new("/"), Path::new(path));
            assert_eq!(roots().locate(&found).unwrap(), Path::new(path));
        }
        let elsewhere = RolePath::new(Role::Sysroot, "bin/rustc").unwrap();
        assert_eq!(roots().locate(&elsewhere), None);
        // The path contains `..`, so that it is right even if the root is a link.
        let above = RolePath::above(Role::Workspace, 2, "x").unwrap();
        assert_eq!(roots().locate(&above).unwrap().as_os_str(), "/home/a/ws/../../x");
        assert_eq!(roots().dir_above(Role::Workspace, 2), Some(Path::new("/home")));
        assert_eq!(roots().dir_above(Role::Workspace, 3), Some(Path::new("/")));
        assert_eq!(roots().dir_above(Role::Workspace, 4), None);
        let everywhere = RolePath::everywhere_above(Role::Workspace, ".env").unwrap();
        let paths: Vec<PathBuf> =
            roots().locate_all(&everywhere).unwrap().iter().map(|path| normalise(path)).collect();
        assert_eq!(paths, ["/home/a/.env", "/home/.env", "/.env"].map(PathBuf::from));
    }

    #[test]
    fn a_rest_that_could_leave_its_root_is_refused() {
        for rest in ["/a", "a/", "a//b", "..", "a/../b", "./a", "."] {
            assert_eq!(RolePath::new(Role::Workspace, rest), None, "{rest}");
            assert_eq!(RolePath::above(Role::Workspace, 1, rest), None, "{rest}");
        }
        assert_eq!(RolePath::above(Role::Absolute, 1, "a"), None);
        assert_eq!(RolePath::above(Role::Workspace, u8::MAX, "a"), None);
    }

    #[test]
    fn key_02_a_path_above_a_root_has_one_name() {
        let above = |up| RolePath::above(Role::Base(3), up, "a/b").unwrap();
        let everywhere = RolePath::everywhere_above(Role::Target, "a").unwrap();
        for (path, name) in
            [(above(0), "base3/a/b"), (above(12), "base3-up12/a/b"), (everywhere, "out-above/a")]
        {
            assert_eq!(path.to_string(), name);
            assert_eq!(RolePath::from_input_root(name.as_bytes()), Some(path));
        }
        for name in [
            "ws-up0/a",
            "ws-up01/a",
            "ws-up255/a",
            "ws-/a",
            "ws-above",
            "ws-above/..",
            "abs-up1/a",
            "ws-up+1/a",
        ] {
            assert_eq!(RolePath::from_input_root(name.as_bytes()), None, "{name}");
        }
    }
}
