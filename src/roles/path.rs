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

    /// The name of the directory in an input root that stands for the one `up` levels above this
    /// role's; the role's own for no level.
    pub fn dir_name_above(self, up: u8) -> String {
        match up {
            0 => self.dir_name(),
            up => format!("{}-up{up}", self.dir_name()),
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

/// The `up` of a path that stands for one place in every directory above its role's.
const EVERYWHERE: u8 = u8::MAX;

/// A path below a role's directory, or below a directory above that one. Private fields: `rest` is
/// relative, in lexical normal form (no empty, `.` or `..` component), and empty for the directory
/// itself. `up` counts the directories that lie between: 1 is the parent of the role's directory.
/// [`Role::Absolute`] has nothing above it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RolePath {
    role: Role,
    up: u8,
    rest: Vec<u8>,
}

impl RolePath {
    /// A path below the role's directory. `None` if `rest` is not in normal form.
    pub fn new(role: Role, rest: impl Into<Vec<u8>>) -> Option<RolePath> {
        RolePath::above(role, 0, rest)
    }

    /// A path below the directory that lies `up` levels above the role's. `None` if `rest` is not in
    /// normal form, if nothing lies above the role, or if there are more levels than can be kept.
    pub fn above(role: Role, up: u8, rest: impl Into<Vec<u8>>) -> Option<RolePath> {
        let rest = rest.into();
        let is_normal = rest.is_empty()
            || rest.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."));
        let has_levels = up == 0 || (role != Role::Absolute && up != EVERYWHERE);
        (is_normal && has_levels).then_some(RolePath { role, up, rest })
    }

    /// The same name in every directory above the role's, up to the root of the file system: the
    /// places that a search looks at which goes upwards and finds nothing. `None` if `rest` is empty
    /// or not in normal form, or if nothing lies above the role.
    pub fn everywhere_above(role: Role, rest: impl Into<Vec<u8>>) -> Option<RolePath> {
        let mut path = RolePath::above(role, 1, rest)?;
        path.up = EVERYWHERE;
        (!path.rest.is_empty()).then_some(path)
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// How many levels above the role's directory it begins; 0 for what lies below that directory.
    /// No number is right for [`RolePath::is_everywhere_above`].
    pub fn up(&self) -> u8 {
        self.up
    }

    /// Whether it stands for one place in every directory above the role's.
    pub fn is_everywhere_above(&self) -> bool {
        self.up == EVERYWHERE
    }

    /// Whether it lies below the directory of this role.
    pub fn is_below(&self, role: Role) -> bool {
        self.role == role && self.up == 0
    }

    /// What follows the role's directory; empty for the directory itself.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// The name of the directory that it begins with in an input root.
    fn top(&self) -> String {
        match self.up {
            EVERYWHERE => format!("{}-above", self.role.dir_name()),
            up => self.role.dir_name_above(up),
        }
    }

    /// Its place in an input root, such as `ws/src/lib.rs`. A tree cannot hold `..`, so each
    /// directory above a role's has a name of its own: `ws-up1/shared.txt`.
    pub fn in_input_root(&self) -> Vec<u8> {
        let mut path = self.top().into_bytes();
        if !self.rest.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&self.rest);
        }
        path
    }

    /// The reverse of [`RolePath::in_input_root`].
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
        // One place has one name: `ws-up01` and `ws-` are none.
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
