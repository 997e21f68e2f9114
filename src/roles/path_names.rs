//! The names, by role, of a path that a compile has read: one for each way in which the compile may have
//! found it.
//!
//! Pure. A result is good for another checkout if that checkout has the same file under each of these names.
//! The text of a path often shows how it was found: `src/../../shared.txt` was found from the workspace. The
//! text `/home/a/r1/shared.txt` does not: a macro may have gone upwards from the workspace with
//! `Path::parent`, or may have been given this very path. Then both names count.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use super::path::{Role, RolePath};
use super::roots::{Roots, absolute, normalise};
use super::system::system_dir;

/// The names of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathNames {
    /// The text shows how the path was found. All of these names count; usually there is one.
    Certain(Vec<RolePath>),
    /// The text does not show how the path was found.
    Ambiguous {
        /// The absolute path as it is.
        absolute: RolePath,
        /// The path as an upward search from each root finds it.
        relative: Vec<RolePath>,
    },
}

impl Roots {
    /// Returns the names of a path by its text. A relative path starts at `cwd`.
    pub fn path_names(&self, cwd: &Path, path: &Path) -> PathNames {
        let given = cwd.join(path);
        let normal = normalise(&given);
        let below = |(role, dir): (Role, &Path)| {
            RolePath::new(role, normal.strip_prefix(dir).ok()?.as_os_str().as_bytes())
        };
        let within = self.normal().find_map(below);
        let mut names = self.names_by_text(&given);
        if within.is_some() || !names.is_empty() {
            names.extend(within);
            return PathNames::Certain(names);
        }
        if self.is_of_system(&normal) || self.is_below_keyed_cwd(cwd, &given) {
            return PathNames::Certain(vec![absolute(&normal)]);
        }
        PathNames::Ambiguous { absolute: absolute(&normal), relative: self.names_by_search(&normal) }
    }

    /// Returns the names of a path in normal form as upward searches from all roots find it.
    pub fn names_by_search(&self, normal: &Path) -> Vec<RolePath> {
        let from = |(role, dir): (Role, &Path)| {
            let shared = dir.components().zip(normal.components()).take_while(|(a, b)| a == b).count();
            let up = u8::try_from(dir.components().count().saturating_sub(shared)).ok()?;
            let rest: std::path::PathBuf = normal.components().skip(shared).collect();
            RolePath::above(role, up, rest.as_os_str().as_bytes())
        };
        self.normal().filter(|(role, _)| *role != Role::Sysroot).filter_map(from).collect()
    }

    /// Returns the names of a path whose text enters a root and leaves it through `..`.
    pub(super) fn names_by_text(&self, given: &Path) -> Vec<RolePath> {
        if !given.components().any(|part| part == Component::ParentDir) {
            return Vec::new();
        }
        self.normal().filter_map(|(role, dir)| name_through_root(role, dir, given)).collect()
    }

    /// Whether a path is in a directory of the system and no root is in that directory. Then a compile can
    /// only have found it by its absolute path, which is the same for every checkout.
    fn is_of_system(&self, normal: &Path) -> bool {
        system_dir(normal).is_some_and(|dir| {
            let mut roots = self.normal().filter(|(role, _)| *role != Role::Sysroot);
            !roots.any(|(_, root)| root.starts_with(dir))
        })
    }

    /// Whether a path begins with the call's directory and that directory is in no root. Then the query
    /// contains the directory's absolute path, so the result is good for this directory only, and absolute
    /// names below it suffice.
    fn is_below_keyed_cwd(&self, cwd: &Path, given: &Path) -> bool {
        let normal_cwd = normalise(cwd);
        given.starts_with(cwd) && !self.normal().any(|(_, dir)| normal_cwd.starts_with(dir))
    }
}

