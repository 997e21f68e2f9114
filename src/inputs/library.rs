//! What a library names that is none itself: a linker script, or a thin archive.
//!
//! `libc.so` is a text that leads to others, and so may be any `lib….so` or `lib….a`. A thin archive
//! holds the names of its members, which lie elsewhere. Both look the same when what they lead to
//! has changed, so that counts too (KEY-14). Names are only collected here; where a name is looked
//! for is the caller's matter.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::bytes::{Reader, Writer};
use crate::invocation::{Bypass, Reason};

/// How long a script may be.
const SCRIPT_BYTES_MAX: u64 = 1 << 20;

/// How long a thin archive may be: one name for each member, and an index of all symbols.
const THIN_BYTES_MAX: u64 = 256 << 20;

/// What begins a thin archive.
const THIN: &[u8] = b"!<thin>\n";

/// What begins the other files that are linked: objects, archives, LLVM's bitcode.
const NO_SCRIPTS: &[&[u8]] = &[b"\x7fELF", b"!<arch>\n", b"BC\xc0\xde"];

/// Another file, as a script or an archive names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// `INCLUDE name`
    Included(PathBuf),
    /// As in `GROUP ( /lib/libc.so.6 libm.a )`.
    File(PathBuf),
    /// `-lname`; a file's name follows a colon.
    Library(String),
    /// A member of a thin archive, which counts from the archive's directory.
    Member(PathBuf),
}

/// What the library in this file names.
pub(super) fn named_by_library(path: &Path) -> Result<Vec<Named>, Bypass> {
    let failed = |error: std::io::Error| unknown(path, &error.to_string());
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    (&mut file).take(THIN.len() as u64).read_to_end(&mut start).map_err(failed)?;
    if NO_SCRIPTS.iter().any(|magic| start.starts_with(magic)) {
        return Ok(Vec::new());
    }
    let is_thin = start == THIN;
    let bytes_max = if is_thin { THIN_BYTES_MAX } else { SCRIPT_BYTES_MAX };
    let mut content = start;
    file.take(bytes_max).read_to_end(&mut content).map_err(failed)?;
    if !is_thin {
        // Linker scripts are short. A longer file has a format that kache does not know.
        let is_script = content.len() as u64 <= SCRIPT_BYTES_MAX;
        return Ok(if is_script { named_by_script(&content) } else { Vec::new() });
    }
    let members = members(&content).ok_or_else(|| unknown(path, "it is no whole thin archive"))?;
    Ok(members.into_iter().map(Named::Member).collect())
}

/// What a script names. Words that only look like files, such as those of a comment, do no harm: no
/// file has these names.
pub(super) fn named_by_script(script: &[u8]) -> Vec<Named> {
    let is_between = |byte: &u8| {
        byte.is_ascii_whitespace() || matches!(byte, b'(' | b')' | b',' | b';' | b'"' | b'{' | b'}')
    };
    let mut words = script.split(is_between).filter(|word| !word.is_empty());
    let path = |word: &[u8]| PathBuf::from(OsStr::from_bytes(word));
    let mut named = Vec::new();
    while let Some(word) = words.next() {
        if word == b"INCLUDE" {
            named.extend(words.next().map(|name| Named::Included(path(name))));
        } else if let Some(name) = word.strip_prefix(b"-l") {
            named.push(Named::Library(String::from_utf8_lossy(name).into_owned()));
        } else if !word.starts_with(b"/*") && (word.starts_with(b"/") || word.contains(&b'.')) {
            named.push(Named::File(path(word)));
        }
    }
    named
}

/// The files that `-lname` may mean, the one that is taken before the other first.
pub(super) fn library_files(name: &str) -> Vec<String> {
    match name.strip_prefix(':') {
        Some(file) => vec![file.to_owned()],
        None => vec![format!("lib{name}.so"), format!("lib{name}.a")],
    }
}

