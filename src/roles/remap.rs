//! The `--remap-path-prefix` options that keep the paths of a checkout out of outputs (KEY-17).
//!
//! Pure. In rustc, the last option that matches wins. So kache's options come before the user's own (KEY-19),
//! and the option for a directory comes before those for directories inside it.
//!
//! The workspace becomes `.`, so that panics, backtraces, diagnostics and gdb show the same paths as without
//! kache. The target directory always becomes `./target`, so that a checkout with a target directory
//! elsewhere makes the same bytes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::path::Role;
use super::roots::Roots;

/// A directory with the text that the compiler writes in its place (`--remap-path-prefix`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remap {
    /// The role of the directory.
    pub role: Role,
    /// The directory that is replaced.
    pub from: PathBuf,
    /// The text that replaces the directory.
    pub to: String,
}

impl Remap {
    /// Returns the option as an argument for rustc.
    pub fn argument(&self) -> OsString {
        let mut argument = OsString::from("--remap-path-prefix=");
        argument.push(&self.from);
        argument.push("=");
        argument.push(&self.to);
        argument
    }
}

impl Role {
    /// Returns the replacement for the path of a root with this role; `None` if kache does not remap such a
    /// root.
    pub fn remapped_to(self) -> Option<String> {
        match self {
            Role::Workspace => Some(".".to_owned()),
            Role::Target => Some("./target".to_owned()),
            Role::Cargo | Role::Base(_) => Some(format!("/kache/{}", self.dir_name())),
            Role::Sysroot | Role::Absolute => None,
        }
    }
}

impl Roots {
    /// Returns the options for these roots, the general ones first. `rust_src` is the directory of the
    /// standard library's sources, if they are installed, and their commit: with installed sources, rustc
    /// writes their real paths into outputs that use the standard library, and the option restores the paths
    /// that it writes without them.
    pub fn remaps(&self, rust_src: Option<(&Path, &str)>) -> Vec<Remap> {
        let is_target_in_workspace = match (self.dir(Role::Workspace), self.dir(Role::Target)) {
            (Some(workspace), Some(target)) => target == workspace.join("target"),
            _ => false,
        };
        // The roots are sorted with the deepest first, so the reverse order has the general ones first.
        let mut remaps: Vec<Remap> = self
            .iter()
            .filter(|root| root.dir != Path::new("/"))
            .filter(|root| !(root.role == Role::Target && is_target_in_workspace))
            .filter_map(|root| {
                Some(Remap { role: root.role, from: root.dir.clone(), to: root.role.remapped_to()? })
            })
            .collect();
        remaps.reverse();
        remaps.extend(rust_src.map(|(dir, commit)| Remap {
            role: Role::Sysroot,
            from: dir.to_owned(),
            to: format!("/rustc/{commit}"),
        }));
        remaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roles::Root;

    fn arguments(roots: &[(Role, &str)]) -> Vec<String> {
        let roots = Roots::new(roots.iter().map(|(role, dir)| Root { role: *role, dir: PathBuf::from(dir) }));
        let rust_src = (Path::new("/t/lib/rustlib/src/rust"), "abc");
        let remaps = roots.remaps(Some(rust_src));
        let arguments = remaps.iter().map(|remap| remap.argument().into_string().unwrap());
        arguments.map(|argument| argument["--remap-path-prefix=".len()..].to_owned()).collect()
    }

    #[test]
    fn key_17_general_remaps_come_before_special_ones() {
        let target_inside = [
            (Role::Target, "/a/ws/target"),
            (Role::Workspace, "/a/ws"),
            (Role::Cargo, "/a/ws/.home/cargo"),
            (Role::Sysroot, "/t"),
        ];
        let sources = "/t/lib/rustlib/src/rust=/rustc/abc";
        assert_eq!(arguments(&target_inside), ["/a/ws=.", "/a/ws/.home/cargo=/kache/cargo", sources]);
        let target_elsewhere = [(Role::Target, "/b"), (Role::Workspace, "/a/ws"), (Role::Base(1), "/a")];
        let found = arguments(&target_elsewhere);
        assert_eq!(found.last().unwrap(), sources);
        assert!(found.contains(&"/b=./target".to_owned()));
        let at = |wanted: &str| found.iter().position(|argument| argument == wanted).unwrap();
        assert!(at("/a=/kache/base1") < at("/a/ws=."));
    }

    #[test]
    fn key_17_the_root_of_the_file_system_is_not_remapped() {
        assert_eq!(arguments(&[(Role::Workspace, "/")]).len(), 1);
    }
}
