//! Paths by role.
//!
//! Pure. The same file has the same `RolePath` in two checkouts, under two homes and on two machines
//! (KEY-17). The directories of an action's input root are the roles.

use std::fmt;

/// The role of a directory in a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The root directory of the workspace.
    Workspace,
    /// Cargo's target or build directory, with the outputs of the build.
    Target,
    /// The cargo home, with the sources of registry and git packages.
    Cargo,
    /// The directory of the toolchain.
    Sysroot,
    /// A directory in `paths.base_dirs`, by its index in that list.
    Base(u8),
    /// No root: the path is absolute and counts as it is.
    Absolute,
}

impl Role {
    /// Returns the name of the role's directory in an input root.
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

    /// Whether nearly every root of this role has this name, so that it tells no checkouts apart.
    pub fn is_usual_name(self, name: &[u8]) -> bool {
        match self {
            Role::Target => name == b"target",
            Role::Cargo => matches!(name, b".cargo" | b"cargo"),
            Role::Workspace | Role::Sysroot | Role::Base(_) | Role::Absolute => false,
        }
    }

    /// Returns the name that the directory `up` levels above this role's has in an input root. For no level,
    /// it is the role's own name.
    pub fn dir_name_above(self, up: u8) -> String {
        match up {
            0 => self.dir_name(),
            up => format!("{}-up{up}", self.dir_name()),
        }
    }

    /// Returns the role whose directory has this name in an input root; `None` if there is none.
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

/// The value of `up` for a path that stands for the same name in every directory above its role's.
const EVERYWHERE: u8 = u8::MAX;

/// A path below a role's directory, or below a directory above it.
///
/// The fields are private to keep this: `rest` is relative, in lexical normal form (no empty, `.` or `..`
/// component), and empty for the directory itself. `up` is the number of levels above the role's directory: 1
/// is its parent. [`Role::Absolute`] has nothing above it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RolePath {
    role: Role,
    up: u8,
    rest: Vec<u8>,
}

impl RolePath {
    /// Creates a path below the role's directory; `None` if `rest` is not in normal form.
    pub fn new(role: Role, rest: impl Into<Vec<u8>>) -> Option<RolePath> {
        RolePath::above(role, 0, rest)
    }

    /// Creates a path below the directory `up` levels above the role's; `None` if `rest` is not in normal
    /// form, if nothing is above the role, or if there are too many levels.
    pub fn above(role: Role, up: u8, rest: impl Into<Vec<u8>>) -> Option<RolePath> {
        let rest = rest.into();
        let is_normal = rest.is_empty()
            || rest.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
        let has_levels = up == 0 || (role != Role::Absolute && up != EVERYWHERE);
        (is_normal && has_levels).then_some(RolePath { role, up, rest })
    }

    /// Creates a path that stands for the same name in every directory above the role's, up to the root of
    /// the file system: the paths that a search checks if it goes upwards and finds nothing. `None` if `rest`
    /// is empty or not in normal form, or if nothing is above the role.
    pub fn everywhere_above(role: Role, rest: impl Into<Vec<u8>>) -> Option<RolePath> {
        let mut path = RolePath::above(role, 1, rest)?;
        path.up = EVERYWHERE;
        (!path.rest.is_empty()).then_some(path)
    }

    /// Returns the role of the root that the path begins at.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the number of levels above the role's directory at which the path begins; 0 for a path below
    /// that directory. The number has no meaning if [`RolePath::is_everywhere_above`].
    pub fn up(&self) -> u8 {
        self.up
    }

    /// Whether the path stands for the same name in every directory above the role's.
    pub fn is_everywhere_above(&self) -> bool {
        self.up == EVERYWHERE
    }

    /// Whether the path is the directory of this role, or below it.
    pub fn is_below(&self, role: Role) -> bool {
        self.role == role && self.up == 0
    }

    /// Returns the part after the directory that the path begins with; empty for the directory itself.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Returns the name of the directory that the path begins with in an input root.
    fn top(&self) -> String {
        match self.up {
            EVERYWHERE => format!("{}-above", self.role.dir_name()),
            up => self.role.dir_name_above(up),
        }
    }

    /// Returns the path in an input root, such as `ws/src/lib.rs`. A tree cannot contain `..`, so each
    /// directory above a role's has a name of its own: `ws-up1/shared.txt`.
    pub fn in_input_root(&self) -> Vec<u8> {
        let mut path = self.top().into_bytes();
        if !self.rest.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&self.rest);
        }
        path
    }

    /// The reverse of [`RolePath::in_input_root`]; `None` if the path does not have that form.
    pub fn from_input_root(path: &[u8]) -> Option<RolePath> {
        let mut halves = path.splitn(2, |byte| *byte == b'/');
        let top = std::str::from_utf8(halves.next()?).ok()?;
        let rest = halves.next().unwrap_or_default();
        let (name, above) = top.split_once('-').unwrap_or((top, ""));
        let role = Role::from_dir_name(name)?;
        let path = match above {
            "" => RolePath::new(role, rest),
            "above" => RolePath::everywhere_above(role, rest),
            levels => RolePath::above(role, levels.strip_prefix("up")?.parse().ok()?, rest),
        }?;
        // Each path has exactly one name, so `ws-up01` and `ws-` are refused.
        (path.top() == top).then_some(path)
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
