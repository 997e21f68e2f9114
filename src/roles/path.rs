//! A path by its role.
//!
//! Pure. Two checkouts, two homes and two machines name the same file by the same
//! `RolePath` (KEY-17), and the directories of an action's input root are the roles.

use std::fmt;

/// What a directory is to a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The workspace's root.
    Workspace,
    /// Cargo's target or build directory: what the build itself made.
    Target,
    /// `$CARGO_HOME`: sources of registry and git packages.
    Cargo,
    /// The toolchain.
    Sysroot,
    /// A root that the user named (`paths.base_dirs`), by its place in that list.
    Base(u8),
    /// No root of ours: the path itself is meant.
    Absolute,
}

impl Role {
    /// The name of its directory in an input root.
    pub fn dir_name(self) -> String {
        match self {
            Role::Workspace => "ws".to_owned(),
            Role::Target => "out".to_owned(),
            Role::Cargo => "cargo".to_owned(),
            Role::Sysroot => "sysroot".to_owned(),
            Role::Base(index) => format!("base{index}"),
            Role::Absolute => "abs".to_owned(),
        }
    }

    /// The role whose directory has this name.
    pub fn from_dir_name(name: &str) -> Option<Role> {
        match name {
            "ws" => Some(Role::Workspace),
            "out" => Some(Role::Target),
            "cargo" => Some(Role::Cargo),
            "sysroot" => Some(Role::Sysroot),
            "abs" => Some(Role::Absolute),
            _ => name.strip_prefix("base")?.parse().ok().map(Role::Base),
        }
    }
}

/// A path below a role's directory. Private fields: `rest` is relative, in lexical normal
/// form (no empty, `.` or `..` component), and empty for the root itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RolePath {
    role: Role,
    rest: Vec<u8>,
}

impl RolePath {
    /// `None` if `rest` is not in normal form.
    pub fn new(role: Role, rest: impl Into<Vec<u8>>) -> Option<RolePath> {
        let rest = rest.into();
        let is_normal = rest.is_empty()
            || rest.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
        is_normal.then_some(RolePath { role, rest })
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What follows the role's directory; empty for the directory itself.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Its place in an input root, such as `ws/src/lib.rs`.
    pub fn in_input_root(&self) -> Vec<u8> {
        let mut path = self.role.dir_name().into_bytes();
        if !self.rest.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&self.rest);
        }
        path
    }

    /// The reverse of [`RolePath::in_input_root`].
    pub fn from_input_root(path: &[u8]) -> Option<RolePath> {
        let mut halves = path.splitn(2, |byte| *byte == b'/');
        let role = Role::from_dir_name(std::str::from_utf8(halves.next()?).ok()?)?;
        RolePath::new(role, halves.next().unwrap_or_default())
    }
}

impl fmt::Debug for RolePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RolePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.in_input_root()))
    }
}
