//! The `--remap-path-prefix` options that keep a build's place out of what it makes (KEY-17).
//!
//! Pure. The last one that matches wins in rustc, so these go before the user's own (KEY-19),
//! and among themselves from general to special.
//!
//! The workspace becomes `.`, not a name of ours: panics, backtraces, diagnostics and gdb then
//! say what they say without kache. The target directory becomes `./target` wherever it lies,
//! so that a checkout with a target directory elsewhere makes the same bytes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::path::Role;
use super::roots::Roots;

/// One such option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remap {
    /// What the directory is.
    pub role: Role,
    /// The directory.
    pub from: PathBuf,
    /// What is written in its place.
    pub to: String,
}

impl Remap {
    /// As an argument.
    pub fn argument(&self) -> OsString {
        let mut argument = OsString::from("--remap-path-prefix=");
        argument.push(&self.from);
        argument.push("=");
        argument.push(&self.to);
        argument
    }
}

impl Role {
    /// What paths below a root of this role are remapped to; nothing for a root that does not
    /// get into outputs.
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
    /// The options for these roots. `rust_src` is where the toolchain's sources are, if they
    /// are installed, and the commit they are from: rustc then writes their real place into
    /// what uses the standard library, and what it writes without them is restored.
    pub fn remaps(&self, rust_src: Option<(&Path, &str)>) -> Vec<Remap> {
        let target_is_plain = match (self.dir(Role::Workspace), self.dir(Role::Target)) {
            (Some(workspace), Some(target)) => target == workspace.join("target"),
            _ => false,
        };
        // Deepest first, so the reverse is from general to special.
        let mut remaps: Vec<Remap> = self
            .iter()
            .filter(|root| root.dir != Path::new("/"))
            .filter(|root| !(root.role == Role::Target && target_is_plain))
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
    fn key_17_remaps_go_from_general_to_special() {
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
    fn key_17_a_root_that_is_the_whole_tree_is_not_remapped() {
        assert_eq!(arguments(&[(Role::Workspace, "/")]).len(), 1);
    }
}
