//! Roots in texts: what the compiler said of this checkout, said of any.
//!
//! Pure. A root's path is replaced by a stand-in (`/kache/ws`) when something is stored and
//! put back when it is restored. It is only taken for the root's where a path begins and
//! where its last name ends, so that `/home/a/ws` is not found in `/home/a/ws2`.
//!
//! Invariant (KEY-17, RST-07): what is generalised here and localised there reads as if the
//! compiler had run there.

use std::os::unix::ffi::OsStrExt as _;

use memchr::memmem;

use crate::roles::{Role, Roots};

/// What every stand-in begins with.
const PREFIX: &[u8] = b"/kache/";

/// How a text writes paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// As they are.
    Plain,
    /// Within JSON's strings.
    Json,
}

/// What stands for a role's directory.
pub fn stand_in(role: Role) -> Vec<u8> {
    [PREFIX, role.dir_name().as_bytes()].concat()
}

/// Whether there is anything in a text that looks like a stand-in.
pub fn has_stand_in(text: &[u8]) -> bool {
    memmem::find(text, PREFIX).is_some()
}

/// Puts stand-ins in the place of roots.
pub fn generalise(roots: &Roots, notation: Notation, text: &[u8]) -> Vec<u8> {
    let pairs = pairs(roots, notation);
    let pairs: Vec<_> = pairs.iter().map(|(dir, stand_in)| (dir.as_slice(), stand_in.as_slice())).collect();
    replace(text, &pairs)
}

/// Puts roots in the place of stand-ins.
pub fn localise(roots: &Roots, notation: Notation, text: &[u8]) -> Vec<u8> {
    if !has_stand_in(text) {
        return text.to_vec();
    }
    let pairs = pairs(roots, notation);
    let pairs: Vec<_> = pairs.iter().map(|(dir, stand_in)| (stand_in.as_slice(), dir.as_slice())).collect();
    replace(text, &pairs)
}

/// Roots whose paths are in these bytes, wherever.
pub fn roots_in(roots: &Roots, bytes: &[u8]) -> Vec<Role> {
    let is_in = |dir: &[u8]| memmem::find(bytes, dir).is_some();
    roots.iter().filter(|root| is_in(root.dir.as_os_str().as_bytes())).map(|root| root.role).collect()
}

/// A path that begins with a root's, with the stand-in instead.
pub fn generalise_path(roots: &Roots, path: &[u8]) -> Vec<u8> {
    let within = roots.iter().find_map(|root| {
        let rest = path.strip_prefix(root.dir.as_os_str().as_bytes())?;
        (rest.is_empty() || rest[0] == b'/').then(|| [&stand_in(root.role), rest].concat())
    });
    within.unwrap_or_else(|| path.to_vec())
}

/// The reverse of [`generalise_path`]. `None` for a root that this call does not have.
pub fn localise_path(roots: &Roots, path: &[u8]) -> Option<Vec<u8>> {
    let Some(named) = path.strip_prefix(PREFIX) else { return Some(path.to_vec()) };
    let name_len = named.iter().position(|&byte| byte == b'/').unwrap_or(named.len());
    let role = Role::from_dir_name(std::str::from_utf8(&named[..name_len]).ok()?)?;
    let dir = roots.dir(role)?.as_os_str().as_bytes();
    Some([dir, &named[name_len..]].concat())
}

/// Each root's path and stand-in, deepest first.
fn pairs(roots: &Roots, notation: Notation) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |root: &crate::roles::Root| {
        let dir = root.dir.as_os_str().as_bytes();
        let dir = match notation {
            Notation::Plain => dir.to_vec(),
            Notation::Json => json_escaped(dir),
        };
        (dir, stand_in(root.role))
    };
    roots.iter().map(pair).collect()
}

