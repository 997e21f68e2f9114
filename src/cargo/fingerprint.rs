//! Cargo's fingerprint of a unit: the files in which cargo records that it built the unit.
//!
//! Cargo empties a fingerprint before a compile, sets the date of `invoked.timestamp`, and writes the
//! fingerprint after the compile. A fingerprint belongs to a call only if `invoked.timestamp` is older
//! than the call and the fingerprint is newer. If the compiler printed messages, cargo keeps them beside
//! the fingerprint to print them again. Such a fingerprint is not read, because the messages contain
//! paths of this checkout.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

/// The directory of the fingerprints in a profile's directory.
const FINGERPRINTS: &str = ".fingerprint";

/// The file whose date says when the last compile of a unit began.
const INVOKED: &str = "invoked.timestamp";

/// The content of `invoked.timestamp`.
const INVOKED_TEXT: &[u8] = b"This file has an mtime of when this was started.";

/// How much earlier than the clock a file's date may be: the system takes it from its last timer tick.
const TICK_MAX: Duration = Duration::from_millis(20);

/// A larger file is not taken for one of cargo's.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The number of files: the fingerprint's hash, the values that it was made from, and the dep-info.
const FILES: usize = 3;

/// The place of a unit in a target directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CargoUnit {
    /// The directory of the unit's profile, relative to the target directory.
    pub profile: PathBuf,
    /// The name of the unit, `<package>-<hash>`.
    pub name: String,
}

impl CargoUnit {
    /// Finds the unit with outputs in this directory; `None` if the directory is not as in cargo's
    /// layout.
    pub fn of(target_dir: &Path, out_dir: &Path, package: &str, extra_filename: &str) -> Option<CargoUnit> {
        let hash = extra_filename.strip_prefix('-').filter(|hash| !hash.is_empty())?;
        let name = format!("{package}-{hash}");
        let within = out_dir.strip_prefix(target_dir).ok()?;
        let above = within.parent()?;
        let profile = match within.file_name()?.as_bytes() {
            b"deps" => above,
            last if last == name.as_bytes() && above.ends_with("build") => above.parent()?,
            _ => return None,
        };
        (profile.components().count() > 0).then(|| CargoUnit { profile: profile.to_owned(), name })
    }

    /// The hash in the unit's name.
    pub fn hash(&self) -> &str {
        hash_in(&self.name).unwrap_or_default()
    }

    /// The hash in the name of an output, `lib<crate>-<hash>.rmeta`. It is the hash of the output's
    /// unit.
    pub fn hash_of(output: &Path) -> Option<String> {
        hash_in(output.file_stem()?.to_str()?).map(str::to_owned)
    }

    /// The directory of the unit's fingerprint.
    pub fn directory(&self, target_dir: &Path) -> PathBuf {
        target_dir.join(&self.profile).join(FINGERPRINTS).join(&self.name)
    }
}

fn hash_in(name: &str) -> Option<&str> {
    name.rsplit_once('-').map(|(_, hash)| hash)
}