/// Returns the name of a path that enters this directory and leaves it through `..`; `None` for any other
/// path. It walks through the components: before the directory it builds the path `at`, and after it counts
/// the levels above it.
fn name_through_root(role: Role, dir: &Path, given: &Path) -> Option<RolePath> {
    let mut at = std::path::PathBuf::new();
    let mut has_entered = false;
    let mut up = 0u8;
    // The components after the directory that is `up` levels above.
    let mut rest: Vec<&OsStr> = Vec::new();
    for part in given.components() {
        match (part, has_entered) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, true) if rest.pop().is_none() => up = up.checked_add(1)?,
            (Component::ParentDir, true) => {}
            (Component::ParentDir, false) => drop(at.pop()),
            (other, true) => rest.push(other.as_os_str()),
            (other, false) => at.push(other),
        }
        has_entered |= at == dir;
    }
    let rest = rest.join(OsStr::new("/"));
    (up > 0).then(|| RolePath::above(role, up, rest.as_bytes()))?
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::roles::Root;

    fn roots(target: &str) -> Roots {
        let root = |role, dir: &str| Root { role, dir: PathBuf::from(dir) };
        Roots::new([
            root(Role::Workspace, "/home/a/r1/rust"),
            root(Role::Target, target),
            root(Role::Cargo, "/home/a/.cargo"),
            root(Role::Sysroot, "/home/a/.rustup/x"),
        ])
    }

    fn names(roots: &Roots, cwd: &str, path: &str) -> Vec<String> {
        match roots.path_names(Path::new(cwd), Path::new(path)) {
            PathNames::Certain(names) => names.iter().map(RolePath::to_string).collect(),
            PathNames::Ambiguous { absolute, relative } => {
                let names = std::iter::once(&absolute).chain(&relative);
                names.map(|name| format!("? {name}")).collect()
            }
        }
    }

    #[test]
    fn key_17_a_path_through_a_root_shows_where_it_was_found() {
        let roots = roots("/home/a/r1/rust/target");
        for (path, expected) in [
            ("src/lib.rs", &["ws/src/lib.rs"][..]),
            ("src/../../shared.txt", &["ws-up1/shared.txt"]),
            ("/home/a/r1/rust/app/../../../x", &["ws-up2/x"]),
            ("../rust/src/lib.rs", &["ws-up1/rust/src/lib.rs", "ws/src/lib.rs"]),
            // By way of the target directory, which lies in the workspace here.
            ("target/../../x", &["out-up2/x", "ws-up1/x"]),
            ("target/debug/../../src/lib.rs", &["out-up1/src/lib.rs", "ws/src/lib.rs"]),
            ("/home/a/.cargo/../x", &["cargo-up1/x"]),
            ("../../../../../../x", &["ws-up6/x"]),
            ("/home/a/.rustup/x/lib", &["sysroot/lib"]),
            ("../../../../usr/lib/x", &["ws-up4/usr/lib/x"]),
        ] {
            assert_eq!(names(&roots, "/home/a/r1/rust", path), expected, "{path}");
        }
    }

    #[test]
    fn key_17_an_ambiguous_path_counts_under_every_name() {
        let roots = roots("/t");
        for (path, expected) in [
            (
                "/home/a/r1/.env",
                &["? abs/home/a/r1/.env", "? ws-up1/.env", "? cargo-up1/r1/.env", "? out-up1/home/a/r1/.env"]
                    [..],
            ),
            ("/home/a/x/../y", &["? abs/home/a/y", "? ws-up2/y", "? cargo-up1/y", "? out-up1/home/a/y"]),
            ("/.env", &["? abs/.env", "? ws-up4/.env", "? cargo-up3/.env", "? out-up1/.env"]),
            ("/home/a/r1", &["? abs/home/a/r1", "? ws-up1", "? cargo-up1/r1", "? out-up1/home/a/r1"]),
            ("/usr/lib/x.so", &["abs/usr/lib/x.so"]),
            ("/home/a/r1/rust/x", &["ws/x"]),
        ] {
            assert_eq!(names(&roots, "/home/a/r1/rust", path), expected, "{path}");
        }
        // The query contains the path of this directory.
        assert_eq!(names(&roots, "/srv/dep", "src/lib.rs"), ["abs/srv/dep/src/lib.rs"]);
        assert_eq!(names(&roots, "/srv/dep", "src/../../x"), ["abs/srv/x"]);
        assert_eq!(names(&roots, "/srv/dep", "/srv/x")[0], "? abs/srv/x");
    }

    #[test]
    fn key_17_a_system_directory_with_a_root_in_it_does_not_count_as_one() {
        let root = Root { role: Role::Workspace, dir: PathBuf::from("/opt/r1/rust") };
        let roots = Roots::new([root]);
        assert_eq!(names(&roots, "/opt/r1/rust", "/opt/r1/x"), ["? abs/opt/r1/x", "? ws-up1/x"]);
        assert_eq!(names(&roots, "/opt/r1/rust", "/usr/lib/x"), ["abs/usr/lib/x"]);
    }
}
