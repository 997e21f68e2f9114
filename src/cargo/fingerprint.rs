//! What cargo keeps of one unit that it built: from the files' bytes and back.
//!
//! Cargo writes a unit's fingerprint after its compile, empties it before the next one, and
//! notes when that began. A fingerprint is taken for that of a call only if the last compile
//! began before the call came and it was written after that. What compilers said of a unit is
//! kept in it too; such a unit has no fingerprint here, since cargo would say it again in
//! another checkout's words.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use thiserror::Error;

/// Where cargo keeps what it knows of units.
const FINGERPRINTS: &str = ".fingerprint";

/// Dated when a unit's compile begins.
const INVOKED: &str = "invoked.timestamp";

/// What is in that.
const INVOKED_TEXT: &[u8] = b"This file has an mtime of when this was started.";

/// How much older a file may look than it is: systems take its date from their last tick.
const TICK_MAX: Duration = Duration::from_millis(20);

/// A larger file is none of cargo's.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// The fingerprint itself, what it was made of, what was read.
const FILES: usize = 3;

/// Where a unit stands in a target directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CargoUnit {
    /// Its profile's directory, relative to the target directory.
    pub profile: PathBuf,
    /// `<package>-<hash>`
    pub name: String,
}

impl CargoUnit {
    /// The unit whose outputs lie in this directory, by cargo's own layout.
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

    /// The hash in its name.
    pub fn hash(&self) -> &str {
        hash_in(&self.name).unwrap_or_default()
    }

    /// The same, by the name of a file that it made: `lib<crate>-<hash>.rmeta`.
    pub fn hash_of(output: &Path) -> Option<String> {
        hash_in(output.file_stem()?.to_str()?).map(str::to_owned)
    }

    /// Where cargo keeps what it knows of this unit.
    pub fn directory(&self, target_dir: &Path) -> PathBuf {
        target_dir.join(&self.profile).join(FINGERPRINTS).join(&self.name)
    }
}

fn hash_in(name: &str) -> Option<&str> {
    name.rsplit_once('-').map(|(_, hash)| hash)
}

/// Files by name, the fingerprint itself last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Each with what is in it.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Why a unit has no fingerprint for a call.
#[derive(Debug, Error)]
pub enum FingerprintError {
    /// It is not there, or cannot be read.
    #[error("failed to read `{}`: {source}", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not look as cargo's do.
    #[error("`{}` is none of cargo's that could be laid down elsewhere", path.display())]
    Unknown {
        /// Which directory.
        path: PathBuf,
    },
    /// It belongs to another call.
    #[error("`{}` is of another compile", path.display())]
    Another {
        /// Which directory.
        path: PathBuf,
    },
}

impl Fingerprint {
    /// What cargo wrote for the call that came at this time.
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
        // Last: a compile that began while the files were read is seen.
        let invoked = dated(&directory.join(INVOKED))?;
        if invoked > called || written + TICK_MAX < called {
            return Err(FingerprintError::Another { path: directory });
        }
        Ok(Fingerprint { files })
    }

    /// Whether it names a path below one of these directories.
    pub fn names_any(&self, dirs: &[&Path]) -> bool {
        let names =
            |bytes: &[u8], dir: &Path| memchr::memmem::find(bytes, dir.as_os_str().as_bytes()).is_some();
        self.files.iter().any(|(_, bytes)| dirs.iter().any(|dir| names(bytes, dir)))
    }

    /// Fills a unit's directory as if cargo had just built the unit.
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
    fn what_is_laid_down_is_what_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let directory = unit().directory(dir.path());
        fs::create_dir_all(&directory).unwrap();
        fingerprint().write(&directory).unwrap();
        assert_eq!(Fingerprint::read(dir.path(), &unit(), SystemTime::now()).unwrap(), fingerprint());
        let directory = dir.path().join("debug/.fingerprint/memchr-0123456789abcdef");
        assert_eq!(fs::read(directory.join(INVOKED)).unwrap(), INVOKED_TEXT);
    }

    #[test]
    fn rst_01_one_of_another_compile_is_refused() {
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
    fn one_that_is_not_whole_or_says_something_is_refused() {
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
    fn a_checkouts_paths_are_seen() {
        let mut named = fingerprint();
        named.files[1].1 = b"\0/home/a/ws/gen.rs".to_vec();
        assert!(named.names_any(&[Path::new("/nowhere"), Path::new("/home/a/ws")]));
        assert!(!fingerprint().names_any(&[Path::new("/home/a/ws")]));
    }

    #[test]
    fn units_are_known_by_cargos_layout() {
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
