//! Where the roles' directories lie for one call.
//!
//! Pure and lexical: it follows no link, because compilers write paths down as they were
//! given. The deepest root that holds a path gives it its role. `places.rs` says which names a path
//! has that lies in none.
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

    /// All of them with their directories in normal form, deepest first.
    pub(super) fn normal(&self) -> impl Iterator<Item = (Role, &Path)> {
        self.roots.iter().zip(&self.normal).map(|(root, normal)| (root.role, &**normal))
    }

    /// How many directories lie above the one of a role.
    pub fn depth(&self, role: Role) -> Option<usize> {
        let (_, dir) = self.normal().find(|(known, _)| *known == role)?;
        Some(dir.components().count().saturating_sub(1))
    }

    /// The directory that lies `up` levels above the one of a role: in the call's own spelling for
    /// no level, in normal form above it. `None` where there are fewer.
    pub fn dir_above(&self, role: Role, up: u8) -> Option<&Path> {
        if up == 0 {
            return self.dir(role);
        }
        let (_, dir) = self.normal().find(|(known, _)| *known == role)?;
        dir.ancestors().nth(usize::from(up))
    }

    /// A path by its role: below the deepest root that holds it, else above the root from which its
    /// text goes upwards, else as it is. A relative one counts from `cwd`. This name is for what
    /// every call looks at anew; what a run has found out has the names that
    /// [`Roots::places`] tells.
    pub fn role_path(&self, cwd: &Path, path: &Path) -> RolePath {
        let given = cwd.join(path);
        let path = normalise(&given);
        let within = self
            .normal()
            .find_map(|(role, dir)| RolePath::new(role, path.strip_prefix(dir).ok()?.as_os_str().as_bytes()));
        within.or_else(|| self.climbed(&given).into_iter().next()).unwrap_or_else(|| absolute(&path))
    }

    /// Where a path by role lies here; `None` where this call has no such root. What lies above a
    /// root is found as a compiler finds it that was given `..`. Of a path that stands for several
    /// places the first is told.
    pub fn locate(&self, path: &RolePath) -> Option<PathBuf> {
        let mut place = match path.role() {
            Role::Absolute => PathBuf::from("/"),
            role => self.dir(role)?.to_owned(),
        };
        let up = if path.is_everywhere_above() { 1 } else { path.up() };
        (0..up).for_each(|_| place.push(".."));
        if !path.rest().is_empty() {
            place.push(OsStr::from_bytes(path.rest()));
        }
        Some(place)
    }

    /// All places that a path by role stands for here: one, unless it is
    /// [`RolePath::is_everywhere_above`].
    pub fn locate_all(&self, path: &RolePath) -> Option<Vec<PathBuf>> {
        if !path.is_everywhere_above() {
            return Some(vec![self.locate(path)?]);
        }
        let depth = u8::try_from(self.depth(path.role())?).ok()?;
        let at = |up| self.locate(&RolePath::above(path.role(), up, path.rest())?);
        (1..=depth).map(at).collect()
    }
}

/// A path in normal form as it is.
pub(super) fn absolute(path: &Path) -> RolePath {
    let rest = path.strip_prefix("/").unwrap_or(path);
    RolePath::new(Role::Absolute, rest.as_os_str().as_bytes())
        .expect("what is normalised has no odd component")
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
        // As a compiler finds it: through a root that is a link.
        let above = RolePath::above(Role::Workspace, 2, "x").unwrap();
        assert_eq!(roots().locate(&above).unwrap().as_os_str(), "/home/a/ws/../../x");
        assert_eq!(roots().dir_above(Role::Workspace, 2), Some(Path::new("/home")));
        assert_eq!(roots().dir_above(Role::Workspace, 3), Some(Path::new("/")));
        assert_eq!(roots().dir_above(Role::Workspace, 4), None);
        let everywhere = RolePath::everywhere_above(Role::Workspace, ".env").unwrap();
        let places: Vec<PathBuf> =
            roots().locate_all(&everywhere).unwrap().iter().map(|place| normalise(place)).collect();
        assert_eq!(places, ["/home/a/.env", "/home/.env", "/.env"].map(PathBuf::from));
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
    fn key_02_a_place_above_a_root_has_one_name() {
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