/// The paths of a thin archive's members. Each has a header of sixty bytes; only the tables that come
/// first, of symbols and of long names, have bytes of their own.
fn members(archive: &[u8]) -> Option<Vec<PathBuf>> {
    const HEADER_LEN: usize = 60;
    let mut rest = archive.strip_prefix(THIN)?;
    let mut long_names: &[u8] = &[];
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (header, after) = rest.split_at_checked(HEADER_LEN)?;
        let name = header.get(..16)?.trim_ascii_end();
        let size: usize = std::str::from_utf8(header.get(48..58)?).ok()?.trim().parse().ok()?;
        rest = after;
        if matches!(name, b"/" | b"//" | b"/SYM64/") {
            let (table, after) = after.split_at_checked(size)?;
            if name == b"//" {
                long_names = table;
            }
            // Everything begins at an even place.
            rest = after.get(size % 2..).unwrap_or_default();
            continue;
        }
        let name = match name.strip_prefix(b"/") {
            Some(place) => {
                // What follows a colon is a place in an archive that this one names.
                let digits = std::str::from_utf8(place).ok()?.split(':').next()?;
                let from = long_names.get(digits.parse().ok()?..)?;
                let line = from.split(|byte| *byte == b'\n').next()?;
                line.strip_suffix(b"/").unwrap_or(line)
            }
            None => name.strip_suffix(b"/").unwrap_or(name),
        };
        members.push(PathBuf::from(OsStr::from_bytes(name)));
    }
    Some(members)
}

impl Named {
    /// For what is kept between two calls.
    pub(super) fn write(&self, writer: &mut Writer) {
        match self {
            Named::Included(path) => writer.u32(0).path(path),
            Named::File(path) => writer.u32(1).path(path),
            Named::Library(name) => writer.u32(2).bytes(name),
            Named::Member(path) => writer.u32(3).path(path),
        };
    }

    /// What was written; `None` at the end.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Named> {
        Some(match reader.u32()? {
            0 => Named::Included(reader.path()?),
            1 => Named::File(reader.path()?),
            2 => Named::Library(reader.text()?),
            _ => Named::Member(reader.path()?),
        })
    }
}

fn unknown(path: &Path, why: &str) -> Bypass {
    Bypass::new(Reason::UnknownLinkInput, format!("`{}`: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn key_14_a_script_names_files_and_libraries() {
        let script = b"/* GNU ld script\n   Use it. */\nOUTPUT_FORMAT(elf64-x86-64)\n\
            GROUP ( /lib/libc.so.6 libm.a AS_NEEDED ( -lz -l:exact.a ) ) INCLUDE more.ld";
        let file = |path: &str| Named::File(path.into());
        assert_eq!(
            named_by_script(script),
            [
                file("it."),
                file("/lib/libc.so.6"),
                file("libm.a"),
                Named::Library("z".to_owned()),
                Named::Library(":exact.a".to_owned()),
                Named::Included("more.ld".into()),
            ]
        );
        let mut written = Writer::default();
        let named = named_by_script(script);
        named.iter().for_each(|one| one.write(&mut written));
        let mut reader = Reader(&written.0);
        assert_eq!(std::iter::from_fn(|| Named::read(&mut reader)).collect::<Vec<_>>(), named);
    }

    #[test]
    fn key_14_a_thin_archive_names_its_members() {
        let dir = tempfile::tempdir().unwrap();
        let run = |program: &str, args: &[&str]| {
            assert!(Command::new(program).args(args).current_dir(dir.path()).status().unwrap().success());
        };
        std::fs::create_dir_all(dir.path().join("a directory/with a long name")).unwrap();
        std::fs::write(dir.path().join("x.c"), "int x(void) { return 1; }\n").unwrap();
        let objects = ["x.o", "a directory/y.o", "a directory/with a long name/and a longer one still.o"];
        for object in objects {
            run("cc", &["-c", "-o", object, "x.c"]);
        }
        run("ar", &[&["crsT", "libx.a"][..], &objects].concat());
        let named = named_by_library(&dir.path().join("libx.a")).unwrap();
        assert_eq!(named, objects.map(|object| Named::Member(object.into())));
        let whole = std::fs::read(dir.path().join("libx.a")).unwrap();
        std::fs::write(dir.path().join("libx.a"), &whole[..whole.len() - 1]).unwrap();
        assert!(named_by_library(&dir.path().join("libx.a")).is_err());
        run("ar", &[&["crs", "libfull.a"][..], &objects].concat());
        for no_script in ["libfull.a", "x.o"] {
            assert_eq!(named_by_library(&dir.path().join(no_script)).unwrap(), [], "{no_script}");
        }
    }
}
