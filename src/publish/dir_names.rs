//! The names of directories that a macro may take out of a path (KEY-07).
//!
//! A macro that is told `/home/ada/alpha-tree/app` may write `alpha-tree` into an output. The scan for
//! whole paths does not find that. So for each directory whose path a macro was told, its own name and
//! the names of the directories above it are looked for as well, up to the first directory that is common
//! property. `explained.rs` decides what a name means that was found.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;

use super::scan::Found;
use crate::action::Task;
use crate::inputs::World;
use crate::roles::{Role, is_common, normalise};

/// Shorter names are not looked for: the code of every program holds them by chance.
const NAME_BYTES_MIN: usize = 3;

/// Names in the spellings that are looked for, each with the directories that have it.
pub(super) type DirNames = BTreeMap<Vec<u8>, BTreeSet<Found>>;

/// The names that the paths of these directories hold.
pub(super) fn dir_names(told: &BTreeSet<Found>, task: &Task, world: &dyn World) -> DirNames {
    let mut names = DirNames::new();
    // The toolchain's directory says nothing of a checkout.
    for found in told.iter().filter(|found| found.role != Role::Sysroot) {
        let Some(path) = found.path(task, world).map(|path| normalise(&path)) else { continue };
        for (levels, dir) in (0..u8::MAX).zip(path.ancestors()).take_while(|(_, dir)| !is_common(dir)) {
            let Some(name) = dir.file_name().map(OsStrExt::as_bytes) else { break };
            // The directories above a root's real path follow from that path.
            let up = if found.is_real { found.up } else { found.up.saturating_add(levels) };
            if name.len() < NAME_BYTES_MIN || up == 0 && is_usual(found.role, name) {
                continue;
            }
            for spelling in spellings(name) {
                names.entry(spelling).or_default().insert(Found { up, ..*found });
            }
        }
    }
    names
}

/// Whether nearly every directory of this role has this name.
fn is_usual(role: Role, name: &[u8]) -> bool {
    match role {
        Role::Target => name == b"target",
        Role::Cargo => matches!(name, b".cargo" | b"cargo"),
        Role::Workspace | Role::Sysroot | Role::Base(_) | Role::Absolute => false,
    }
}

/// A name as it is, and as an identifier is made of it.
fn spellings(name: &[u8]) -> BTreeSet<Vec<u8>> {
    let identifier = name.iter().map(|byte| if matches!(byte, b'-' | b'.') { b'_' } else { *byte });
    BTreeSet::from([name.to_vec(), identifier.collect()])
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::publish::scan::Scanner;
    use crate::publish::testing::{Disk, House};
    use crate::roles::{Root, Roots};

    fn names(told: &str) -> Vec<String> {
        let root = |role, dir: &str| Root { role, dir: PathBuf::from(dir) };
        let house = House::new();
        let mut task = house.checkout("x").task();
        task.roots = Roots::new([
            root(Role::Workspace, "/home/ada/wt1/alpha-tree"),
            root(Role::Target, "/builds/beta/target"),
            root(Role::Cargo, "/home/ada/.cargo"),
            root(Role::Sysroot, "/home/ada/rust/stable"),
        ]);
        let mut scanner = Scanner::new(&task.roots, Path::new("/home/ada/wt1/alpha-tree"));
        scanner.look(told.as_bytes());
        let names = dir_names(&scanner.found(), &task, &Disk);
        let text = |(name, dirs): (&Vec<u8>, &BTreeSet<Found>)| {
            let dirs = dirs.iter().map(|dir| dir.role.dir_name_above(dir.up));
            format!("{} {}", String::from_utf8(name.clone()).unwrap(), dirs.collect::<Vec<_>>().join(" "))
        };
        names.iter().map(text).collect()
    }

    #[test]
    fn key_07_a_path_tells_the_names_of_all_directories_that_are_in_it() {
        assert_eq!(
            names("/home/ada/wt1/alpha-tree/app"),
            ["ada ws-up2", "alpha-tree ws", "alpha_tree ws", "wt1 ws-up1"]
        );
        // The path of a directory above a root does not tell what lies below it.
        assert_eq!(names("/home/ada/wt1"), ["ada ws-up2", "wt1 ws-up1"]);
        assert_eq!(names("/home/ada"), ["ada ws-up2 cargo-up1"]);
        assert_eq!(names("/builds/beta/target/debug"), ["beta out-up1", "builds out-up2"]);
        assert_eq!(names("/home/ada/.cargo/registry"), ["ada cargo-up1"]);
        assert_eq!(names("/home/ada/rust/stable/lib"), [""; 0]);
        assert_eq!(names("/home/bob /usr/lib"), [""; 0]);
    }
}
