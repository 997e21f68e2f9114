//! Reads libraries that refer to other files: linker scripts and thin archives.
//!
//! `libc.so` is often a linker script, a text that names other libraries, and any `lib….so` or `lib….a` may
//! be one. A thin archive holds only the paths of its members. If one of the other files changes, the library
//! itself does not, so the other files are inputs, too (KEY-14). This file only collects the names; the
//! caller decides where to look for them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::bytes::{ByteReader, ByteWriter};
use crate::invocation::{Bypass, Reason};

/// The largest linker script, in bytes.
const SCRIPT_BYTES_MAX: u64 = 1 << 20;

/// The largest thin archive, in bytes: it has a name for each member, and an index of all symbols.
const THIN_BYTES_MAX: u64 = 256 << 20;

/// The first bytes of a thin archive.
const THIN_MAGIC: &[u8] = b"!<thin>\n";

/// The first bytes of files that refer to no others: objects, archives, LLVM's bitcode.
const OTHER_MAGIC: &[&[u8]] = &[b"\x7fELF", b"!<arch>\n", b"BC\xc0\xde"];

/// A reference to another file in a linker script or a thin archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LibraryReference {
    /// `INCLUDE name`: another script.
    Included(PathBuf),
    /// A file, as in `GROUP ( /lib/libc.so.6 libm.a )`.
    File(PathBuf),
    /// `-lname`, without the `-l`. If the name begins with a colon, it is a file name.
    Library(String),
    /// A member of a thin archive, relative to the directory of the archive.
    Member(PathBuf),
}

/// Returns the references in a library. They are empty for an object, an ordinary archive and a shared
/// library.
pub(crate) fn references_of_library(path: &Path) -> Result<Vec<LibraryReference>, Bypass> {
    let failed = |error: std::io::Error| unknown(path, &error.to_string());
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    (&mut file).take(THIN_MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
    if OTHER_MAGIC.iter().any(|magic| start.starts_with(magic)) {
        return Ok(Vec::new());
    }
    let is_thin = start == THIN_MAGIC;
    let bytes_max = if is_thin { THIN_BYTES_MAX } else { SCRIPT_BYTES_MAX };
    let mut content = start;
    file.take(bytes_max).read_to_end(&mut content).map_err(failed)?;
    if !is_thin {
        // Linker scripts are short. A longer file has a format that kache does not know.
        let is_script = content.len() as u64 <= SCRIPT_BYTES_MAX;
        return Ok(if is_script { references_of_script(&content) } else { Vec::new() });
    }
    let members = members(&content).ok_or_else(|| unknown(path, "it is not a complete thin archive"))?;
    Ok(members.into_iter().map(LibraryReference::Member).collect())
}

/// Returns the references in a linker script. It does not parse the script, so a word of a comment may look
/// like a file; this does no harm, because no file has that name.
pub(crate) fn references_of_script(script: &[u8]) -> Vec<LibraryReference> {
    let is_between = |byte: &u8| {
        byte.is_ascii_whitespace() || matches!(byte, b'(' | b')' | b',' | b';' | b'"' | b'{' | b'}')
    };
    let mut words = script.split(is_between).filter(|word| !word.is_empty());
    let path = |word: &[u8]| PathBuf::from(OsStr::from_bytes(word));
    let mut named = Vec::new();
    while let Some(word) = words.next() {
        if word == b"INCLUDE" {
            named.extend(words.next().map(|name| LibraryReference::Included(path(name))));
        } else if let Some(name) = word.strip_prefix(b"-l") {
            named.push(LibraryReference::Library(String::from_utf8_lossy(name).into_owned()));
        } else if !word.starts_with(b"/*") && (word.starts_with(b"/") || word.contains(&b'.')) {
            named.push(LibraryReference::File(path(word)));
        }
    }
    named
}

/// Returns the file names that `-lname` may stand for, the preferred one first.
pub(crate) fn library_files(name: &str) -> Vec<String> {
    match name.strip_prefix(':') {
        Some(file) => vec![file.to_owned()],
        None => vec![format!("lib{name}.so"), format!("lib{name}.a")],
    }
}

/// Returns the paths of the members of a thin archive; `None` if the archive is damaged. Each member is only
/// a header of 60 bytes. The tables of symbols and of long names come first and are the only ones with
/// content.
fn members(archive: &[u8]) -> Option<Vec<PathBuf>> {
    const HEADER_LEN: usize = 60;
    let mut rest = archive.strip_prefix(THIN_MAGIC)?;
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
            // Each header begins at an even offset.
            rest = after.get(size % 2..).unwrap_or_default();
            continue;
        }
        let name = match name.strip_prefix(b"/") {
            Some(offset) => {
                // `/offset:position` is a member of another archive, whose name is at the offset.
                let digits = std::str::from_utf8(offset).ok()?.split(':').next()?;
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

impl LibraryReference {
    /// Encodes the reference for a cached answer.
    pub(crate) fn write(&self, writer: &mut ByteWriter) {
        match self {
            LibraryReference::Included(path) => writer.u32(0).path(path),
            LibraryReference::File(path) => writer.u32(1).path(path),
            LibraryReference::Library(name) => writer.u32(2).bytes(name),
            LibraryReference::Member(path) => writer.u32(3).path(path),
        };
    }

    /// Decodes a reference; `None` at the end of the bytes.
    pub(crate) fn read(reader: &mut ByteReader<'_>) -> Option<LibraryReference> {
        Some(match reader.u32()? {
            0 => LibraryReference::Included(reader.path()?),
            1 => LibraryReference::File(reader.path()?),
            2 => LibraryReference::Library(reader.text()?),
            _ => LibraryReference::Member(reader.path()?),
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
        let file = |path: &str| LibraryReference::File(path.into());
        assert_eq!(
            references_of_script(script),
            [
                file("it."),
                file("/lib/libc.so.6"),
                file("libm.a"),
                LibraryReference::Library("z".to_owned()),
                LibraryReference::Library(":exact.a".to_owned()),
                LibraryReference::Included("more.ld".into()),
            ]
        );
        let mut written = ByteWriter::default();
        let named = references_of_script(script);
        named.iter().for_each(|one| one.write(&mut written));
        let mut reader = ByteReader(&written.0);
        assert_eq!(std::iter::from_fn(|| LibraryReference::read(&mut reader)).collect::<Vec<_>>(), named);
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
        let named = references_of_library(&dir.path().join("libx.a")).unwrap();
        assert_eq!(named, objects.map(|object| LibraryReference::Member(object.into())));
        let whole = std::fs::read(dir.path().join("libx.a")).unwrap();
        std::fs::write(dir.path().join("libx.a"), &whole[..whole.len() - 1]).unwrap();
        assert!(references_of_library(&dir.path().join("libx.a")).is_err());
        run("ar", &[&["crs", "libfull.a"][..], &objects].concat());
        for no_script in ["libfull.a", "x.o"] {
            assert_eq!(references_of_library(&dir.path().join(no_script)).unwrap(), [], "{no_script}");
        }
    }
}
