//! The names of directories that a macro may take out of a path (KEY-07).
//!
//! A macro that reads the path `/home/ada/alpha-tree/app` may write `alpha-tree` into an output. The search
//! for whole paths does not find that. So outputs are also searched for the name of each directory whose
//! path a macro has read, and for the names of the directories above it, up to the first one that is common
//! to all users, such as `/home`. `explained.rs` decides whether a name that is found binds the result.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;

use super::scan::RootDir;
use crate::action::Task;
use crate::inputs::World;
use crate::roles::{Role, is_common, normalise};

/// Shorter names are not searched for, because the code of every program holds them by chance.
const NAME_BYTES_MIN: usize = 3;

/// The names to search for, in each spelling, with the directories that have them.
pub(super) type DirNames = BTreeMap<Vec<u8>, BTreeSet<RootDir>>;

/// The names in the paths of these directories. `disclosed` are the directories whose paths a macro has read.
pub(super) fn dir_names(disclosed: &BTreeSet<RootDir>, task: &Task, world: &dyn World) -> DirNames {
    let mut names = DirNames::new();
    // All checkouts may use one toolchain, so its path is not specific to a checkout.
    for root_dir in disclosed.iter().filter(|root_dir| root_dir.role != Role::Sysroot) {
        let Some(path) = root_dir.path(task, world).map(|path| normalise(&path)) else { continue };
        for (levels, dir) in (0..u8::MAX).zip(path.ancestors()).take_while(|(_, dir)| !is_common(dir)) {
            let Some(name) = dir.file_name().map(OsStrExt::as_bytes) else { break };
            // A directory above the real path of a root is known from that path, so it is not named by level.
            let up = if root_dir.is_real { root_dir.up } else { root_dir.up.saturating_add(levels) };
            if name.len() < NAME_BYTES_MIN || up == 0 && root_dir.role.is_usual_name(name) {
                continue;
            }
            for spelling in spellings(name) {
                names.entry(spelling).or_default().insert(RootDir { up, ..*root_dir });
            }
        }
    }
    names
}

/// A name as it is, and as the identifier that a macro would make of it.
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

    fn names(text: &str) -> Vec<String> {
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
        scanner.look(text.as_bytes());
        let names = dir_names(&scanner.found(), &task, &Disk);
        let text = |(name, dirs): (&Vec<u8>, &BTreeSet<RootDir>)| {
            let dirs = dirs.iter().map(|dir| dir.role.dir_name_above(dir.up));
            format!("{} {}", String::from_utf8(name.clone()).unwrap(), dirs.collect::<Vec<_>>().join(" "))
        };
        names.iter().map(text).collect()
    }

    #[test]
    fn key_07_a_path_discloses_the_names_of_all_its_directories() {
        assert_eq!(
            names("/home/ada/wt1/alpha-tree/app"),
            ["ada ws-up2", "alpha-tree ws", "alpha_tree ws", "wt1 ws-up1"]
        );
        // The path of a directory above a root does not disclose the names below it.
        assert_eq!(names("/home/ada/wt1"), ["ada ws-up2", "wt1 ws-up1"]);
        assert_eq!(names("/home/ada"), ["ada ws-up2 cargo-up1"]);
        assert_eq!(names("/builds/beta/target/debug"), ["beta out-up1", "builds out-up2"]);
        assert_eq!(names("/home/ada/.cargo/registry"), ["ada cargo-up1"]);
        assert_eq!(names("/home/ada/rust/stable/lib"), [""; 0]);
        assert_eq!(names("/home/bob /usr/lib"), [""; 0]);
    }
}