/// A text as it stands between the quotes of JSON. What is not UTF-8 is written as
/// compilers write it: replaced.
pub fn json_escaped(bytes: &[u8]) -> Vec<u8> {
    let quoted = serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string();
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

/// Replaces in one pass, so that nothing is replaced twice. Where several begin at one place
/// the longest is meant.
fn replace(text: &[u8], pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (index, (from, _)) in pairs.iter().enumerate().filter(|(_, (from, _))| !from.is_empty()) {
        let ends = |at: &usize| is_whole(text, *at, *at + from.len());
        found.extend(memmem::find_iter(text, from).filter(ends).map(|at| (at, index)));
    }
    found.sort_by_key(|&(at, index)| (at, std::cmp::Reverse(pairs[index].0.len())));
    let mut replaced = Vec::with_capacity(text.len());
    let mut done = 0;
    for (at, index) in found {
        if at < done {
            continue;
        }
        replaced.extend_from_slice(&text[done..at]);
        replaced.extend_from_slice(pairs[index].1);
        done = at + pairs[index].0.len();
    }
    replaced.extend_from_slice(&text[done..]);
    replaced
}

/// Whether a path begins at `start`, and the name before `end` ends there.
fn is_whole(text: &[u8], start: usize, end: usize) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || *byte >= 0x80;
    let begins = start == 0 || !is_name(&text[start - 1]) && text[start - 1] != b'.';
    let ends = match text.get(end) {
        // The end of a sentence is no part of a name; `ws.old` is one.
        Some(b'.') => text.get(end + 1).is_none_or(|byte| !is_name(byte) && *byte != b'.'),
        Some(byte) => !is_name(byte),
        None => true,
    };
    begins && ends
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::roles::Root;

    fn roots(home: &str) -> Roots {
        let root = |role, dir: String| Root { role, dir: PathBuf::from(dir) };
        Roots::new([
            root(Role::Workspace, format!("{home}/ws")),
            root(Role::Target, format!("{home}/ws/target")),
            root(Role::Cargo, format!("{home}/.cargo")),
        ])
    }

    #[test]
    fn key_17_roots_are_replaced_where_they_are_meant() {
        for (text, expected) in [
            ("/home/a/ws/src/lib.rs:3", "/kache/ws/src/lib.rs:3"),
            ("in /home/a/ws.", "in /kache/ws."),
            ("`/home/a/ws/target/debug`", "`/kache/out/debug`"),
            ("-L dependency=/home/a/ws/target", "-L dependency=/kache/out"),
            ("file:///home/a/.cargo/registry", "file:///kache/cargo/registry"),
            (
                "/home/a/ws2 /home/a/ws.old /home/a/ws-x /home/a/ws_",
                "/home/a/ws2 /home/a/ws.old /home/a/ws-x /home/a/ws_",
            ),
            ("/mnt/home/a/ws", "/mnt/home/a/ws"),
            ("", ""),
        ] {
            let general = generalise(&roots("/home/a"), Notation::Plain, text.as_bytes());
            assert_eq!(String::from_utf8_lossy(&general), expected);
            assert_eq!(localise(&roots("/home/a"), Notation::Plain, &general), text.as_bytes());
        }
    }

    #[test]
    fn rst_07_json_has_its_own_way_to_write_a_path() {
        let (here, there) = (roots(r#"/home/"a"\b"#), roots("/home/ü"));
        let line = br#"{"rendered":"/home/\"a\"\\b/ws/x.rs"}"#;
        let general = generalise(&here, Notation::Json, line);
        assert_eq!(general, br#"{"rendered":"/kache/ws/x.rs"}"#);
        assert_eq!(localise(&here, Notation::Json, &general), line);
        assert_eq!(
            localise(&there, Notation::Json, &general),
            r#"{"rendered":"/home/ü/ws/x.rs"}"#.as_bytes()
        );
    }

    #[test]
    fn a_root_within_the_stand_ins_is_not_replaced_twice() {
        let root = |role, dir: &str| Root { role, dir: PathBuf::from(dir) };
        let roots = Roots::new([root(Role::Workspace, "/kache"), root(Role::Target, "/kache/t")]);
        assert_eq!(generalise(&roots, Notation::Plain, b"/kache/t/x /kache/y"), b"/kache/out/x /kache/ws/y");
        assert_eq!(localise(&roots, Notation::Plain, b"/kache/out/x /kache/ws/y"), b"/kache/t/x /kache/y");
    }

    #[test]
    fn paths_go_there_and_back() {
        for (path, general) in [
            ("/home/a/ws/a b", "/kache/ws/a b"),
            ("/home/a/ws", "/kache/ws"),
            ("/home/a/wsx", "/home/a/wsx"),
            ("src/lib.rs", "src/lib.rs"),
        ] {
            assert_eq!(generalise_path(&roots("/home/a"), path.as_bytes()), general.as_bytes());
            assert_eq!(localise_path(&roots("/home/a"), general.as_bytes()).unwrap(), path.as_bytes());
        }
        assert_eq!(localise_path(&roots("/h"), b"/kache/sysroot/lib"), None);
        assert_eq!(localise_path(&roots("/h"), b"/kache/other/lib"), None);
    }

    proptest! {
        #[test]
        fn what_is_generalised_is_localised_again(text in "([ a:/.w]|/home/a|/ws|/target|/.cargo|\\PC){0,12}") {
            let roots = roots("/home/a");
            let general = generalise(&roots, Notation::Plain, text.as_bytes());
            prop_assert_eq!(localise(&roots, Notation::Plain, &general), text.as_bytes());
        }
    }
}
