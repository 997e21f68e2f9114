//! Paths as wholes: a dep-info's, as opposed to those that stand somewhere in a text.
//!
//! Pure. Only the beginning of a path is looked at, and it is kept as it was written: `a//b`
//! stays `a//b`, so that what is restored is what the compiler would have written.

use std::os::unix::ffi::OsStrExt as _;

use crate::roles::{Role, Roots};

/// What every stand-in begins with.
const START: &[u8] = b"/kache/";

/// A path that begins with a root's, with the stand-in instead. `None` for one that looks as
/// if it had one already.
pub fn generalise_path(roots: &Roots, path: &[u8]) -> Option<Vec<u8>> {
    let within = roots.iter().find_map(|root| {
        let rest = path.strip_prefix(root.dir.as_os_str().as_bytes())?;
        (rest.is_empty() || rest[0] == b'/').then_some((root.role.stand_in()?, rest))
    });
    match within {
        Some((stand_in, rest)) => Some([&stand_in, rest].concat()),
        None => (!path.starts_with(START)).then(|| path.to_vec()),
    }
}

/// The reverse. `None` for a root that this call does not have.
pub fn localise_path(roots: &Roots, path: &[u8]) -> Option<Vec<u8>> {
    let Some(named) = path.strip_prefix(START) else { return Some(path.to_vec()) };
    let name_len = named.iter().position(|&byte| byte == b'/').unwrap_or(named.len());
    let role = Role::from_dir_name(std::str::from_utf8(&named[..name_len]).ok()?)?;
    let dir = roots.dir(role)?.as_os_str().as_bytes();
    Some([dir, &named[name_len..]].concat())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::roles::Root;

    #[test]
    fn rst_06_paths_go_there_and_back() {
        let root = |role, dir: &str| Root { role, dir: PathBuf::from(dir) };
        let roots =
            Roots::new([root(Role::Workspace, "/home/a/ws"), root(Role::Target, "/home/a/ws/target")]);
        for (path, general) in [
            ("/home/a/ws/a b", "/kache/ws/a b"),
            ("/home/a/ws/target/../x//y", "/kache/out/../x//y"),
            ("/home/a/ws", "/kache/ws"),
            ("/home/a/wsx", "/home/a/wsx"),
            ("src/lib.rs", "src/lib.rs"),
        ] {
            assert_eq!(generalise_path(&roots, path.as_bytes()).unwrap(), general.as_bytes());
            assert_eq!(localise_path(&roots, general.as_bytes()).unwrap(), path.as_bytes());
        }
        assert_eq!(generalise_path(&roots, b"/kache/ws/x"), None, "somebody else wrote this");
        assert_eq!(localise_path(&roots, b"/kache/sysroot/lib"), None);
        assert_eq!(localise_path(&roots, b"/kache/other/lib"), None);
    }
}
