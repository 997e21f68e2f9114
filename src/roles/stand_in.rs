//! Stand-ins: what stored bytes say in place of a root's path, so that they hold for every
//! checkout.
//!
//! Pure. `/home/a/ws/src` is kept as `/kache/ws/src` and restored as `/home/b/ws/src`. Text
//! that holds something like a stand-in of its own has no such form, and what it belongs to
//! is not kept.

use std::os::unix::ffi::OsStrExt as _;

use memchr::memmem;

use super::path::Role;
use super::roots::{Root, Roots};

/// What every stand-in begins with.
const START: &[u8] = b"/kache/";

/// What kind of text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A value: of a variable, of an argument. Every occurrence of a root's path counts.
    Value,
    /// What a compiler says in words. A root's path counts where no longer path has it in its
    /// middle: `/src` does not occur in `library/core/src/lib.rs`.
    Text,
    /// The same, inside of JSON: paths are escaped.
    Json,
}

impl Role {
    /// What stands for this role's root in stored bytes.
    pub fn stand_in(self) -> Option<Vec<u8>> {
        (self != Role::Absolute).then(|| [START, self.dir_name().as_bytes()].concat())
    }
}

impl Roots {
    /// Text with stand-ins for roots; `None` if it already holds one. Remapped paths
    /// ([`Role::remapped_to`]) in a compiler's messages are stand-ins already; a value cannot
    /// have come by one honestly. A directory that is called `kache` is no stand-in.
    pub fn generalise(&self, bytes: &[u8], form: Form) -> Option<Vec<u8>> {
        let needles: Vec<(Vec<u8>, Vec<u8>)> = self.needles(form);
        let mut found = Vec::with_capacity(bytes.len());
        let mut done = 0;
        for slash in memchr::memchr_iter(b'/', bytes) {
            if slash < done || !may_start(bytes, slash, form) {
                continue;
            }
            let here = &bytes[slash..];
            let fits = |(path, _): &&(Vec<u8>, Vec<u8>)| here.starts_with(path) && ends(&here[path.len()..]);
            if let Some((path, stand_in)) = needles.iter().find(fits) {
                found.extend_from_slice(&bytes[done..slash]);
                found.extend_from_slice(stand_in);
                done = slash + path.len();
            } else if stand_in_at(bytes, slash, form).is_some() && (form == Form::Value || !is_remapped(here))
            {
                return None;
            }
        }
        found.extend_from_slice(&bytes[done..]);
        Some(found)
    }

    /// The reverse: text for this checkout; `None` if it names a root that this call has not.
    pub fn localise(&self, bytes: &[u8], form: Form) -> Option<Vec<u8>> {
        let mut found = Vec::with_capacity(bytes.len());
        let mut done = 0;
        for at in memmem::find_iter(bytes, START) {
            let Some((role, length)) = stand_in_at(bytes, at, form) else { continue };
            let dir = self.dir(role)?.as_os_str().as_bytes();
            found.extend_from_slice(&bytes[done..at]);
            found.extend_from_slice(&written(dir, form)?);
            done = at + length;
        }
        found.extend_from_slice(&bytes[done..]);
        Some(found)
    }

    /// Roots' paths as they are written in this form, deepest first, each with its stand-in.
    fn needles(&self, form: Form) -> Vec<(Vec<u8>, Vec<u8>)> {
        let needle = |root: &Root| {
            let path = written(root.dir.as_os_str().as_bytes(), form)?;
            (path != b"/").then_some((path, root.role.stand_in()?))
        };
        self.iter().filter_map(needle).collect()
    }
}

/// The stand-in that is here, and how long it is.
fn stand_in_at(bytes: &[u8], at: usize, form: Form) -> Option<(Role, usize)> {
    let name = bytes[at..].strip_prefix(START)?;
    let length = name.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(name.len());
    let role = std::str::from_utf8(&name[..length]).ok().and_then(Role::from_dir_name)?;
    let is_whole = role != Role::Absolute && ends(&name[length..]) && may_start(bytes, at, form);
    is_whole.then_some((role, START.len() + length))
}

/// Whether a compiler may have written this because paths are remapped.
fn is_remapped(bytes: &[u8]) -> bool {
    let name = &bytes[START.len()..];
    let rest = name.strip_prefix(b"cargo").or_else(|| {
        let rest = name.strip_prefix(b"base")?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        Some(&rest[digits..])
    });
    rest.is_some_and(ends)
}

/// A path as it is written in this form.
fn written(path: &[u8], form: Form) -> Option<Vec<u8>> {
    if form != Form::Json {
        return Some(path.to_vec());
    }
    let text = serde_json::to_string(std::str::from_utf8(path).ok()?).ok()?;
    Some(text.as_bytes()[1..text.len() - 1].to_vec())
}

/// Whether a name ends before these bytes. The end of a sentence is no part of a name; the
/// end of `ws.old` is one.
fn ends(after: &[u8]) -> bool {
    match after {
        [] | [b'.'] => true,
        [b'.', next, ..] => !continues_name(*next),
        [byte, ..] => !continues_name(*byte),
    }
}

fn continues_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || b"_-.+@~%".contains(&byte)
}

/// Whether a path may start at `at`: nothing before it belongs to the same path.
fn may_start(bytes: &[u8], at: usize, form: Form) -> bool {
    let before = &bytes[..at];
    match before.last() {
        None => true,
        _ if form == Form::Value => true,
        Some(byte) if !continues_name(*byte) && *byte != b'/' => true,
        Some(b'm') if ends_in_colour(before) => true,
        Some(b'n' | b'r' | b't') if form == Form::Json => {
            let slashes = before[..at - 1].iter().rev().take_while(|byte| **byte == b'\\').count();
            slashes % 2 == 1
        }
        _ => false,
    }
}

