//! Which names a place has that a compile looked at: from where it may have been come by.
//!
//! Pure. A result is good for another checkout if that one finds the same under every name that
//! the place may have been come by. The text of a path often tells: `src/../../shared.txt` was come
//! by from the workspace. `/home/a/r1/shared.txt` does not: a macro may have gone upwards from the
//! workspace with `Path::parent`, or have been told this very path. Then both names count.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use super::path::{Role, RolePath};
use super::roots::{Roots, absolute, normalise};
use super::system::system_dir;

/// The names of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// Its text tells how it was come by: all of these names count, and mostly there is one.
    Told(Vec<RolePath>),
    /// Its text does not.
    Untold {
        /// The place as it is.
        absolute: RolePath,
        /// The place as an upward search from each root finds it.
        relative: Vec<RolePath>,
    },
}

impl Roots {
    /// The names of a place by the text of its path, of which a relative one counts from `cwd`.
    pub fn places(&self, cwd: &Path, path: &Path) -> Places {
        let given = cwd.join(path);
        let normal = normalise(&given);
        let below = |(role, dir): (Role, &Path)| {
            RolePath::new(role, normal.strip_prefix(dir).ok()?.as_os_str().as_bytes())
        };
        let within = self.normal().find_map(below);
        let mut names = self.climbed(&given);
        if within.is_some() || !names.is_empty() {
            names.extend(within);
            return Places::Told(names);
        }
        if self.is_everybodys(&normal) || self.is_of_fixed_directory(cwd, &given) {
            return Places::Told(vec![absolute(&normal)]);
        }
        Places::Untold { absolute: absolute(&normal), relative: self.searched(&normal) }
    }

    /// The names of a path in normal form as upward searches from every root find it.
    pub fn searched(&self, normal: &Path) -> Vec<RolePath> {
        let from = |(role, dir): (Role, &Path)| {
            let shared = dir.components().zip(normal.components()).take_while(|(a, b)| a == b).count();
            let up = u8::try_from(dir.components().count().saturating_sub(shared)).ok()?;
            let rest: std::path::PathBuf = normal.components().skip(shared).collect();
            RolePath::above(role, up, rest.as_os_str().as_bytes())
        };
        self.normal().filter(|(role, _)| *role != Role::Sysroot).filter_map(from).collect()
    }

    /// The names of a path whose text enters a root and leaves it upwards.
    pub(super) fn climbed(&self, given: &Path) -> Vec<RolePath> {
        if !given.components().any(|part| part == Component::ParentDir) {
            return Vec::new();
        }
        self.normal().filter_map(|(role, dir)| climb(role, dir, given)).collect()
    }

    /// Whether a path lies in a directory of the system, and no root does: from a root outside, it is
    /// come by through the root of the file system and by the system's own names.
    fn is_everybodys(&self, normal: &Path) -> bool {
        system_dir(normal).is_some_and(|dir| {
            let mut roots = self.normal().filter(|(role, _)| *role != Role::Sysroot);
            !roots.any(|(_, root)| root.starts_with(dir))
        })
    }

    /// Whether a path begins with the call's directory, and that lies in no root: then the key names
    /// the directory as it is, and so all that is come by from it.
    fn is_of_fixed_directory(&self, cwd: &Path, given: &Path) -> bool {
        let fixed = normalise(cwd);
        given.starts_with(cwd) && !self.normal().any(|(_, dir)| fixed.starts_with(dir))
    }
}

/// The name of a path that enters this directory and leaves it upwards.
fn climb(role: Role, dir: &Path, given: &Path) -> Option<RolePath> {
    let mut at = std::path::PathBuf::new();
    let mut has_entered = false;
    let mut up = 0u8;
    // What comes behind the directory that `up` counts to.
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
        match roots.places(Path::new(cwd), Path::new(path)) {
            Places::Told(names) => names.iter().map(RolePath::to_string).collect(),
            Places::Untold { absolute, relative } => {
                let names = std::iter::once(&absolute).chain(&relative);
                names.map(|name| format!("? {name}")).collect()
            }
        }
    }

    #[test]
    fn key_17_a_text_that_goes_upwards_tells_where_it_comes_from() {
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
    fn key_17_a_text_that_tells_nothing_counts_in_every_way() {
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
        // The key names this directory.
        assert_eq!(names(&roots, "/srv/dep", "src/lib.rs"), ["abs/srv/dep/src/lib.rs"]);
        assert_eq!(names(&roots, "/srv/dep", "src/../../x"), ["abs/srv/x"]);
        assert_eq!(names(&roots, "/srv/dep", "/srv/x")[0], "? abs/srv/x");
    }

    #[test]
    fn key_17_a_directory_of_the_system_is_none_where_checkouts_lie_in_it() {
        let root = Root { role: Role::Workspace, dir: PathBuf::from("/opt/r1/rust") };
        let roots = Roots::new([root]);
        assert_eq!(names(&roots, "/opt/r1/rust", "/opt/r1/x"), ["? abs/opt/r1/x", "? ws-up1/x"]);
        assert_eq!(names(&roots, "/opt/r1/rust", "/usr/lib/x"), ["abs/usr/lib/x"]);
    }
}