/// The files of a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The name and the content of each file. The one with the hash comes last.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Why no fingerprint of a unit belongs to a call.
#[derive(Debug, Error)]
pub enum FingerprintError {
    /// A file does not exist or cannot be read.
    #[error("failed to read `{}`: {source}", path.display())]
    Io {
        /// The path of the file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The files are not those that cargo writes for a unit without messages.
    #[error("the fingerprint `{}` has an unknown form, or messages", path.display())]
    Unknown {
        /// The directory of the fingerprint.
        path: PathBuf,
    },
    /// The fingerprint belongs to another call.
    #[error("the fingerprint `{}` belongs to another compile", path.display())]
    Another {
        /// The directory of the fingerprint.
        path: PathBuf,
    },
}

impl Fingerprint {
    /// Reads the fingerprint that cargo wrote for a call which kache received at this time.
    pub fn read(
        target_dir: &Path,
        unit: &CargoUnit,
        called: SystemTime,
    ) -> Result<Fingerprint, FingerprintError> {
        let directory = unit.directory(target_dir);
        let at = |path: &Path| {
            let path = path.to_owned();
            |source| FingerprintError::Io { path, source }
        };
        let unknown = || FingerprintError::Unknown { path: directory.clone() };
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let name = entry.map_err(at(&directory))?.file_name().into_string().map_err(|_| unknown())?;
            if name != INVOKED {
                names.push(name);
            }
        }
        // The names are `<name>.json`, `dep-<name>` and `<name>`. The shortest is the file with the
        // hash, which comes last.
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let own = names.last().cloned().filter(|_| names.len() == FILES).ok_or_else(unknown)?;
        let parts = [own.clone(), format!("{own}.json"), format!("dep-{own}")];
        if !names.iter().all(|name| parts.contains(name)) {
            return Err(unknown());
        }
        let dated = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).map_err(at(path));
        let written = dated(&directory.join(&own))?;
        let mut files = Vec::with_capacity(FILES);
        for name in names {
            let path = directory.join(&name);
            let size = fs::metadata(&path).map_err(at(&path))?.len();
            if size > FILE_BYTES_MAX || size == 0 {
                return Err(unknown());
            }
            files.push((name, fs::read(&path).map_err(at(&path))?));
        }
        // This date is read last, so that a compile that began while the files were read is noticed.
        let invoked = dated(&directory.join(INVOKED))?;
        if invoked > called || written + TICK_MAX < called {
            return Err(FingerprintError::Another { path: directory });
        }
        Ok(Fingerprint { files })
    }

    /// Whether the fingerprint contains the path of one of these directories.
    pub fn names_any(&self, dirs: &[&Path]) -> bool {
        let names =
            |bytes: &[u8], dir: &Path| memchr::memmem::find(bytes, dir.as_os_str().as_bytes()).is_some();
        self.files.iter().any(|(_, bytes)| dirs.iter().any(|dir| names(bytes, dir)))
    }

    /// Writes the files into a directory, as if cargo had just built the unit.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let invoked = (INVOKED, INVOKED_TEXT);
        let files = self.files.iter().map(|(name, bytes)| (&**name, &**bytes));
        for (name, bytes) in std::iter::once(invoked).chain(files) {
            let mut file = fs::File::create(directory.join(name))?;
            io::Write::write_all(&mut file, bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> CargoUnit {
        CargoUnit { profile: PathBuf::from("debug"), name: "memchr-0123456789abcdef".to_owned() }
    }

    fn fingerprint() -> Fingerprint {
        let file = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
        let files = vec![
            file("lib-memchr.json", "{}"),
            file("dep-lib-memchr", "\0"),
            file("lib-memchr", "0123456789abcdef"),
        ];
        Fingerprint { files }
    }

    #[test]
    fn a_written_fingerprint_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let directory = unit().directory(dir.path());
        fs::create_dir_all(&directory).unwrap();
        fingerprint().write(&directory).unwrap();
        assert_eq!(Fingerprint::read(dir.path(), &unit(), SystemTime::now()).unwrap(), fingerprint());
        let directory = dir.path().join("debug/.fingerprint/memchr-0123456789abcdef");
        assert_eq!(fs::read(directory.join(INVOKED)).unwrap(), INVOKED_TEXT);
    }

    #[test]
    fn rst_01_a_fingerprint_of_another_compile_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let directory = unit().directory(dir.path());
        fs::create_dir_all(&directory).unwrap();
        fingerprint().write(&directory).unwrap();
        let minute = Duration::from_secs(60);
        for called in [SystemTime::now() - minute, SystemTime::now() + minute] {
            let found = Fingerprint::read(dir.path(), &unit(), called);
            assert!(matches!(found, Err(FingerprintError::Another { .. })), "{found:?}");
        }
    }

    #[test]
    fn a_fingerprint_that_is_incomplete_or_has_messages_is_refused() {
        let with = |name: &str, text: &str| {
            let dir = tempfile::tempdir().unwrap();
            let directory = unit().directory(dir.path());
            fs::create_dir_all(&directory).unwrap();
            fingerprint().write(&directory).unwrap();
            let file = dir.path().join("debug/.fingerprint/memchr-0123456789abcdef").join(name);
            let mut file = fs::File::create(file).unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            Fingerprint::read(dir.path(), &unit(), SystemTime::now())
        };
        for (name, text) in [("output-lib-memchr", "warning"), ("lib-memchr", ""), ("lib-other", "x")] {
            let found = with(name, text);
            assert!(matches!(found, Err(FingerprintError::Unknown { .. })), "{name}: {found:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let found = Fingerprint::read(dir.path(), &unit(), SystemTime::now());
        assert!(matches!(found, Err(FingerprintError::Io { .. })), "{found:?}");
    }

    #[test]
    fn a_path_of_the_checkout_is_noticed() {
        let mut named = fingerprint();
        named.files[1].1 = b"\0/home/a/ws/gen.rs".to_vec();
        assert!(named.names_any(&[Path::new("/nowhere"), Path::new("/home/a/ws")]));
        assert!(!fingerprint().names_any(&[Path::new("/home/a/ws")]));
    }

    #[test]
    fn a_unit_is_found_by_cargos_layout() {
        let unit = |out_dir: &str, extra: &str| CargoUnit::of("/t".as_ref(), out_dir.as_ref(), "a", extra);
        let expected = |profile: &str| Some(CargoUnit { profile: profile.into(), name: "a-1".to_owned() });
        for (out_dir, extra, expected) in [
            ("/t/debug/deps", "-1", expected("debug")),
            ("/t/x86_64-unknown-linux-gnu/release/deps", "-1", expected("x86_64-unknown-linux-gnu/release")),
            ("/t/debug/build/a-1", "-1", expected("debug")),
            ("/t/debug/build/a-2", "-1", None),
            ("/t/debug/build/a-1/out", "-1", None),
            ("/t/debug/deps", "", None),
            ("/t/debug/deps", "-", None),
            ("/t/deps", "-1", None),
            ("/elsewhere/debug/deps", "-1", None),
        ] {
            assert_eq!(unit(out_dir, extra), expected, "{out_dir}");
        }
    }
}
