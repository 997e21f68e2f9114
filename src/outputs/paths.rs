//! Makes whole paths portable, such as those of a dep-info. Paths inside of a text are the business of
//! [`Roots`].
//!
//! Pure. Only the beginning of a path is replaced, and the rest stays as it was written: `a//b` stays
//! `a//b`, so that a restored path is the one that the compiler would have written.

use std::os::unix::ffi::OsStrExt as _;

use crate::roles::{Role, Roots};

/// The beginning of every stand-in.
const START: &[u8] = b"/kache/";

/// Replaces a root at the beginning of a path by its stand-in. A path outside of all roots stays as it
/// is. `None` if the path begins with a stand-in already.
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

/// Replaces a stand-in at the beginning of a path by the root. `None` if the call has no such root.
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
    fn rst_06_a_path_survives_the_way_to_its_portable_form_and_back() {
        let root = |role, dir: &str| Root { role, dir: PathBuf::from(dir) };
        let roots =
            Roots::new([root(Role::Workspace, "/home/a/ws"), root(Role::Target, "/home/a/ws/target")]);
        for (path, portable) in [
            ("/home/a/ws/a b", "/kache/ws/a b"),
            ("/home/a/ws/target/../x//y", "/kache/out/../x//y"),
            ("/home/a/ws", "/kache/ws"),
            ("/home/a/wsx", "/home/a/wsx"),
            ("src/lib.rs", "src/lib.rs"),
        ] {
            assert_eq!(generalise_path(&roots, path.as_bytes()).unwrap(), portable.as_bytes());
            assert_eq!(localise_path(&roots, portable.as_bytes()).unwrap(), path.as_bytes());
        }
        assert_eq!(generalise_path(&roots, b"/kache/ws/x"), None, "it has a stand-in already");
        assert_eq!(localise_path(&roots, b"/kache/sysroot/lib"), None);
        assert_eq!(localise_path(&roots, b"/kache/other/lib"), None);
    }
}