/// Whether this ends in what switches a terminal's colour: `ESC [ 1 ; 34 m`.
fn ends_in_colour(before: &[u8]) -> bool {
    let rest = &before[..before.len() - 1];
    let numbers = rest.iter().rev().take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
    let Some(rest) = rest[..rest.len() - numbers].strip_suffix(b"[") else { return false };
    rest.ends_with(b"\x1b") || rest.ends_with(b"\\u001b") || rest.ends_with(b"\\u001B")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn roots(home: &str) -> Roots {
        let root = |role, dir: String| Root { role, dir: PathBuf::from(dir) };
        Roots::new([
            root(Role::Workspace, format!("/{home}/ws")),
            root(Role::Target, format!("/{home}/ws/target")),
            root(Role::Cargo, format!("/{home}/.cargo")),
            root(Role::Sysroot, "/t".to_owned()),
        ])
    }

    fn generalised(text: &str, form: Form) -> Option<String> {
        roots("home/a").generalise(text.as_bytes(), form).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn rst_07_roots_get_stand_ins_where_a_path_begins() {
        for (text, expected) in [
            ("/home/a/ws/src/lib.rs:1", "/kache/ws/src/lib.rs:1"),
            ("in /home/a/ws: /home/a/ws/target/x", "in /kache/ws: /kache/out/x"),
            ("/home/a/ws2/x /home/a/ws.old", "/home/a/ws2/x /home/a/ws.old"),
            ("in /home/a/ws. In /home/a/.cargo.", "in /kache/ws. In /kache/cargo."),
            ("/mnt/home/a/ws", "/mnt/home/a/ws"),
            ("\x1b[0m\x1b[1;34m/home/a/ws/x", "\x1b[0m\x1b[1;34m/kache/ws/x"),
            ("x/t/y /t/y", "x/t/y /kache/sysroot/y"),
            ("/kache/cargo/registry/x", "/kache/cargo/registry/x"),
        ] {
            assert_eq!(generalised(text, Form::Text).as_deref(), Some(expected));
        }
        assert_eq!(
            generalised(r#"\u001b[0m/home/a/ws\n/home/a/ws""#, Form::Json).unwrap(),
            r#"\u001b[0m/kache/ws\n/kache/ws""#
        );
        assert_eq!(generalised("-L/home/a/ws/x:/t", Form::Value).unwrap(), "-L/kache/ws/x:/kache/sysroot");
    }

    #[test]
    fn rst_07_what_looks_like_a_stand_in_is_not_kept() {
        for (text, form) in
            [("/kache/ws/x", Form::Text), ("-L/kache/out", Form::Value), ("/kache/cargo", Form::Value)]
        {
            assert_eq!(generalised(text, form), None, "{text}");
        }
        assert_eq!(roots("b").localise(b"/kache/base3/x", Form::Text), None);
        assert_eq!(roots("b").localise(b"/kache/nothing", Form::Text).unwrap(), b"/kache/nothing");
    }

    #[test]
    fn key_17_a_directory_called_kache_is_no_stand_in() {
        for (text, expected) in [
            ("/home/a/ws/crates/kache/ws/lib.rs", "/kache/ws/crates/kache/ws/lib.rs"),
            ("crates/kache/src/lib.rs", "crates/kache/src/lib.rs"),
            ("/mnt/kache/demo", "/mnt/kache/demo"),
        ] {
            let kept = generalised(text, Form::Text).unwrap();
            assert_eq!(kept, expected);
            assert_eq!(
                roots("home/b").localise(kept.as_bytes(), Form::Text).unwrap(),
                text.replace("/a/", "/b/").as_bytes()
            );
        }
        // The checkout itself may be called so.
        let own = Root { role: Role::Workspace, dir: PathBuf::from("/home/kache/ws") };
        let own = Roots::new([own]);
        for form in [Form::Value, Form::Text] {
            let kept = own.generalise(b"/home/kache/ws/src", form).unwrap();
            assert_eq!(kept, b"/kache/ws/src");
            assert_eq!(own.localise(&kept, form).unwrap(), b"/home/kache/ws/src");
        }
    }

    #[test]
    fn rst_07_paths_are_escaped_inside_json() {
        let odd = roots("a\"b");
        let text = serde_json::to_string("see /a\"b/ws/x\nand /a\"b/.cargo").unwrap();
        let kept = odd.generalise(text.as_bytes(), Form::Json).unwrap();
        assert_eq!(kept, br#""see /kache/ws/x\nand /kache/cargo""#);
        assert_eq!(odd.localise(&kept, Form::Json).unwrap(), text.as_bytes());
    }

    proptest! {
        #[test]
        fn rst_07_what_is_generalised_is_found_again(
            parts in proptest::collection::vec(
                prop_oneof!["[ a-z/:.]{0,6}", Just("/kache/ws".to_owned()), Just("/home/a/ws".to_owned()), Just("/home/a/ws/target/x".to_owned()),
                    Just("/home/a/.cargo".to_owned()), Just("/t".to_owned())],
                0..8,
            ),
        ) {
            let text = parts.concat();
            for form in [Form::Value, Form::Text] {
                if let Some(kept) = roots("home/a").generalise(text.as_bytes(), form) {
                    prop_assert_eq!(roots("home/a").localise(&kept, form).unwrap(), text.as_bytes());
                }
            }
        }
    }
}
