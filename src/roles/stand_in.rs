//! Stand-ins: stored bytes contain them instead of the paths of roots, so that they are right for every
//! checkout.
//!
//! Pure. `/home/a/ws/src` is stored as `/kache/ws/src` and restored as `/home/b/ws/src`. Text that already
//! contains a stand-in cannot be stored, because its restored form would differ from the original.

use std::os::unix::ffi::OsStrExt as _;

use memchr::memmem;

use super::path::Role;
use super::roots::{Root, Roots};

/// The beginning of every stand-in.
pub const STAND_IN_START: &str = "/kache/";

/// The kind of a text, which decides where in it a path may begin and how the path is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The value of a variable or of an argument. A path may begin anywhere in it (`-L/path`).
    Value,
    /// Text of a compiler. A path does not begin in the middle of a longer one: `/src` does not occur in
    /// `library/core/src/lib.rs`.
    Text,
    /// Text of a compiler inside JSON strings, where paths are escaped.
    Json,
}

impl Role {
    /// Returns the stand-in for the root of this role; `None` for [`Role::Absolute`].
    pub fn stand_in(self) -> Option<Vec<u8>> {
        (self != Role::Absolute).then(|| [STAND_IN_START.as_bytes(), self.dir_name().as_bytes()].concat())
    }
}

impl Roots {
    /// Replaces the paths of roots by stand-ins; `None` if the text already contains a stand-in. In text of a
    /// compiler, remapped paths ([`Role::remapped_to`]) are allowed: they look like stand-ins and are the
    /// same in every checkout. A value contains no remapped paths. A directory with the name `kache` is not a
    /// stand-in.
    pub fn generalise(&self, bytes: &[u8], form: Form) -> Option<Vec<u8>> {
        let needles: Vec<(Vec<u8>, Vec<u8>)> = self.needles(form);
        let mut general = Vec::with_capacity(bytes.len());
        let mut done = 0;
        // The needles are sorted by depth, so the deepest root that fits replaces the path.
        for slash in memchr::memchr_iter(b'/', bytes) {
            if slash < done || !may_start(bytes, slash, form) {
                continue;
            }
            let here = &bytes[slash..];
            let fits = |(path, _): &&(Vec<u8>, Vec<u8>)| here.starts_with(path) && ends(&here[path.len()..]);
            if let Some((path, stand_in)) = needles.iter().find(fits) {
                general.extend_from_slice(&bytes[done..slash]);
                general.extend_from_slice(stand_in);
                done = slash + path.len();
            } else if stand_in_at(bytes, slash, form).is_some() && (form == Form::Value || !is_remapped(here))
            {
                return None;
            }
        }
        general.extend_from_slice(&bytes[done..]);
        Some(general)
    }

    /// Replaces stand-ins by the paths of roots; `None` if the text names a root that this call does not
    /// have.
    pub fn localise(&self, bytes: &[u8], form: Form) -> Option<Vec<u8>> {
        let mut local = Vec::with_capacity(bytes.len());
        let mut done = 0;
        for at in memmem::find_iter(bytes, STAND_IN_START) {
            let Some((role, length)) = stand_in_at(bytes, at, form) else { continue };
            let dir = self.dir(role)?.as_os_str().as_bytes();
            local.extend_from_slice(&bytes[done..at]);
            local.extend_from_slice(&written(dir, form)?);
            done = at + length;
        }
        local.extend_from_slice(&bytes[done..]);
        Some(local)
    }

    /// Returns the path of each root in this form with its stand-in, the deepest root first.
    fn needles(&self, form: Form) -> Vec<(Vec<u8>, Vec<u8>)> {
        let needle = |root: &Root| {
            let path = written(root.dir.as_os_str().as_bytes(), form)?;
            (path != b"/").then_some((path, root.role.stand_in()?))
        };
        self.iter().filter_map(needle).collect()
    }
}

/// Returns the role of the stand-in at this position, and its length; `None` if there is no stand-in.
fn stand_in_at(bytes: &[u8], at: usize, form: Form) -> Option<(Role, usize)> {
    let name = bytes[at..].strip_prefix(STAND_IN_START.as_bytes())?;
    let length = name.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(name.len());
    let role = std::str::from_utf8(&name[..length]).ok().and_then(Role::from_dir_name)?;
    let is_whole = role != Role::Absolute && ends(&name[length..]) && may_start(bytes, at, form);
    is_whole.then_some((role, STAND_IN_START.len() + length))
}

/// Whether a compiler may have written this because of kache's remaps.
fn is_remapped(bytes: &[u8]) -> bool {
    let name = &bytes[STAND_IN_START.len()..];
    let rest = name.strip_prefix(b"cargo").or_else(|| {
        let rest = name.strip_prefix(b"base")?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        Some(&rest[digits..])
    });
    rest.is_some_and(ends)
}

/// Returns a path as this form writes it; `None` if JSON cannot contain it.
fn written(path: &[u8], form: Form) -> Option<Vec<u8>> {
    if form != Form::Json {
        return Some(path.to_vec());
    }
    let text = serde_json::to_string(std::str::from_utf8(path).ok()?).ok()?;
    Some(text.as_bytes()[1..text.len() - 1].to_vec())
}

/// Whether a name ends before these bytes. A full stop ends the name if it ends a sentence, but not in
/// `ws.old`.
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

/// Whether a path may begin at `at`, because the bytes before it do not belong to the same path. In JSON, an
/// `n`, `r` or `t` after an odd number of backslashes is part of an escape such as `\n`, and a path may begin
/// after it.
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

/// Whether this ends with an escape sequence for a colour of the terminal: `ESC [ 1 ; 34 m`.
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
    fn rst_07_stand_ins_replace_roots_where_a_path_begins() {
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
    fn rst_07_text_with_a_stand_in_is_refused() {
        for (text, form) in
            [("/kache/ws/x", Form::Text), ("-L/kache/out", Form::Value), ("/kache/cargo", Form::Value)]
        {
            assert_eq!(generalised(text, form), None, "{text}");
        }
        assert_eq!(roots("b").localise(b"/kache/base3/x", Form::Text), None);
        assert_eq!(roots("b").localise(b"/kache/nothing", Form::Text).unwrap(), b"/kache/nothing");
    }

    #[test]
    fn key_17_a_directory_named_kache_is_not_a_stand_in() {
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
        // The checkout itself may have such a path.
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
        fn rst_07_localise_is_the_reverse_of_generalise(
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
